"""Denoisers: functions (x_t, t) -> Estimate of the clean data, and functions of denoisers.

Samplers and likelihoods see a Denoiser and a Schedule and never a network. Exact denoisers of Gaussian
data, E[x0 | x_t] in closed form, stand beside the learned ones:

    x0 ~ N(m, u)  =>  E[x0 | x_t] = m + alpha u / (alpha^2 u + sigma^2) (x_t - alpha m)               (1)

and for a mixture the components' estimates (1), averaged with the posterior weights

    w_k N(x_t; alpha m_k, alpha^2 u_k + sigma^2) / sum over k                                         (2)
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from diffjax.gaussian import expand
from diffjax.predictions import Row, network_inputs, to_x0_eps
from diffjax.schedules import Schedule
from diffjax.types import Batch, PerExample, Times

FAR = 1e9  # sigma / alpha


class Estimate(NamedTuple):
  """What a denoiser says about x_t.

  Attributes:
    x0: the estimated data, of x_t's shape.
    var_frac: for learned variances, the interpolation v of iDDPM's eq. 15 in x_t's shape, else None.
  """

  x0: Batch
  var_frac: Array | None = None


Denoiser = Callable[[Batch, Times], Estimate]


def network_denoiser(
  apply: Callable[[Batch, Times], Batch],
  schedule: Schedule,
  row: Row,
  input_scale: Callable,
  time_input: Callable,
  learned_variance: bool = False,
) -> Denoiser:
  """The denoiser of a network.

  Args:
    apply: the network, (scaled x_t [B, ...], time [B]) -> output, its parameters and condition bound.
    schedule: the schedule that it was trained on.
    row: the prediction kind, one of predictions.ROWS.
    input_scale: one of predictions.INPUT_SCALES.
    time_input: one of predictions.TIME_INPUTS.
    learned_variance: whether a second half of the output's channels is 2 var_frac - 1 (objective `hybrid`).
  """

  def denoise(xt, t):
    out, var_frac = apply(*network_inputs(schedule, xt, t, input_scale, time_input)), None
    if learned_variance:
      out, raw = jnp.split(out, 2, axis=-1)
      var_frac = (raw + 1) / 2
    return Estimate(to_x0_eps(row, schedule, xt, out, t)[0], var_frac)

  return denoise


def map_x0(denoiser: Denoiser, change: Callable[[Batch], Batch]) -> Denoiser:
  """Applies `change` to the estimated data."""

  def denoise(xt, t):
    estimate = denoiser(xt, t)
    return estimate._replace(x0=change(estimate.x0))

  return denoise


def clipped(denoiser: Denoiser, low: float = -1.0, high: float = 1.0) -> Denoiser:
  """Clips the estimated data to the range of the pixels (Ho et al. 2020's sampler)."""
  return map_x0(denoiser, lambda x0: jnp.clip(x0, low, high))


def guidance_interval(
  schedule: Schedule, w: ArrayLike, sigma_min: float = 0.0, sigma_max: float = float("inf")
) -> Callable[[Times], Times]:
  """A guidance weight that is w where sigma / alpha is in (sigma_min, sigma_max] and 0 elsewhere.

  Kynkaanniemi et al. 2024, eq. 3: for ImageNet-512, w + 1 = 2 (theirs) in (0.28, 2.9]. Where no signal is left
  (alpha = 0) the ratio counts as FAR, so that a sigma_max of FAR or more has no end.
  """

  def weight(t):
    r = jnp.minimum(jnp.exp(-schedule.logsnr(t) / 2), FAR)
    return jnp.where((r > sigma_min) & (r <= sigma_max), w, 0)

  return weight


def classifier_free(
  conditional: Callable[[Array], Denoiser],
  cond: Array,
  null: Array,
  w: ArrayLike | Callable[[Times], Times],
  rescale: float = 0.0,
) -> Denoiser:
  """Classifier-free guidance, D_c + w (D_c - D_u) (Ho & Salimans 2022, eq. 6), in one doubled batch.

  Args:
    conditional: condition [B, ...] -> Denoiser.
    cond: the condition [B, ...].
    null: the null condition, of cond's shape.
    w: guidance weight, or a function of t that gives one; 0 is the conditional model, and diffusers'
      guidance_scale is w + 1.
    rescale: share phi of the guided estimate that is scaled to D_c's standard deviation, example by example
      (Lin et al. 2024, eq. 15 and 16, here on x0); an estimate without any contrast stays as it is.
  """
  if isinstance(w, int | float) and w == 0:
    return conditional(cond)
  both = conditional(jnp.concatenate([cond, null]))

  def denoise(xt, t):
    t = jnp.broadcast_to(t, xt.shape[:1])
    estimate = both(jnp.concatenate([xt, xt]), jnp.concatenate([t, t]))
    with_cond, without = jnp.split(estimate.x0, 2)
    var_frac = estimate.var_frac
    if var_frac is not None:
      var_frac = jnp.split(var_frac, 2)[0]
    weight = expand(w(t) if callable(w) else w, xt)
    guided = with_cond + weight * (with_cond - without)
    if rescale:
      guided *= expand(1 + rescale * (_contrast(with_cond, guided) - 1), xt)
    return Estimate(guided, var_frac)

  return denoise


def _contrast(x: Batch, other: Batch) -> PerExample:
  """How many times the standard deviation of `other` that of x is; 1 where `other` is constant to rounding."""
  axes = tuple(range(1, x.ndim))
  of_x, of_other = jnp.std(x, axis=axes), jnp.std(other, axis=axes)
  varies = of_other > 1e-6 * jnp.max(jnp.abs(other), axis=axes)
  return jnp.where(varies, of_x / jnp.where(varies, of_other, 1), 1)


def classifier_guided(
  denoiser: Denoiser,
  schedule: Schedule,
  log_prob: Callable[[Batch, Times], Float[Array, "b"]],
  w: ArrayLike | Callable[[Times], Times] = 1.0,
) -> Denoiser:
  """Guidance by the gradient of a classifier of noisy data (Dhariwal & Nichol 2021, algorithm 2):

      score + w grad log p(y | x_t),   that is   D + w sigma^2 / alpha grad log p(y | x_t)            (3)

  Where alpha = 0 nothing is known about y, and the estimate is left as it is.

  Args:
    denoiser: the denoiser to guide.
    schedule: its schedule.
    log_prob: (x_t [B, ...], t [B]) -> log p(y | x_t) of each example's label, [B]; examples do not couple.
    w: the scale, 1 for the exact conditional score; or a function of t.
  """

  def denoise(xt, t):
    estimate = denoiser(xt, t)
    t = jnp.broadcast_to(t, xt.shape[:1])
    slope = jax.grad(lambda x: jnp.sum(log_prob(x, t)))(xt)
    alpha, sigma = schedule.alpha_sigma(t)
    gain = jnp.where(alpha > 0, sigma**2 / jnp.where(alpha > 0, alpha, 1), 0) * (w(t) if callable(w) else w)
    return estimate._replace(x0=estimate.x0 + expand(gain, xt) * slope)

  return denoise


def gaussian_denoiser(schedule: Schedule, mean: ArrayLike, var: ArrayLike) -> Denoiser:
  """The exact denoiser of x0 ~ N(mean, var), independent dimensions, equation (1).

  Args:
    schedule: the schedule.
    mean: mean, broadcastable against x0.
    var: variance (not standard deviation), broadcastable against x0.
  """

  def denoise(xt, t):
    alpha, sigma = (expand(c, xt) for c in schedule.alpha_sigma(t))
    gain = alpha * var / (alpha**2 * var + sigma**2)
    return Estimate(mean + gain * (xt - alpha * mean))

  return denoise


def mixture_denoiser(
  schedule: Schedule, means: Float[Array, "k d"], var: Float[Array, "k"], weights: Float[Array, "k"]
) -> Denoiser:
  """The exact denoiser of a mixture of isotropic Gaussians in d dimensions, equation (2).

  Args:
    schedule: the schedule.
    means: [K, d] component means.
    var: [K] component variances.
    weights: [K] positive component weights; normalised here.
  """

  def denoise(xt, t):
    alpha, sigma = (jnp.broadcast_to(c, xt.shape[:1])[:, None] for c in schedule.alpha_sigma(t))
    spread = alpha**2 * var + sigma**2  # [B, K]
    gap = xt[:, None, :] - alpha[..., None] * means
    logits = jnp.log(weights) - 0.5 * jnp.sum(gap**2, axis=-1) / spread
    logits -= 0.5 * xt.shape[-1] * jnp.log(spread)
    estimates = means + (alpha * var / spread)[..., None] * gap
    return Estimate(jnp.einsum("bk,bkd->bd", jax.nn.softmax(logits, axis=-1), estimates))

  return denoise
