"""DPM-Solver, singlestep (Lu et al. 2022a, algorithms 1 and 2 and equation 3.7).

With lambda = log(alpha / sigma), h = lambda_s - lambda_t and e_t = eps(x_t, t), the exact solution is

    x_s = (alpha_s / alpha_t) x_t - sigma_s int_0^h e^(h - u) eps(lambda_t + u) du                    (1)

Order k replaces eps by its Taylor polynomial, whose derivatives come from k - 1 stages in between, at the
fractions 1/2 (order 2), and 1/3 and 2/3 (order 3). Every stage is the first-order step and a correction:

    1   x_s = alpha_s D + sigma_s e_t                                        (DDIM)                   (2)
    2   (2) - sigma_s h phi_1(h) (e_(1/2) - e_t)                                                      (3)
    3   (2) - sigma_s (3h/2) phi_2(h) (e_(2/3) - e_t), with at the fraction 2/3
        (2) - sigma (4h/3) phi_2(2h/3) (e_(1/3) - e_t)                                                (4)

Where alpha = 0 at either end (h infinite) the corrections are left out.
"""

import jax.numpy as jnp

from diffjax.gaussian import expand, implied_eps, transport
from diffjax.samplers.base import Carry, Sampler
from diffjax.samplers.exponential import half_logsnr, phi


def _stages(denoiser, schedule, x, t, s):
  """h (0 where it is infinite), and three functions: fraction -> time, the step there, e there less e_t."""
  start, end = half_logsnr(schedule, t), half_logsnr(schedule, s)
  finite = jnp.isfinite(end - start)
  h, start = jnp.where(finite, end - start, 0), jnp.where(finite, start, end)
  x0 = denoiser(x, t).x0
  eps = implied_eps(schedule, x0, x, t)

  def time_of(share):
    return schedule.t_of(2 * (start + share * h))

  def move(u, weight=0.0, change=0.0):
    correction = expand(schedule.alpha_sigma(u)[1] * weight, x) * change
    return transport(schedule, x0, x, u, t) - correction

  def change_at(x, u):
    return implied_eps(schedule, denoiser(x, u).x0, x, u) - eps

  return h, time_of, move, change_at


def dpm_solver_1() -> Sampler:
  """DPM-Solver-1, which is DDIM."""

  def step(denoiser, schedule, carry, t, s, keys):
    return Carry(transport(schedule, denoiser(carry.x, t).x0, carry.x, s, t))

  return Sampler(step, order=1, deterministic=True)


def dpm_solver_2() -> Sampler:
  """DPM-Solver-2, equation (3)."""

  def step(denoiser, schedule, carry, t, s, keys):
    h, time_of, move, change_at = _stages(denoiser, schedule, carry.x, t, s)
    half = time_of(1 / 2)
    return Carry(move(s, h * phi(1, h), change_at(move(half), half)))

  return Sampler(step, order=2, deterministic=True, evaluations=2)


def dpm_solver_3() -> Sampler:
  """DPM-Solver-3, equation (4)."""

  def step(denoiser, schedule, carry, t, s, keys):
    h, time_of, move, change_at = _stages(denoiser, schedule, carry.x, t, s)
    one, two = time_of(1 / 3), time_of(2 / 3)
    change = change_at(move(one), one)
    change = change_at(move(two, 4 * h / 3 * phi(2, 2 * h / 3), change), two)
    return Carry(move(s, 1.5 * h * phi(2, h), change))

  return Sampler(step, order=3, deterministic=True, evaluations=3)
