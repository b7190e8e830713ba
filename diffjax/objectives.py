"""Objectives: functions (apply, schedule, x0, cond, draws) -> loss per example, never a mean over examples.

The regular objective is a triple, how t is drawn (times.py) x a weight (weights.py) x a prediction kind:

    L(x0) = w(t) / n |x0 - x0_hat|^2 = w(t) (sigma / det)^2 / n |target - out|^2                      (1)

in nats per dimension for the likelihood weights (n dimensions; det as in predictions.py). It is computed
in the network's own kind. On a table the weight `vlb` replaces row 0 by the decoder's term
L_0 = -log p(x0 | x_1), a discretised Gaussian whose variance is clipped to row 1's (Nichol & Dhariwal 2021),
so that its mean over t is the variational bound without L_T.

Denoising score matching at NCSN's discrete levels (Song & Ermon 2019, eq. 5 and 6) is the triple `discrete` x
`snr` x `score` on the schedule `geometric` with steps. What is not a triple:

    hybrid   L_simple + vlb_weight L_vlb, the mean held fixed in L_vlb (Nichol & Dhariwal 2021, eq. 16), with
             the variance of equation (15) there from a second half of the output's channels; and
             learned_vlb, their L_vlb, where the mean learns too                                      (2)
    sliced   l(t) (|score|^2 / 2 + v^T d(score)/dx v), v standard normal (Song et al. 2019, eq. 8), where
             l = w sigma^4 / alpha^2 restates the weight for the score, so that `snr` is NCSN's sigma^2  (3)
    vdm      -log p(x0 | z_0) + KL(q(z_1 | x0) | p(z_1)) + the weight `vlb` (Kingma et al. 2021, eq. 11), with
             p(x0 | z_0) each pixel's posterior over its levels, equation (34) there                  (4)

all over n. A learned curve's ends are trained by (4) and its interior by the variance of (4)'s last term, the
gradient of its square (their appendix I.2), which costs a second pass through the network.
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from diffjax import keys
from diffjax.gaussian import (
  diffuse,
  discretized_nll,
  expand,
  kl,
  learned_logvar,
  mean_dims,
  posterior_mean,
  posterior_variance,
  prior_kl,
)
from diffjax.predictions import Row, error_scale, network_inputs, target, to_x0_eps
from diffjax.ranges import NotNegative, at_least
from diffjax.schedules import Schedule, parameters, rebuilt
from diffjax.times import ON_ROWS, REMEMBERING, TIMES, TimesOf
from diffjax.types import Batch, ConfigError, PerExample
from diffjax.weights import WEIGHTS, Weight, at_row_0, likelihood

Apply = Callable[..., Batch]  # (scaled x_t [B, ...], time [B], cond, dropout keys [B]) -> output [B, ...]
Objective = Callable[[Apply, Schedule, Batch, Array | None, keys.Draws], PerExample]


def decoder_nll(schedule: Schedule, x0: Batch, mean: Batch) -> PerExample:
  """L_0 of a table in nats per dimension: the pixels under N(mean, var), var clipped to row 1's."""
  first, second = 1 / schedule.steps, 2 / schedule.steps
  std = jnp.sqrt(posterior_variance(schedule, first, second))
  return mean_dims(discretized_nll(x0, mean, std))


class Pass(NamedTuple):
  """One call of the network: what was drawn, its input before scaling, and its output."""

  t: PerExample
  density: PerExample
  eps: Batch
  xt: Batch
  out: Batch


