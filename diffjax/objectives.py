"""Objectives: the loss of every example, never a mean over examples, given when it was drawn and with what noise.

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
from typing import NamedTuple

import jax
import jax.numpy as jnp

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
from diffjax.levels import Levels
from diffjax.predictions import Network, Prediction, error_scale
from diffjax.ranges import NotNegative, checked
from diffjax.schedules import Schedule, parameters, rebuilt
from diffjax.times import Drawn, TimeDistribution
from diffjax.types import Batch, PerExample, Unsuitable
from diffjax.weights import Weight, at_row_0, likelihood

Loss = Callable[[Network, Schedule, Prediction, Batch, Drawn, keys.Draws], PerExample]


@dataclasses.dataclass(frozen=True)
class Objective:
  """How a network is trained.

  Attributes:
    loss: (network, schedule, prediction, x0, (t, density), draws) -> loss [B].
    outputs: of the network for each channel of the data.
    learns_schedule: whether it trains a learned curve.
    refuses: (schedule, times, weight) -> what they lack, a clause that begins with which; None where they will do.
  """

  loss: Loss
  outputs: int = 1
  learns_schedule: bool = False
  refuses: Callable[[Schedule, TimeDistribution, Weight], str | None] = lambda schedule, times, weight: None


def decoder_nll(schedule: Schedule, x0: Batch, mean: Batch) -> PerExample:
  """L_0 of a table in nats per dimension: the pixels under N(mean, var), var clipped to row 1's."""
  first, second = 1 / schedule.steps, 2 / schedule.steps
  std = jnp.sqrt(posterior_variance(schedule, first, second))
  return mean_dims(discretized_nll(x0, mean, std))


class Pass(NamedTuple):
  """One call of the network: the noise, its input before scaling, and its output."""

  eps: Batch
  xt: Batch
  out: Batch


def call(network, schedule, prediction, x0, t, draws) -> Pass:
  """Noises x0 and calls the network."""
  eps = keys.normal(draws.keys("eps"), x0.shape[1:], x0.dtype)
  xt = diffuse(schedule, x0, eps, t)
  return Pass(eps, xt, network(*prediction.inputs(schedule, xt, t), draws.keys("dropout")))


def weighted(weight: Weight, schedule, prediction, x0, drawn: Drawn, forward: Pass) -> PerExample:
  """Equation (1)."""
  (t, density), row = drawn, prediction.row
  error = mean_dims((forward.out - prediction.target(schedule, x0, forward.eps, t)) ** 2)
  loss = weight.of(schedule, t, row) / error_scale(row, schedule, t) * error
  if weight.decoder and schedule.steps is not None:
    mean = prediction.x0(schedule, forward.xt, forward.out, t)
    loss = jnp.where(at_row_0(schedule, t), decoder_nll(schedule, x0, mean), loss)
  return loss / density if weight.importance else loss


def regular(weight: Weight) -> Objective:
  """The triple of equation (1)."""

  def loss(network, schedule, prediction, x0, drawn, draws):
    forward = call(network, schedule, prediction, x0, drawn[0], draws)
    return weighted(weight, schedule, prediction, x0, drawn, forward)

  return Objective(loss)


def hybrid(weight: Weight, vlb_weight: NotNegative = 0.001) -> Objective:
  """Learned variance, equation (2), on a table.

  The network has two outputs a channel: the prediction, then a number that is -1 for the posterior's
  variance and 1 for the transition's. `vlb_weight` is theirs, for L_vlb in nats; their code has bits.
  """

  def loss(network, schedule, prediction, x0, drawn, draws):
    t, density = drawn
    forward, var_frac = _two_outputs(call(network, schedule, prediction, x0, t, draws))
    estimate = jax.lax.stop_gradient(prediction.x0(schedule, forward.xt, forward.out, t))
    bound = chain_nll(schedule, x0, forward.xt, estimate, var_frac, t) / density
    return weighted(weight, schedule, prediction, x0, drawn, forward) + vlb_weight * bound

  return Objective(loss, outputs=2, refuses=_between_rows)


def learned_vlb(weight: Weight) -> Objective:
  """L_vlb of equation (2) alone, of which the mean learns as well: iDDPM's L_vlb, meant for times `importance`."""

  def loss(network, schedule, prediction, x0, drawn, draws):
    t, density = drawn
    forward, var_frac = _two_outputs(call(network, schedule, prediction, x0, t, draws))
    estimate = prediction.x0(schedule, forward.xt, forward.out, t)
    return chain_nll(schedule, x0, forward.xt, estimate, var_frac, t) / density

  def refuses(schedule, times, weight):
    if not weight.decoder:
      return "which is the bound, but the weight is another; choose 'vlb', or the objective 'hybrid' for other weights"
    return _between_rows(schedule, times, weight)

  return Objective(loss, outputs=2, refuses=refuses)


def _between_rows(schedule: Schedule, times: TimeDistribution, weight: Weight) -> str | None:
  if schedule.steps is not None and times.rows:
    return None
  return (
    "which learns the variances of a table's rows: it needs a schedule with steps and times on rows ('discrete', "
    "'stratified', 'antithetic', 'importance')"
  )


def _two_outputs(forward: Pass) -> tuple[Pass, Batch]:
  """The pass with the prediction for its output, and var_frac."""
  out, raw = jnp.split(forward.out, 2, axis=-1)
  return forward._replace(out=out), (raw + 1) / 2


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


