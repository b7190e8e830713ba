"""What the exponential integrators share: the half log-SNR and the phi functions.

lambda = logsnr / 2 = log(alpha / sigma)                                                          (1)
phi_1(h) = (e^h - 1) / h,   phi_{k+1}(h) = (phi_k(h) - 1 / k!) / h                                (2)
"""

import math

import jax.numpy as jnp

from diffjax.schedules import Schedule
from diffjax.types import Times


def half_logsnr(schedule: Schedule, t: Times) -> Times:
  """lambda(t), equation (1)."""
  return schedule.logsnr(t) / 2


def phi(k: int, h: Times) -> Times:
  """phi_k(h), equation (2), by its Taylor series near 0."""
  near = jnp.abs(h) < 0.5
  small, large = jnp.where(near, h, 0), jnp.where(near, 1, h)
  series = 1.0 / math.factorial(k + 13)
  for j in reversed(range(13)):
    series = series * small + 1.0 / math.factorial(k + j)
  value = jnp.expm1(large) / large
  for j in range(1, k):
    value = (value - 1.0 / math.factorial(j)) / large
  return jnp.where(near, series, value)
