"""DDPM on the digits: linear table, eps, ancestral sampling (Ho et al. 2020).

    python main.py --config=configs/digits_ddpm.py --workdir=runs/digits_ddpm

Expected: not measured yet. Cost: about that of digits.py.
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
