"""Objectives: functions (apply, schedule, x0, cond, keys) -> loss per example, never a mean over examples.

The regular objective is a triple, how t is drawn x a weight x a prediction kind:

    L(x0) = w(t) / n |x0 - x0_hat|^2 = w(t) (sigma / det)^2 / n |target - out|^2                      (1)

in nats per dimension for the likelihood weights (n dimensions; det as in predictions.py). It is computed
in the network's own kind. Weights, stated for |x0 - x0_hat|^2:

    simple     (det / sigma)^2, so that the loss is the plain squared error of the kind
    snr        SNR(t); Ho et al. 2020's L_simple whatever the kind
    min_snr    min(SNR(t), gamma); Hang et al. 2023, eq. 11
    vlb        (SNR(s) - SNR(t)) / 2 with s one row earlier, or -SNR'(t) / 2 in continuous time;
               Kingma et al. 2021, eq. 13 and 15; divided by the density of t                         (2)

On a table `vlb` replaces row 0 by the decoder's term L_0 = -log p(x0 | x_1), a discretised Gaussian whose
variance is clipped to row 1's (Nichol & Dhariwal 2021), so that its mean over t is the variational bound
without L_T.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from diffjax import keys
from diffjax.gaussian import diffuse, discretized_nll, mean_dims, posterior_variance
from diffjax.predictions import Row, error_scale, network_inputs, target, to_x0_eps
from diffjax.schedules import Schedule
from diffjax.types import Batch, PerExample, Times

Apply = Callable[..., Batch]  # (scaled x_t [B, ...], time [B], cond, dropout keys [B]) -> output [B, ...]
Objective = Callable[[Apply, Schedule, Batch, Array | None, keys.Draws], PerExample]


def _spread(schedule: Schedule, u: PerExample) -> tuple[PerExample, PerExample]:
  """Maps uniform numbers to [t_min, 1]."""
  length = 1 - schedule.t_min
  return schedule.t_min + length * u, jnp.full_like(u, 1 / length)


def _rows(schedule: Schedule, u: PerExample) -> tuple[PerExample, PerExample]:
  """Maps uniform numbers to the rows of a table."""
  row = jnp.minimum(jnp.floor(u * schedule.steps), schedule.steps - 1)
  return (row + 1) / schedule.steps, jnp.full_like(u, 1 / schedule.steps)


def uniform(schedule: Schedule, draws: keys.Draws) -> tuple[PerExample, PerExample]:
  """t uniform on [t_min, 1]; returns (t, density), both [B]."""
  return _spread(schedule, keys.uniform(draws.keys("t")))


def discrete(schedule: Schedule, draws: keys.Draws) -> tuple[PerExample, PerExample]:
  """A row of the table, uniformly; the density is its probability."""
  return _rows(schedule, keys.uniform(draws.keys("t")))


def stratified(schedule: Schedule, draws: keys.Draws) -> tuple[PerExample, PerExample]:
  """One uniform offset a step and an even spread over the global batch (Kingma et al. 2021, I.1).

  Rows on a table, [t_min, 1] on a continuous schedule. Of all the draws this one alone depends on the
  batch size, by its nature.
  """
  u = jax.random.uniform(draws.shared("t"))
  u = (u + draws.index / draws.size) % 1
  return _spread(schedule, u) if schedule.steps is None else _rows(schedule, u)


TIMES: dict[str, Callable[[Schedule, keys.Draws], tuple[PerExample, PerExample]]] = {
  "uniform": uniform,
  "discrete": discrete,
  "stratified": stratified,
}


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


def simple() -> Weight:
  """The plain squared error of the kind that is predicted."""
  return Weight(lambda schedule, t, row: error_scale(row, schedule, t))


def snr() -> Weight:
  """The squared error in eps, whatever is predicted."""
  return Weight(lambda schedule, t, row: jnp.exp(schedule.logsnr(t)))


def min_snr(gamma: float = 5.0) -> Weight:
  """The same, cut at gamma near the data."""
  return Weight(lambda schedule, t, row: jnp.minimum(jnp.exp(schedule.logsnr(t)), gamma))


def vlb() -> Weight:
  """The variational bound, equation (2)."""

  def of(schedule, t, row):
    if schedule.steps is None:
      logsnr, slope = jax.jvp(schedule.logsnr, (t,), (jnp.ones_like(t),))
      return -0.5 * slope * jnp.exp(logsnr)
    logsnr, earlier = schedule.logsnr(t), schedule.logsnr(t - 1 / schedule.steps)
    return -0.5 * jnp.exp(earlier) * jnp.expm1(logsnr - earlier)

  return Weight(of, importance=True, decoder=True)


WEIGHTS: dict[str, Callable[..., Weight]] = {
  "simple": simple,
  "snr": snr,
  "min_snr": min_snr,
  "vlb": vlb,
}


def decoder_nll(schedule: Schedule, x0: Batch, mean: Batch) -> PerExample:
  """L_0 of a table in nats per dimension: the pixels under N(mean, var), var clipped to row 1's."""
  first, second = 1 / schedule.steps, 2 / schedule.steps
  std = jnp.sqrt(posterior_variance(schedule, first, second))
  return mean_dims(discretized_nll(x0, mean, std))


def regular(
  times: Callable[[Schedule, keys.Draws], tuple[PerExample, PerExample]],
  weight: Weight,
  row: Row,
  input_scale: Callable,
  time_input: Callable,
) -> Objective:
  """The triple of equation (1).

  Args:
    times: how t is drawn, one of TIMES.
    weight: one of WEIGHTS, made.
    row: the prediction kind, one of predictions.ROWS.
    input_scale: one of predictions.INPUT_SCALES.
    time_input: one of predictions.TIME_INPUTS.
  """

  def objective(apply, schedule, x0, cond, draws):
    t, density = times(schedule, draws)
    eps = keys.normal(draws.keys("eps"), x0.shape[1:])
    xt = diffuse(schedule, x0, eps, t)
    inputs = network_inputs(schedule, xt, t, input_scale, time_input)
    out = apply(*inputs, cond, draws.keys("dropout"))
    error = mean_dims((out - target(row, schedule, x0, eps, t)) ** 2)
    loss = weight.of(schedule, t, row) / error_scale(row, schedule, t) * error
    if weight.decoder and schedule.steps is not None:
      mean = to_x0_eps(row, schedule, xt, out, t)[0]
      at_row_0 = t < 1.5 / schedule.steps
      loss = jnp.where(at_row_0, decoder_nll(schedule, x0, mean), loss)
    return loss / density if weight.importance else loss

  return objective
