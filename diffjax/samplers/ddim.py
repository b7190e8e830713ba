"""DDIM (Song et al. 2021, eq. 12 and 16).

    x_s = alpha_s x0 + sqrt(sigma_s^2 - n^2) eps + n z,   n = eta sqrt(variance of q(x_s | x_t, x0))  (1)

with x0 = D(x_t, t) and eps = (x_t - alpha_t x0) / sigma_t, so that clipping x0 changes eps with it.
eta = 1 is ancestral sampling with the small variance; eta = 0 is the exponential first-order solver of the
probability-flow ODE, and runs in either direction.
"""

import jax.numpy as jnp

from diffjax import keys as draws
from diffjax.gaussian import expand, posterior_variance
from diffjax.ranges import Share
from diffjax.samplers.base import Carry, Sampler


def ddim(eta: Share = 0.0) -> Sampler:
  """The DDIM sampler with noise level eta in [0, 1]."""

  def step(denoiser, schedule, carry, t, s, keys):
    x = carry.x
    alpha_t, sigma_t = schedule.alpha_sigma(t)
    alpha_s, sigma_s = schedule.alpha_sigma(s)
    x0 = denoiser(x, t).x0
    eps = (x - expand(alpha_t, x) * x0) / expand(sigma_t, x)
    if eta == 0:
      return Carry(expand(alpha_s, x) * x0 + expand(sigma_s, x) * eps)
    var = eta**2 * posterior_variance(schedule, s, t)
    direction = jnp.sqrt(jnp.maximum(sigma_s**2 - var, 0))
    noise = draws.normal(keys, x.shape[1:], x.dtype)
    mean = expand(alpha_s, x) * x0 + expand(direction, x) * eps
    return Carry(mean + expand(jnp.sqrt(var), x) * noise)

  return Sampler(step, order=1, deterministic=eta == 0)