def sliced(weight: Weight) -> Objective:
  """Sliced score matching of the noised data, equation (3), with its norm taken exactly (their SSM-VR)."""

  def loss(network, schedule, prediction, x0, drawn, draws):
    t, density = drawn
    xt = diffuse(schedule, x0, keys.normal(draws.keys("eps"), x0.shape[1:], x0.dtype), t)
    alpha, sigma = schedule.alpha_sigma(t)
    dropout = draws.keys("dropout")

    def score(xt):
      out = network(*prediction.inputs(schedule, xt, t), dropout)
      return -prediction.eps(schedule, xt, out, t) / expand(sigma, xt)

    v = keys.normal(draws.keys("slice"), x0.shape[1:], x0.dtype)
    value, along = jax.jvp(score, (xt,), (v,))
    each = weight.of(schedule, t, prediction.row) * sigma**4 / alpha**2 * mean_dims(value**2 / 2 + v * along)
    return each / density if weight.importance else each

  def refuses(schedule, times, weight):
    if schedule.ends_without_signal:
      return (
        "which learns the score, but the schedule has no signal left at t = 1 (alpha = 0), where the score does not "
        "determine the data; choose 'regular' or another schedule"
      )
    if schedule.steps is not None and weight.decoder:
      return (
        "which has no decoder, but the weight's row 0 is the decoder's term; choose 'likelihood', the same weight "
        "without it, or the objective 'regular'"
      )
    return None

  return Objective(loss, refuses=refuses)


def vdm(weight: Weight, levels: Levels = 256) -> Objective:
  """The variational bound in continuous time, equation (4), in nats per dimension.

  The weight is `vlb`, as `check` sees to. Pixels stand at `levels` evenly spaced values of [-1, 1].
  """
  term = regular(likelihood()).loss

  def loss(network, schedule, prediction, x0, drawn, draws):
    diffusion = lambda schedule: term(network, schedule, prediction, x0, drawn, draws)
    params, extra = parameters(schedule), 0.0
    if params is not None:
      fixed = jax.lax.stop_gradient(params)
      of = lambda interior: rebuilt(schedule, fixed | {"interior": interior})
      each, pull = jax.vjp(lambda interior: diffusion(of(interior)), fixed["interior"])
      grads = jax.lax.stop_gradient(pull(2 * each / len(each))[0])
      terms = jax.tree.map(
        lambda g, live, held: jnp.sum(g * (live - held)), grads, params["interior"], fixed["interior"]
      )
      extra = sum(jax.tree.leaves(terms))  # 0, with the gradient g
      schedule = rebuilt(schedule, params | {"interior": fixed["interior"]})
    bound = level_nll(schedule, x0, draws, levels) + prior_kl(schedule, x0) / x0[0].size
    return bound + diffusion(schedule) + extra

  def refuses(schedule, times, weight):
    if schedule.steps is None and weight.decoder:
      return None
    return (
      "which is the bound in continuous time: it needs a continuous schedule and the weight 'vlb'; on a table the "
      "objective 'regular' with 'vlb' is the bound"
    )

  return Objective(loss, learns_schedule=True, refuses=refuses)


def level_nll(schedule: Schedule, x0: Batch, draws: keys.Draws, levels: int = 256) -> PerExample:
  """-log p(x0 | z_0) in nats per dimension: the pixel's posterior given its noised value at t_min."""
  t = jnp.full(x0.shape[:1], schedule.t_min, x0.dtype)
  eps = keys.normal(draws.keys("decoder"), x0.shape[1:], x0.dtype)
  ratio = expand(jnp.exp(-schedule.logsnr(t) / 2), x0)
  values = jnp.linspace(-1, 1, levels, dtype=x0.dtype)
  logits = -0.5 * (((x0 + ratio * eps)[..., None] - values) / ratio[..., None]) ** 2
  pixel = jnp.round((x0 + 1) / 2 * (levels - 1)).astype(int)
  return -mean_dims(jnp.take_along_axis(jax.nn.log_softmax(logits), pixel[..., None], axis=-1)[..., 0])


OBJECTIVES: dict[str, Callable[..., Objective]] = checked(
  {
    "regular": regular,
    "hybrid": hybrid,
    "learned_vlb": learned_vlb,
    "sliced": sliced,
    "vdm": vdm,
  }
)


def check(schedule: Schedule, objective: Objective, times: TimeDistribution, weight: Weight) -> None:
  """Raises Unsuitable where these do not go together on this schedule."""
  table = schedule.steps is not None
  if times.table and not table:
    raise Unsuitable(
      "times",
      "which draws rows of a table, but the schedule is continuous; choose 'uniform', 'stratified' or a schedule "
      "with steps",
    )
  if why := times.refuses(schedule):
    raise Unsuitable("times", f"whose {why}")
  if times.divides and not weight.importance:
    raise Unsuitable(
      "times",
      "which changes with the losses, but the weight does not divide by the density of t, so that the loss would "
      "change with what was drawn so far; choose the weight 'vlb', or another that divides",
    )
  if why := objective.refuses(schedule, times, weight):
    raise Unsuitable("objective", why)
  if parameters(schedule) is not None and (not objective.learns_schedule or times.follows):
    raise Unsuitable(
      "objective",
      "which cannot train the schedule's curve: only the bound does, 'vdm', at times that do not depend on the curve, "
      "such as 'stratified'",
    )
  if table and weight.importance and not times.rows:
    raise Unsuitable(
      "weight",
      "which on a table is a sum over its rows, but the times fall between them; choose 'discrete', 'stratified' or "
      "'antithetic'",
    )
