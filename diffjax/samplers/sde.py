"""Discretisations of the reverse-time SDE (Song et al. 2021).

    dx = (f x - g^2 score) dt + g dw,   f = alpha' / alpha,   g^2 = -logsnr' sigma^2                  (1)

(their equation 6, with the coefficients of Kingma et al. 2021). With score = -eps / sigma, dt = t - s > 0
and q(x_t | x_s) = N(k x_s, v), that is k = alpha_t / alpha_s, from gaussian.py's equation (2):

    Euler-Maruyama      x_s = x_t - f dt x_t + g^2 dt score + g sqrt(dt) z                            (2)
    reverse diffusion   x_s = (2 - k) x_t + v score + sqrt(v) z          (their appendix E, eq. 46)   (3)

Where alpha_t = 0 neither is defined, and the step keeps the data and the noise: alpha_s D + sigma_s eps.
The coefficients of (2) follow the slope of the log-SNR, on a table that of the interval after t.
"""

import jax
import jax.numpy as jnp

from diffjax import keys as draws
from diffjax.gaussian import expand, implied_eps, transition_variance, transport
from diffjax.samplers.base import Carry, Sampler


def _reverse(coefficients):
  """x_s = decay x_t + gain score + std z, with (decay, gain, std) = coefficients(schedule, t, s)."""

  def step(denoiser, schedule, carry, t, s, keys):
    x, x0 = carry.x, denoiser(carry.x, t).x0
    alpha, sigma = schedule.alpha_sigma(t)
    decay, gain, std = (expand(jnp.where(alpha > 0, c, 0), x) for c in coefficients(schedule, t, s))
    score = -implied_eps(schedule, x0, x, t) / expand(sigma, x)
    xs = decay * x + gain * score + std * draws.normal(keys, x.shape[1:], x.dtype)
    return Carry(jnp.where(expand(alpha, x) > 0, xs, transport(schedule, x0, x, s, t)))

  return Sampler(step, order=1, deterministic=False)


def euler_maruyama() -> Sampler:
  """Euler-Maruyama, equation (2)."""

  def coefficients(schedule, t, s):
    t = jnp.asarray(t)
    alpha, sigma = schedule.alpha_sigma(t)
    slope = jax.jvp(schedule.logsnr, (t,), (jnp.ones_like(t),))[1]
    variance = -slope * sigma**2 * (t - s)  # g^2 dt
    return 1 - schedule.derivatives(t)[0] / alpha * (t - s), variance, jnp.sqrt(variance)

  return _reverse(coefficients)


def reverse_diffusion() -> Sampler:
  """The reverse diffusion sampler, equation (3)."""

  def coefficients(schedule, t, s):
    var = transition_variance(schedule, s, t)
    return 2 - schedule.alpha_sigma(t)[0] / schedule.alpha_sigma(s)[0], var, jnp.sqrt(var)

  return _reverse(coefficients)
