"""Weights of the noise levels, stated for |x0 - x0_hat|^2 whatever the network predicts.

With SNR = exp(logsnr), det as in predictions.py, and L(t) = -SNR'(t) / 2 in continuous time or
(SNR(s) - SNR(t)) / 2 with s one row earlier on a table (Kingma et al. 2021, eq. 13 and 15), whose log-SNR goes
on before row 0 as it comes from row 1:

    simple        (det / sigma)^2, so that the loss is the plain squared error of the kind            (1)
    snr           SNR: the squared error in eps, Ho et al. 2020's L_simple and NCSN's sigma^2         (2)
    min_snr       min(SNR, gamma)                                      Hang et al. 2023, eq. 11       (3)
    soft_min_snr  SNR gamma / (SNR + gamma)                            Crowson et al. 2024, eq. 12    (4)
    p2            SNR / (k + SNR)^gamma                                Choi et al. 2022, eq. 8        (5)
    edm           SNR + 1 / sigma_data^2                               Karras et al. 2022, table 1    (6)
    sigmoid       S(bias - logsnr) L, S the logistic function          Kingma & Gao 2023, section 4   (7)
    vlb           L, with the decoder's term in row 0 of a table       Kingma et al. 2021             (8)
    likelihood    L alone: g^2 |score error|^2 / 2                     Song et al. 2021b, eq. 7       (9)

Those with L are divided by the density of t: their mean over t is an integral over log-SNR, or a sum of rows,
however t is drawn. EDM's lambda(sigma) is (6) in r = sigma / alpha: (r^2 + sigma_data^2) / (r sigma_data)^2.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from diffjax.predictions import Row, error_scale
from diffjax.ranges import NotNegative, Positive, checked
from diffjax.schedules import Schedule
from diffjax.types import Times


@dataclasses.dataclass(frozen=True)
class Weight:
  """A weight on |x0 - x0_hat|^2.

  Attributes:
    of: (schedule, t, row) -> w.
    importance: divide by the density of t, so that the mean over t is a sum or an integral.
    decoder: on a table, replace row 0 by the decoder's term.
  """

  of: Callable[[Schedule, Times, Row], Times]
  importance: bool = False
  decoder: bool = False


def _snr(schedule: Schedule, t: Times) -> Times:
  return jnp.exp(schedule.logsnr(t))


def at_row_0(schedule: Schedule, t: Times) -> Array:
  """Whether t is the first row of a table."""
  return jnp.less(t, 1.5 / schedule.steps)


def lost(schedule: Schedule, t: Times) -> Times:
  """L(t) of the module's docstring: half the SNR lost, per unit of time or in the row."""
  logsnr = schedule.logsnr(t)
  if schedule.steps is None:
    return -0.5 * schedule.slope(t) * jnp.exp(logsnr)
  row = 1 / schedule.steps
  earlier = jnp.where(at_row_0(schedule, t), 2 * logsnr - schedule.logsnr(t + row), schedule.logsnr(t - row))
  return -0.5 * jnp.exp(earlier) * jnp.expm1(logsnr - earlier)


def simple() -> Weight:
  """Equation (1)."""
  return Weight(lambda schedule, t, row: error_scale(row, schedule, t))


def snr() -> Weight:
  """Equation (2)."""
  return Weight(lambda schedule, t, row: _snr(schedule, t))


def min_snr(gamma: Positive = 5.0) -> Weight:
  """Equation (3)."""
  return Weight(lambda schedule, t, row: jnp.minimum(_snr(schedule, t), gamma))


def soft_min_snr(gamma: Positive = 4.0) -> Weight:
  """Equation (4); 4 is 1 / sigma_data^2 for EDM's 0.5."""
  return Weight(lambda schedule, t, row: gamma * jax.nn.sigmoid(schedule.logsnr(t) - jnp.log(gamma)))


def p2(gamma: NotNegative = 1.0, k: Positive = 1.0) -> Weight:
  """Equation (5)."""
  return Weight(lambda schedule, t, row: _snr(schedule, t) / (k + _snr(schedule, t)) ** gamma)


def edm(sigma_data: Positive = 0.5) -> Weight:
  """Equation (6)."""
  return Weight(lambda schedule, t, row: _snr(schedule, t) + 1 / sigma_data**2)


def sigmoid(bias: float = 2.0) -> Weight:
  """Equation (7)."""

  def of(schedule, t, row):
    return jax.nn.sigmoid(bias - schedule.logsnr(t)) * lost(schedule, t)

  return Weight(of, importance=True)


def vlb() -> Weight:
  """Equation (8)."""
  return Weight(lambda schedule, t, row: lost(schedule, t), importance=True, decoder=True)


def likelihood() -> Weight:
  """Equation (9)."""
  return Weight(lambda schedule, t, row: lost(schedule, t), importance=True)


WEIGHTS: dict[str, Callable[..., Weight]] = checked(
  {
    "simple": simple,
    "snr": snr,
    "min_snr": min_snr,
    "soft_min_snr": soft_min_snr,
    "p2": p2,
    "edm": edm,
    "sigmoid": sigmoid,
    "vlb": vlb,
    "likelihood": likelihood,
  }
)
