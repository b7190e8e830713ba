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
from jax.custom_batching import custom_vmap
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from diffjax.gaussian import expand
from diffjax.predictions import Network, Prediction
from diffjax.schedules import Schedule
from diffjax.types import Batch, Times


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
  network: Network, schedule: Schedule, prediction: Prediction, outputs: int = 1
) -> Denoiser:
  """The denoiser of a network.

  Args:
    network: its parameters and condition bound.
    schedule: the schedule that it was trained on.
    prediction: what it is told and answers.
    outputs: for each channel of the data; of two the second is 2 var_frac - 1 (objective `hybrid`).
  """

  def denoise(xt, t):
    out, var_frac = network(*prediction.inputs(schedule, xt, t), None), None
    if outputs == 2:
      out, raw = jnp.split(out, 2, axis=-1)
      var_frac = (raw + 1) / 2
    return Estimate(prediction.x0(schedule, xt, out, t), var_frac)

  return denoise


def map_x0(denoiser: Denoiser, change: Callable[[Batch], Batch]) -> Denoiser:
  """Applies `change` to the estimated data."""

  def denoise(xt, t):
    estimate = denoiser(xt, t)
    return estimate._replace(x0=change(estimate.x0))

  return denoise


def moved_to(schedule: Schedule, of: Schedule, t: Times) -> tuple[Times, Times]:
  """The time of a schedule at which the log-SNR is that of another's t, and the factor that x_t gets.

  Log-SNRs beyond the schedule's own ends are cut to them, and x_t scaled to have its noise.
  """
  low, high = sorted(schedule.ends)
  own = schedule.t_of(jnp.clip(of.logsnr(t), low, high))
  return own, schedule.alpha_sigma(own)[1] / of.alpha_sigma(t)[1]


def rescheduled(denoiser: Denoiser, schedule: Schedule, of: Schedule) -> Denoiser:
  """A denoiser of one schedule for x_t and t of another: at the same log-SNR, x_t scaled to its noise."""

  def denoise(xt, t):
    own, scale = moved_to(schedule, of, t)
    return denoiser(expand(scale, xt) * xt, own)

  return denoise


def per_example(function: Callable, *batch: Array) -> tuple[Callable, list]:
  """A function of a batch as one of single examples, to be called under vmap only, and the arrays that it needs.

  A denoiser is bound to the conditions of its batch, so that it cannot be mapped over single examples: under vmap
  the function is called once, with all of them.

  Args:
    function: arrays [B, ...] -> a pytree [B, ...], whose examples do not couple.
    batch: arrays of the shapes that it will be called with.

  Returns:
    (arrays, *example) -> a pytree, and the arrays. It cannot be differentiated.
  """
  closed, shapes = jax.make_jaxpr(function, return_shape=True)(*batch)
  leaves, tree = jax.tree.flatten(shapes)

  @custom_vmap
  def one(arrays, *example):
    return jax.tree.unflatten(tree, [jnp.zeros(leaf.shape[1:], leaf.dtype) for leaf in leaves])

  @one.def_vmap
  def rule(size, batched, arrays, *example):
    pairs = zip(example, batched[1:], strict=True)
    example = (value if each else jnp.broadcast_to(value, (size, *value.shape)) for value, each in pairs)
    out = jaxpr_as_fun(ClosedJaxpr(closed.jaxpr, arrays))(*example)
    return jax.tree.unflatten(tree, out), jax.tree.unflatten(tree, [True] * len(leaves))

  return one, closed.consts


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
