"""DDPM on the digits: linear table, eps, ancestral sampling (Ho et al. 2020).

    python main.py --config=configs/digits_ddpm.py --workdir=runs/digits_ddpm

Expected (one seed): Fréchet distance 6.1 (training digits 1.7), 96 % read as the class asked for (held out 99 %).
Cost: about that of digits.py.
"""

from configs import digits


def get_config():
  """What differs from digits.py."""
  c = digits.get_config()
  c.schedule.name = "linear"
  c.objective.predict = "eps"
  c.sample.sampler = "ancestral"
  c.sample.grid = "leading"
  c.sample.steps = 50
  return c
