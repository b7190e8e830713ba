"""What the network is told and what it answers: inputs, prediction kinds and the one conversion.

A prediction kind is one row (a, b), a function of (schedule, t): the network estimates

    out = a x0 + b eps                                                                                (1)

With x_t = alpha x0 + sigma eps and det = alpha b - sigma a one inverse serves every kind:

    x0 = (b x_t - sigma out) / det,     eps = (alpha out - a x_t) / det                               (2)
    |out - out'|^2 = (det / sigma)^2 |x0 - x0'|^2                                                     (3)

The network's other inputs, its time and the scale of x_t, are explicit choices as well.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.gaussian import expand, lost_snr
from diffjax.ranges import Positive, checked
from diffjax.schedules import Schedule
from diffjax.types import Batch, Times, Unsuitable

Row = Callable[[Schedule, Times], tuple[Times, Times]]
Network = Callable[..., Batch]  # (scaled x_t [B, ...], time [B], dropout keys [B] or None) -> output [B, ...]


def eps(schedule: Schedule, t: Times):
  """The noise (Ho et al. 2020)."""
  return jnp.zeros_like(t), jnp.ones_like(t)


def x0(schedule: Schedule, t: Times):
  """The data; the network's output is returned as it is."""
  return jnp.ones_like(t), jnp.zeros_like(t)


def v(schedule: Schedule, t: Times):
  """v = alpha eps - sigma x0 (Salimans & Ho 2022, section 4)."""
  alpha, sigma = schedule.alpha_sigma(t)
  return -sigma, alpha


def score(schedule: Schedule, t: Times):
  """The score of q(x_t | x0), -eps / sigma (Song et al. 2021, eq. 7)."""
  return jnp.zeros_like(t), -1 / schedule.alpha_sigma(t)[1]


def flow(schedule: Schedule, t: Times):
  """The velocity dx_t / dt (Lipman et al. 2023, eq. 9); continuous schedules only."""
  if schedule.steps is not None:
    raise Unsuitable(
      "predict",
      "which is a derivative in time, but the schedule is a table; choose 'v' or a continuous schedule",
    )
  return schedule.derivatives(t)


def edm(schedule: Schedule, t: Times, sigma_data: Positive = 0.5):
  """EDM's effective training target (Karras et al. 2022, table 1 and eq. 8), for any alpha."""
  alpha, sigma = schedule.alpha_sigma(t)
  q = jnp.sqrt(sigma**2 + (sigma_data * alpha) ** 2)
  return sigma / (sigma_data * q), -sigma_data * alpha / q


def posterior(schedule: Schedule, t: Times):
  """The mean of q(x_s | x_t, x0), s one row earlier (Ho et al. 2020, eq. 8); x0 in row 0. Tables only."""
  if schedule.steps is None:
    raise Unsuitable(
      "predict",
      "which is the mean of one step of a table, but the schedule is continuous; choose 'x0' or a schedule with steps",
    )
  s = jnp.asarray(t) - 1 / schedule.steps
  (alpha_s, sigma_s), (alpha_t, sigma_t) = schedule.alpha_sigma(s), schedule.alpha_sigma(t)
  of_xt = (alpha_t / alpha_s) * (sigma_s / sigma_t) ** 2
  of_x0 = alpha_s * lost_snr(schedule, s, t)
  first = s < 0.5 / schedule.steps
  return jnp.where(first, 1, of_x0 + of_xt * alpha_t), jnp.where(first, 0, of_xt * sigma_t)


ROWS: dict[str, Callable] = checked(
  {
    "eps": eps,
    "x0": x0,
    "v": v,
    "score": score,
    "flow": flow,
    "edm": edm,
    "posterior": posterior,
  }
)


def target(row: Row, schedule: Schedule, x0: Batch, eps: Batch, t: Times) -> Batch:
  """What the network should answer, equation (1)."""
  a, b = row(schedule, t)
  return expand(a, x0) * x0 + expand(b, x0) * eps


def to_x0_eps(row: Row, schedule: Schedule, xt: Batch, out: Batch, t: Times) -> tuple[Batch, Batch]:
  """The data and the noise that an answer implies, equation (2)."""
  alpha, sigma = schedule.alpha_sigma(t)
  a, b = row(schedule, t)
  det = alpha * b - sigma * a
  x0 = expand(b / det, xt) * xt - expand(sigma / det, xt) * out
  eps = expand(alpha / det, xt) * out - expand(a / det, xt) * xt
  return x0, eps


