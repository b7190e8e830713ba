"""DPM-Solver++, multistep (Lu et al. 2022b, algorithm 2 and, for the SDE, section 5).

With lambda = log(alpha / sigma) and h = lambda_s - lambda_t, in terms of the estimated data D(lambda),

    ODE   x_s = (sigma_s / sigma_t) x_t + alpha_s int_0^h e^(u - h) D(lambda_t + u) du                (1)
    SDE   x_s = (sigma_s / sigma_t) e^-h x_t + 2 alpha_s int_0^h e^(2 (u - h)) D du
                + sigma_s sqrt(1 - e^-2h) z                                                           (2)

For a constant D these are DDIM's step and ancestral sampling with the small variance, gaussian.py's equation (3).
D is the polynomial through the last estimates, exponential.py's, of order 2 its value in the middle of the step
(their midpoint form). With r_0 = (lambda_t - lambda_1) / h for the estimate D_1 one step earlier,

    2M      (1) with D + (D - D_1) / (2 r_0), constant
    3M      (1) with the quadratic through D, D_1 and D_2
    2M SDE  (2) with D + (D - D_1) / (2 r_0), constant                                                (3)

The estimates are carried from step to step. The first step is of order 1, so that 3M is of global order 2 as 2M is.
"""

import jax.numpy as jnp

from diffjax import keys as draws
from diffjax.gaussian import expand, posterior_mean, posterior_variance
from diffjax.samplers.base import Carry, Sampler
from diffjax.samplers.exponential import estimated, half_logsnr, inverse, multistep, none


def dpmpp_2m() -> Sampler:
  """DPM-Solver++(2M), its midpoint form."""

  def step(denoiser, schedule, carry, t, s, keys):
    now = estimated(denoiser, schedule, carry.x, t)
    return Carry(multistep(schedule, carry.x, t, s, now, carry.memory, middle=True), (now,))

  return Sampler(step, order=2, deterministic=True, start=lambda x: Carry(x, none(x, 1)))


def dpmpp_3m() -> Sampler:
  """DPM-Solver++(3M), with the exact integral of the quadratic.

  The authors' code and those made from it have half the quadratic term, and there the order does not rise
  above 2 even with an exact start.
  """

  def step(denoiser, schedule, carry, t, s, keys):
    now = estimated(denoiser, schedule, carry.x, t)
    return Carry(multistep(schedule, carry.x, t, s, now, carry.memory), (now, carry.memory[0]))

  return Sampler(step, order=2, deterministic=True, start=lambda x: Carry(x, none(x, 2)))


def dpmpp_2m_sde() -> Sampler:
  """SDE-DPM-Solver++(2M), its midpoint form."""

  def step(denoiser, schedule, carry, t, s, keys):
    x, (past,) = carry
    now = estimated(denoiser, schedule, x, t)
    h = half_logsnr(schedule, s) - now.at
    half = jnp.where(jnp.isfinite(h), h, 0) / 2 * inverse(now.at - past.at)
    x0 = now.x0 + expand(half, x) * (now.x0 - past.x0)
    std = expand(jnp.sqrt(posterior_variance(schedule, s, t)), x)
    noise = draws.normal(keys, x.shape[1:], x.dtype)
    return Carry(posterior_mean(schedule, x0, x, s, t) + std * noise, (now,))

  return Sampler(step, order=2, deterministic=False, start=lambda x: Carry(x, none(x, 1)))
