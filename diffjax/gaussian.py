"""The Gaussians of a diffusion process: pure functions of a Schedule.

With l = logsnr, s < t and c = 1 - exp(l_t - l_s), computed as -expm1(l_t - l_s):

    q(x_t | x0)       = N(alpha_t x0, sigma_t^2)                                                      (1)
    q(x_t | x_s)      = N((alpha_t / alpha_s) x_s, c sigma_t^2)                                       (2)
    q(x_s | x_t, x0)  = N((alpha_t / alpha_s)(sigma_s^2 / sigma_t^2) x_t + alpha_s c x0, c sigma_s^2) (3)

(Kingma et al. 2021, equations 20 to 27, in log-SNRs.) On DDPM's table (2) has variance beta_t and (3) is
its equations 6 and 7.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from diffjax.schedules import Schedule
from diffjax.types import Batch, PerExample, Times


def expand(value: Times, x: Array) -> Array:
  """Appends axes to a scalar or per-example value so that it broadcasts against x [B, ...]."""
  value = jnp.asarray(value)
  return value.reshape(value.shape + (1,) * (x.ndim - value.ndim))


def sum_dims(x: Array) -> PerExample:
  """Sums over all axes but the first."""
  return jnp.sum(x, axis=tuple(range(1, x.ndim)))


def mean_dims(x: Array) -> PerExample:
  """Means over all axes but the first."""
  return jnp.mean(x, axis=tuple(range(1, x.ndim)))


def diffuse(schedule: Schedule, x0: Batch, eps: Batch, t: Times) -> Batch:
  """x_t of equation (1) for given noise."""
  alpha, sigma = schedule.alpha_sigma(t)
  return expand(alpha, x0) * x0 + expand(sigma, x0) * eps


def lost_snr(schedule: Schedule, s: Times, t: Times) -> Times:
  """c = 1 - SNR(t) / SNR(s), the share of the signal-to-noise ratio lost from s to t; 0 at s = t without any."""
  earlier, later = schedule.logsnr(s), schedule.logsnr(t)
  return jnp.where(earlier == later, 0, -jnp.expm1(later - earlier))


def transition_variance(schedule: Schedule, s: Times, t: Times) -> Times:
  """Variance of q(x_t | x_s), equation (2): DDPM's beta_t, its `fixed-large` choice."""
  return lost_snr(schedule, s, t) * schedule.alpha_sigma(t)[1] ** 2


def posterior_variance(schedule: Schedule, s: Times, t: Times) -> Times:
  """Variance of q(x_s | x_t, x0), equation (3): DDPM's beta-tilde, its `fixed-small` choice."""
  return lost_snr(schedule, s, t) * schedule.alpha_sigma(s)[1] ** 2


def learned_variance(schedule: Schedule, var_frac: Array, s: Times, t: Times) -> Array:
  """exp(v log beta + (1 - v) log beta-tilde), v = var_frac of any shape [B, ...] (iDDPM, eq. 15).

  beta-tilde / beta is sigma_s^2 / sigma_t^2, so that nothing is lost at s = t, where both are 0.
  """
  ratio = (schedule.alpha_sigma(s)[1] / schedule.alpha_sigma(t)[1]) ** 2
  return expand(transition_variance(schedule, s, t), var_frac) * expand(ratio, var_frac) ** (1 - var_frac)


def learned_logvar(schedule: Schedule, var_frac: Array, t: Times) -> Array:
  """log of the learned variance of a table's row t, for the step to the row before it.

  In row 0, which has beta but no beta-tilde, the latter is row 1's (iDDPM's code).
  """
  later = jnp.maximum(t, 2 / schedule.steps)
  s = later - 1 / schedule.steps
  small = jnp.log(posterior_variance(schedule, s, later))
  log_sigma = jnp.log(schedule.alpha_sigma(t)[1])
  ratio = log_sigma - jnp.log(schedule.alpha_sigma(s)[1])
  large = jnp.where(t < 1.5 / schedule.steps, 2 * log_sigma, small + 2 * ratio)
  return expand(large, var_frac) * var_frac + expand(small, var_frac) * (1 - var_frac)


def posterior_mean(schedule: Schedule, x0: Batch, xt: Batch, s: Times, t: Times) -> Batch:
  """Mean of q(x_s | x_t, x0), equation (3)."""
  alpha_s, sigma_s = schedule.alpha_sigma(s)
  alpha_t, sigma_t = schedule.alpha_sigma(t)
  ratio = jnp.where(alpha_s == alpha_t, 1, alpha_t / alpha_s)  # 1 also where both are 0
  of_xt = ratio * (sigma_s / sigma_t) ** 2
  of_x0 = alpha_s * lost_snr(schedule, s, t)
  return expand(of_xt, xt) * xt + expand(of_x0, x0) * x0


def implied_eps(schedule: Schedule, x0: Batch, xt: Batch, t: Times) -> Batch:
  """The noise in x_t if the data is x0: (x_t - alpha_t x0) / sigma_t."""
  alpha, sigma = schedule.alpha_sigma(t)
  return (xt - expand(alpha, xt) * x0) / expand(sigma, xt)


def transport(schedule: Schedule, x0: Batch, xt: Batch, s: Times, t: Times) -> Batch:
  """x_s made of the same data and noise as x_t: the first-order step, defined at alpha_t = 0 as well."""
  return diffuse(schedule, x0, implied_eps(schedule, x0, xt, t), s)


def kl(mean1: Array, logvar1: Array, mean2: Array, logvar2: Array) -> Array:
  """KL(N(mean1, e^logvar1) || N(mean2, e^logvar2)), elementwise, in nats."""
  gap = logvar1 - logvar2
  return 0.5 * (jnp.expm1(gap) - gap + (mean1 - mean2) ** 2 * jnp.exp(-logvar2))


def prior_kl(schedule: Schedule, x0: Batch) -> PerExample:
  """L_T = KL(q(x_1 | x0) || N(0, prior_std^2)), summed over the dimensions, in nats."""
  alpha, sigma = schedule.alpha_sigma(jnp.ones((), x0.dtype))
  prior_logvar = 2 * jnp.log(schedule.prior_std().astype(x0.dtype))
  return sum_dims(kl(alpha * x0, 2 * jnp.log(sigma), jnp.zeros_like(x0), prior_logvar))


def discretized_nll(x0: Batch, mean: Batch, std: Times, levels: int = 256) -> Batch:
  """-log of a Gaussian's mass in each pixel's bin, elementwise, in nats (Ho et al. 2020, eq. 13).

  Args:
    x0: pixels at the `levels` evenly spaced values of [-1, 1]; the outer bins reach to infinity.
    mean: the Gaussian's mean, of x0's shape.
    std: its standard deviation, a scalar or one per example.
    levels: number of pixel values.
  """
  std = expand(std, x0)
  half = 1 / (levels - 1)
  upper = jnp.where(x0 > 1 - half, jnp.inf, (x0 + half - mean) / std)
  lower = jnp.where(x0 < -1 + half, -jnp.inf, (x0 - half - mean) / std)
  # In the upper tail both ends mirror, so that the difference of the two tails keeps its digits.
  mirror = lower > 0
  upper, lower = jnp.where(mirror, -lower, upper), jnp.where(mirror, -upper, lower)
  log_upper, log_lower = jax.scipy.special.log_ndtr(upper), jax.scipy.special.log_ndtr(lower)
  gap = jnp.where(jnp.isneginf(log_lower), -jnp.inf, log_lower - log_upper)
  return -(log_upper + jnp.log(-jnp.expm1(gap)))
