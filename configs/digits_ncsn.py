"""NCSN on the digits: geometric noise levels, annealed Langevin dynamics (Song & Ermon 2019, 2020).

    python main.py --config=configs/digits_ncsn.py --workdir=runs/digits_ncsn

Expected (one seed): Fréchet distance 10.0 (training digits 1.7), 89 % read as the class asked for (held out 99 %).
Cost: about that of digits.py.
"""

from configs import digits


def get_config():
  """What differs from digits.py."""
  c = digits.get_config()
  c.schedule.name = "geometric"
  c.schedule.geometric.sigma_max = 8.0
  c.schedule.geometric.sigma_min = 0.02
  c.schedule.geometric.steps = 40
  c.objective.predict = "score"
  c.objective.weight = "snr"
  c.objective.input_scale = "unit"
  c.objective.time_input = "log_sigma"
  c.model.unet.time_scale = 250.0
  c.sample.sampler = "annealed_langevin"
  c.sample.annealed_langevin.corrections = 5
  c.sample.annealed_langevin.step_size = 0.3
  c.sample.grid = "leading"
  c.sample.steps = 40
  c.sample.guides = ("clip",)  # x0 to the pixels' range, not the papers' own; the figures above were made so
  return c