@dataclasses.dataclass(frozen=True)
class Parts:
  """What a prediction is made of; the arguments of `regular` but the weight."""

  times: TimesOf
  row: Row
  input_scale: Callable
  time_input: Callable

  def call(self, apply, schedule, x0, cond, draws) -> Pass:
    """Draws t and the noise and calls the network."""
    t, density = self.times(schedule, draws)
    eps = keys.normal(draws.keys("eps"), x0.shape[1:], x0.dtype)
    xt = diffuse(schedule, x0, eps, t)
    inputs = network_inputs(schedule, xt, t, self.input_scale, self.time_input)
    return Pass(t, density, eps, xt, apply(*inputs, cond, draws.keys("dropout")))

  def loss(self, weight: Weight, schedule: Schedule, x0: Batch, seen: Pass) -> PerExample:
    """Equation (1)."""
    t, row = seen.t, self.row
    error = mean_dims((seen.out - target(row, schedule, x0, seen.eps, t)) ** 2)
    loss = weight.of(schedule, t, row) / error_scale(row, schedule, t) * error
    if weight.decoder and schedule.steps is not None:
      mean = to_x0_eps(row, schedule, seen.xt, seen.out, t)[0]
      loss = jnp.where(at_row_0(schedule, t), decoder_nll(schedule, x0, mean), loss)
    return loss / seen.density if weight.importance else loss


def regular(
  times: TimesOf, weight: Weight, row: Row, input_scale: Callable, time_input: Callable
) -> Objective:
  """The triple of equation (1).

  Args:
    times: how t is drawn, one of TIMES.
    weight: one of WEIGHTS, made.
    row: the prediction kind, one of predictions.ROWS.
    input_scale: one of predictions.INPUT_SCALES.
    time_input: one of predictions.TIME_INPUTS.
  """
  parts = Parts(times, row, input_scale, time_input)

  def objective(apply, schedule, x0, cond, draws):
    return parts.loss(weight, schedule, x0, parts.call(apply, schedule, x0, cond, draws))

  return objective


def hybrid(
  times: TimesOf,
  weight: Weight,
  row: Row,
  input_scale: Callable,
  time_input: Callable,
  vlb_weight: NotNegative = 0.001,
) -> Objective:
  """Learned variance, equation (2), on a table; the arguments are those of `regular`.

  The network has two outputs a channel: the prediction, then a number that is -1 for the posterior's
  variance and 1 for the transition's. `vlb_weight` is theirs, for L_vlb in nats; their code has bits.
  """
  parts = Parts(times, row, input_scale, time_input)

  def objective(apply, schedule, x0, cond, draws):
    seen, var_frac = _two_outputs(parts.call(apply, schedule, x0, cond, draws))
    estimate = jax.lax.stop_gradient(to_x0_eps(row, schedule, seen.xt, seen.out, seen.t)[0])
    bound = chain_nll(schedule, x0, seen.xt, estimate, var_frac, seen.t) / seen.density
    return parts.loss(weight, schedule, x0, seen) + vlb_weight * bound

  return objective


def learned_vlb(
  times: TimesOf, weight: Weight, row: Row, input_scale: Callable, time_input: Callable
) -> Objective:
  """L_vlb of equation (2) alone, of which the mean learns as well: iDDPM's L_vlb, meant for times `importance`.

  The arguments are those of `regular` and the network is that of `hybrid`; the weight is `vlb`, as `check` sees to.
  """
  parts = Parts(times, row, input_scale, time_input)

  def objective(apply, schedule, x0, cond, draws):
    seen, var_frac = _two_outputs(parts.call(apply, schedule, x0, cond, draws))
    estimate = to_x0_eps(row, schedule, seen.xt, seen.out, seen.t)[0]
    return chain_nll(schedule, x0, seen.xt, estimate, var_frac, seen.t) / seen.density

  return objective


def _two_outputs(seen: Pass) -> tuple[Pass, Batch]:
  """The pass with the prediction for its output, and var_frac."""
  out, raw = jnp.split(seen.out, 2, axis=-1)
  return seen._replace(out=out), (raw + 1) / 2