def error_scale(row: Row, schedule: Schedule, t: Times) -> Times:
  """(det / sigma)^2 of equation (3): squared error in this kind per squared error in x0."""
  alpha, sigma = schedule.alpha_sigma(t)
  a, b = row(schedule, t)
  return (alpha * b / sigma - a) ** 2


def _index(schedule: Schedule, t: Times) -> Times:
  if schedule.steps is None:
    raise Unsuitable(
      "time_input",
      "which is the row of a table, but the schedule is continuous; choose 't', 'logsnr' or 'log_sigma'",
    )
  position = t * schedule.steps - 1
  nearest = jnp.round(position)
  return jnp.where(jnp.abs(position - nearest) < 1e-3, nearest, position)


TIME_INPUTS: dict[str, Callable[[Schedule, Times], Times]] = {
  "index": _index,  # DDPM's integer row, fractional between rows; tables only
  "t": lambda schedule, t: t,
  "logsnr": lambda schedule, t: schedule.logsnr(t),
  "log_sigma": lambda schedule, t: -schedule.logsnr(t) / 8,  # EDM's ln(sigma / alpha) / 4
}


def _unit(schedule: Schedule, t: Times, sigma_data: Positive = 0.5) -> Times:
  alpha, sigma = schedule.alpha_sigma(t)
  return 1 / jnp.sqrt(sigma**2 + (sigma_data * alpha) ** 2)


INPUT_SCALES: dict[str, Callable] = checked(
  {
    "none": lambda schedule, t: jnp.ones_like(t),
    "unit": _unit,  # EDM's c_in: variance 1 for data of standard deviation sigma_data
  }
)


@dataclasses.dataclass(frozen=True)
class Prediction:
  """What a network is told of x_t, and what it answers.

  Attributes:
    row: one of ROWS; None where the answer is no mix of x0 and eps, a classifier's.
    input_scale: one of INPUT_SCALES.
    time_input: one of TIME_INPUTS.
  """

  row: Row | None
  input_scale: Callable
  time_input: Callable

  def inputs(self, schedule: Schedule, xt: Batch, t: Times) -> tuple[Batch, Times]:
    """The scaled x_t [B, ...] and the time [B] that a network is called with."""
    t = jnp.broadcast_to(jnp.asarray(t, xt.dtype), xt.shape[:1])
    return expand(self.input_scale(schedule, t), xt) * xt, self.time_input(schedule, t)

  def target(self, schedule: Schedule, x0: Batch, eps: Batch, t: Times) -> Batch:
    """What the network should answer, equation (1)."""
    return target(self.row, schedule, x0, eps, t)

  def x0(self, schedule: Schedule, xt: Batch, out: Batch, t: Times) -> Batch:
    """The data that an answer implies, equation (2)."""
    return to_x0_eps(self.row, schedule, xt, out, t)[0]

  def eps(self, schedule: Schedule, xt: Batch, out: Batch, t: Times) -> Batch:
    """The noise that an answer implies, equation (2)."""
    return to_x0_eps(self.row, schedule, xt, out, t)[1]


@functools.partial(jax.jit, static_argnums=0)
def _at_the_end(prediction: Prediction, schedule: Schedule) -> tuple[Times, Times]:
  """alpha b - sigma a of equation (2), and the network's time, at t = 1."""
  t = jnp.ones(())
  (alpha, sigma), (a, b) = schedule.alpha_sigma(t), prediction.row(schedule, t)
  return alpha * b - sigma * a, prediction.time_input(schedule, t)


def check(schedule: Schedule, prediction: Prediction) -> None:
  """Raises Unsuitable if an answer at t = 1 does not determine the data, or the time there is no number."""
  signal, time = map(float, _at_the_end(prediction, schedule))
  if signal == 0:
    raise Unsuitable(
      "predict",
      "which does not determine the data at t = 1, where the schedule has no signal left (alpha = 0); choose 'v', "
      "'x0', 'flow' or 'edm'",
    )
  if not np.isfinite(time):
    row = "" if schedule.steps is None else " or 'index'"
    raise Unsuitable(
      "time_input", f"which is infinite at t = 1, where the schedule has no signal left; choose 't'{row}"
    )
