"""The VP-SDE's probability-flow ODE on the digits, by an adaptive solver (Song et al. 2021, section 4.3).

    python main.py --config=configs/digits_vp_ode.py --workdir=runs/digits_vp_ode

Expected: not measured yet. Cost: about that of digits.py.
"""

from configs import digits_vp_sde


def get_config():
  """What differs from digits_vp_sde.py."""
  c = digits_vp_sde.get_config()
  c.sample.sampler = "adaptive_ode"
  c.sample.steps = 2
  c.sample.clip = False
  return c