def chain_nll(
  schedule: Schedule, x0: Batch, xt: Batch, estimate: Batch, var_frac: Batch, t: PerExample
) -> PerExample:
  """L_t of a table in nats per dimension, of the reverse step with the learned variance about `estimate`'s mean.

  KL(q(x_s | x_t, x0) | p(x_s | x_t)) with s one row earlier, and in row 0 the decoder's term.
  """
  later = jnp.maximum(t, 2 / schedule.steps)  # a KL that row 0 does not use, but finite there
  s = later - 1 / schedule.steps
  logvar = learned_logvar(schedule, var_frac, t)
  true = expand(jnp.log(posterior_variance(schedule, s, later)), xt)
  means = (posterior_mean(schedule, data, xt, s, later) for data in (x0, estimate))
  inner = mean_dims(kl(next(means), true, next(means), logvar))
  decoder = mean_dims(discretized_nll(x0, estimate, jnp.exp(logvar / 2)))
  return jnp.where(at_row_0(schedule, t), decoder, inner)


def sliced(
  times: TimesOf, weight: Weight, row: Row, input_scale: Callable, time_input: Callable
) -> Objective:
  """Sliced score matching of the noised data, equation (3), with its norm taken exactly (their SSM-VR)."""

  def objective(apply, schedule, x0, cond, draws):
    t, density = times(schedule, draws)
    xt = diffuse(schedule, x0, keys.normal(draws.keys("eps"), x0.shape[1:], x0.dtype), t)
    alpha, sigma = schedule.alpha_sigma(t)
    dropout = draws.keys("dropout")

    def score(xt):
      out = apply(*network_inputs(schedule, xt, t, input_scale, time_input), cond, dropout)
      return -to_x0_eps(row, schedule, xt, out, t)[1] / expand(sigma, xt)

    v = keys.normal(draws.keys("slice"), x0.shape[1:], x0.dtype)
    value, along = jax.jvp(score, (xt,), (v,))
    loss = weight.of(schedule, t, row) * sigma**4 / alpha**2 * mean_dims(value**2 / 2 + v * along)
    return loss / density if weight.importance else loss

  return objective


def vdm(
  times: TimesOf,
  weight: Weight,
  row: Row,
  input_scale: Callable,
  time_input: Callable,
  levels: Annotated[int, at_least(2)] = 256,
) -> Objective:
  """The variational bound in continuous time, equation (4), in nats per dimension.

  The arguments are those of `regular`; the weight is `vlb`, as `check` sees to. Pixels stand at `levels`
  evenly spaced values of [-1, 1].
  """

  parts = Parts(times, row, input_scale, time_input)

  def diffusion(apply, schedule, x0, cond, draws):
    return parts.loss(likelihood(), schedule, x0, parts.call(apply, schedule, x0, cond, draws))

  def objective(apply, schedule, x0, cond, draws):
    params = parameters(schedule)
    schedule_of = lambda ends, interior: rebuilt(schedule, {"ends": ends, "interior": interior})
    extra = 0.0
    if params is not None:
      ends, interior = params["ends"], params["interior"]
      fixed, fixed_ends = jax.lax.stop_gradient((interior, ends))
      each, pull = jax.vjp(lambda i: diffusion(apply, schedule_of(fixed_ends, i), x0, cond, draws), fixed)
      grads = jax.lax.stop_gradient(pull(2 * each / len(each))[0])
      pairs = zip(jax.tree.leaves(grads), jax.tree.leaves(interior), jax.tree.leaves(fixed), strict=True)
      extra = sum(jnp.sum(g * (live - held)) for g, live, held in pairs)  # 0, with the gradient g
      schedule = schedule_of(ends, fixed)
    bound = level_nll(schedule, x0, draws, levels) + prior_kl(schedule, x0) / x0[0].size
    return bound + diffusion(apply, schedule, x0, cond, draws) + extra

  return objective


def level_nll(schedule: Schedule, x0: Batch, draws: keys.Draws, levels: int = 256) -> PerExample:
  """-log p(x0 | z_0) in nats per dimension: the pixel's posterior given its noised value at t_min."""
  t = jnp.full(x0.shape[:1], schedule.t_min, x0.dtype)
  eps = keys.normal(draws.keys("decoder"), x0.shape[1:], x0.dtype)
  ratio = expand(jnp.exp(-schedule.logsnr(t) / 2), x0)
  values = jnp.linspace(-1, 1, levels, dtype=x0.dtype)
  logits = -0.5 * (((x0 + ratio * eps)[..., None] - values) / ratio[..., None]) ** 2
  pixel = jnp.round((x0 + 1) / 2 * (levels - 1)).astype(int)
  return -mean_dims(jnp.take_along_axis(jax.nn.log_softmax(logits), pixel[..., None], axis=-1)[..., 0])


