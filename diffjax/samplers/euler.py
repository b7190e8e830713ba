"""Euler and Heun on the probability-flow ODE, with EDM's churn (Karras et al. 2022, algorithms 1 and 2).

In r = sigma / alpha and z = x / alpha the ODE is free of the schedule,

    dz / dr = eps(x_t, t),   eps = (x_t - alpha_t D(x_t, t)) / sigma_t                                (1)

so that one solver serves every scale rule. Multiplied by alpha_s, with e_t the noise at t and e_s the
noise at Euler's endpoint,

    Euler   x_s = alpha_s D + sigma_s e_t                                                             (2)
    Heun    x_s = (2) + alpha_s (r_s - r_t) / 2 (e_s - e_t)                                           (3)

Where alpha_t = 0 (r_t infinite) Heun's step is Euler's. Churn first diffuses x_t forward to the time where
r is (1 + churn) r_t, or to t = 1 if that is nearer, and steps from there.
"""

import math
from typing import Annotated

import jax.numpy as jnp

from diffjax import keys as draws
from diffjax.denoisers import Denoiser
from diffjax.gaussian import expand, implied_eps, transition_variance, transport
from diffjax.ranges import NotNegative, at_least, or_infinite
from diffjax.samplers.base import Carry, Sampler
from diffjax.schedules import Schedule
from diffjax.types import Batch, ConfigError, Times


def _euler(denoiser: Denoiser, schedule: Schedule, x: Batch, t: Times, s: Times) -> Batch:
  return transport(schedule, denoiser(x, t).x0, x, s, t)


def _heun(denoiser: Denoiser, schedule: Schedule, x: Batch, t: Times, s: Times) -> Batch:
  x0 = denoiser(x, t).x0
  first = transport(schedule, x0, x, s, t)
  change = implied_eps(schedule, denoiser(first, s).x0, first, s) - implied_eps(schedule, x0, x, t)
  alpha_t, sigma_t = schedule.alpha_sigma(t)
  alpha_s, sigma_s = schedule.alpha_sigma(s)
  interior = alpha_t > 0
  span = sigma_s - sigma_t * alpha_s / jnp.where(interior, alpha_t, 1)
  return first + expand(jnp.where(interior, span / 2, 0), x) * change


def _churned(solver, churn, sigma_min, sigma_max, noise_scale):
  if sigma_min > sigma_max:
    raise ConfigError(
      f"sigma_min is {sigma_min} and sigma_max {sigma_max}; sigma_min <= sigma_max is needed."
    )

  def step(denoiser, schedule, carry, t, s, keys):
    if churn == 0:
      return Carry(solver(denoiser, schedule, carry.x, t, s))
    x, r = carry.x, jnp.exp(-schedule.logsnr(t) / 2)
    active = (r >= sigma_min) & (r <= sigma_max) & jnp.isfinite(r)
    later = jnp.where(active, schedule.t_of(schedule.logsnr(t) - 2 * math.log1p(churn)), t)
    ratio = jnp.where(active, schedule.alpha_sigma(later)[0] / schedule.alpha_sigma(t)[0], 1)
    std = jnp.sqrt(jnp.where(active, jnp.maximum(transition_variance(schedule, t, later), 0), 0))
    noise = draws.normal(keys, x.shape[1:], x.dtype)
    x = expand(ratio, x) * x + expand(noise_scale * std, x) * noise
    return Carry(solver(denoiser, schedule, x, later, s))

  return step


def euler(
  churn: NotNegative = 0.0,
  sigma_min: NotNegative = 0.0,
  sigma_max: Annotated[float, or_infinite(at_least(0))] = math.inf,
  noise_scale: NotNegative = 1.0,
) -> Sampler:
  """Euler's method, DDIM when there is no churn.

  Args:
    churn: EDM's gamma, min(S_churn / N, sqrt(2) - 1) for N steps; 0 is deterministic.
    sigma_min: smallest sigma / alpha that is churned, S_tmin.
    sigma_max: largest, S_tmax.
    noise_scale: S_noise.

  Raises:
    ConfigError: sigma_min above sigma_max.
  """
  step = _churned(_euler, churn, sigma_min, sigma_max, noise_scale)
  return Sampler(step, order=None if churn else 1, deterministic=churn == 0)


def heun(
  churn: NotNegative = 0.0,
  sigma_min: NotNegative = 0.0,
  sigma_max: Annotated[float, or_infinite(at_least(0))] = math.inf,
  noise_scale: NotNegative = 1.0,
) -> Sampler:
  """Heun's method, EDM's sampler; the arguments are those of `euler`."""
  step = _churned(_heun, churn, sigma_min, sigma_max, noise_scale)
  return Sampler(step, order=None if churn else 2, deterministic=churn == 0, evaluations=2)
