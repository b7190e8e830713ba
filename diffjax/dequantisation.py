"""Dequantisation: what a density of continuous x says of discrete pixels, and the decoder of pixels from noisy ones.

The density is a bound, -log P(x0) <= E -log p(x) + log q(x | x0) - log P(x0 | x) with x drawn from a dequantisation q,
one of DEQUANTISATIONS; the equations' numbers are those of likelihood.py:

    decoder        -log p(x0 | x_t) at t_min,  p(x0 | x_t) ~ q(x_t | x0), over the levels of each pixel  (5)
    uniform        q uniform on the pixel's bin, P(x0 | x) = 1 (Theis et al. 2016, eq. 6)                (7)
    variational    q = q(x_t | x0) of the diffusion itself at t_min, P the decoder of (5)                (8)

(7) wants a model of noisy pixels, or bins that are not wide beside sigma(t_min): between the values of discrete
pixels an exact model has no density. (8) is exact for an exact denoiser of the pixels, whatever sigma(t_min).
By default sigma(t_min) against the bin decides (`matched`).
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from diffjax import keys
from diffjax.gaussian import mean_dims
from diffjax.scales import SCALES
from diffjax.schedules import Schedule
from diffjax.types import Batch, Keys, PerExample, Times


def noisy(schedule: Schedule, x0: Batch, eps: Batch, logsnr: PerExample) -> Batch:
  """alpha x0 + sigma eps at log-SNRs [B]."""
  alpha, sigma = (c.reshape(-1, *[1] * (x0.ndim - 1)) for c in SCALES[schedule.scale](logsnr))
  return alpha * x0 + sigma * eps


def gaussian_nll(x: Array, mean: Array | float, std: Times) -> Array:
  """-log N(x; mean, std^2), elementwise."""
  return 0.5 * jnp.log(2 * jnp.pi) + jnp.log(std) + 0.5 * ((x - mean) / std) ** 2


def decoder_nll(
  schedule: Schedule, x0: Batch, xt: Batch, logsnr: Times, discrete: bool, levels: int = 256
) -> Batch:
  """-log p(x0 | x_t) of equation (5), elementwise."""
  alpha = SCALES[schedule.scale](logsnr)[0]
  if not discrete:
    return gaussian_nll(x0, xt / alpha, jnp.exp(-logsnr / 2))
  grid = jnp.linspace(-1, 1, levels, dtype=x0.dtype)
  energy = lambda x: 0.5 * jnp.exp(logsnr) * (xt / alpha - x) ** 2
  return energy(x0) + jax.nn.logsumexp(-energy(grid.reshape(-1, *[1] * xt.ndim)), axis=0)


def uniform(
  schedule: Schedule, x0: Batch, logsnr: Times, discrete: bool, sample_keys: Keys, levels: int = 256
):
  """Equation (7): (x, log q(x | x0) - log P(x0 | x) per dimension)."""
  alpha = SCALES[schedule.scale](logsnr)[0]
  if not discrete:
    return alpha * x0, jnp.full(len(x0), -jnp.log(alpha))
  width = 2 / (levels - 1)
  draw = lambda key: jax.random.uniform(key, x0.shape[1:], x0.dtype, -0.5, 0.5)
  noise = jax.vmap(draw)(keys.purpose(sample_keys, "dequantise"))
  return alpha * (x0 + width * noise), jnp.full(len(x0), -jnp.log(alpha * width))


def variational(
  schedule: Schedule, x0: Batch, logsnr: Times, discrete: bool, sample_keys: Keys, levels: int = 256
):
  """Equation (8), the same pair."""
  eps = keys.normal(keys.purpose(sample_keys, "dequantise"), x0.shape[1:], x0.dtype)
  sigma = SCALES[schedule.scale](logsnr)[1]
  xt = noisy(schedule, x0, eps, jnp.full(len(x0), logsnr))
  log_q = -gaussian_nll(sigma * eps, 0.0, sigma)
  return xt, mean_dims(log_q + decoder_nll(schedule, x0, xt, logsnr, discrete, levels))


def matched(
  schedule: Schedule, x0: Batch, logsnr: Times, discrete: bool, sample_keys: Keys, levels: int = 256
):
  """(8) of pixels whose bins are wide beside the noise, sigma / alpha below half a bin, else (7); the same pair."""
  if not discrete:
    return uniform(schedule, x0, logsnr, discrete, sample_keys)
  sharp = jnp.exp(-logsnr / 2) < 1 / (levels - 1)
  arguments = (schedule, x0, logsnr, discrete, sample_keys, levels)
  return jax.lax.cond(sharp, *(functools.partial(way, *arguments) for way in (variational, uniform)))


DEQUANTISATIONS: dict[str, Callable] = {"auto": matched, "uniform": uniform, "variational": variational}