OBJECTIVES: dict[str, Callable[..., Objective]] = {
  "regular": regular,
  "hybrid": hybrid,
  "learned_vlb": learned_vlb,
  "sliced": sliced,
  "vdm": vdm,
}

LEARNS_VARIANCE = ("hybrid", "learned_vlb")  # these have two outputs of the network a channel


def check(schedule: Schedule, objective: str, times: str, weight: str) -> None:
  """Refuses the names that do not go together on this schedule.

  Args:
    schedule: the schedule.
    objective: a key of OBJECTIVES.
    times: a key of TIMES or of REMEMBERING.
    weight: a key of WEIGHTS.

  Raises:
    ConfigError: the combination is refused, and why.
  """
  for section, name, entries in (
    ("name", objective, tuple(OBJECTIVES)),
    ("times", times, (*TIMES, *REMEMBERING)),
    ("weight", weight, tuple(WEIGHTS)),
  ):
    if name not in entries:
      raise ConfigError(f"config.objective.{section} is {name!r}; it must be one of {', '.join(entries)}.")
  table, on_rows = schedule.steps is not None, times in (*ON_ROWS, *REMEMBERING)
  divides = WEIGHTS[weight]().importance
  if times in ("discrete", "importance") and not table:
    raise ConfigError(
      f"config.objective.times is {times!r}, which draws rows of a table, but the schedule is continuous; choose "
      "'uniform', 'stratified' or a schedule with steps."
    )
  if times == "importance" and not divides:
    asking = ", ".join(name for name, make in WEIGHTS.items() if make().importance)
    raise ConfigError(
      f"config.objective.times is 'importance', but the weight {weight!r} does not divide by the density of t, so "
      f"that the loss would change with what was drawn so far; choose the weight 'vlb' (or one of {asking})."
    )
  if objective in LEARNS_VARIANCE and not (table and on_rows):
    raise ConfigError(
      f"config.objective.name is {objective!r}, whose variances are those of a table's rows: it needs a schedule "
      f"with steps and times on rows ({', '.join(ON_ROWS)})."
    )
  if objective == "learned_vlb" and weight != "vlb":
    raise ConfigError(
      f"config.objective.name is 'learned_vlb', which is the bound, but the weight is {weight!r}; choose 'vlb', or "
      "the objective 'hybrid' for another weight."
    )
  if objective == "sliced" and schedule.ends_without_signal:
    raise ConfigError(
      "config.objective.name is 'sliced', which learns the score, but the schedule has no signal left at t = 1 "
      "(alpha = 0), where the score does not determine the data; choose 'regular' or another schedule."
    )
  if objective == "sliced" and table and WEIGHTS[weight]().decoder:
    raise ConfigError(
      f"config.objective.name is 'sliced', which has no decoder, but the weight is {weight!r}, whose row 0 is the "
      "decoder's term; choose 'likelihood', the same weight without it, or the objective 'regular'."
    )
  if parameters(schedule) is not None and (objective != "vdm" or times == "log_normal"):
    raise ConfigError(
      f"config.objective.name is {objective!r} and times {times!r}, but the schedule is learned: only the bound, "
      "'vdm', says how, at times that do not depend on it, such as 'stratified'."
    )
  if objective == "vdm" and (table or weight != "vlb"):
    raise ConfigError(
      "config.objective.name is 'vdm', the bound in continuous time: it needs a continuous schedule and the weight "
      "'vlb'; on a table the objective 'regular' with 'vlb' is the bound."
    )
  if table and not on_rows and divides:
    raise ConfigError(
      f"config.objective.weight is {weight!r}, on a table a sum over its rows, but objective.times is {times!r}, "
      f"which draws between them; choose one of {', '.join(ON_ROWS)}."
    )
