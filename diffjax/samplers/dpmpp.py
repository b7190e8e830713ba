"""DPM-Solver++, multistep (Lu et al. 2022b, algorithm 2 and, for the SDE, section 5).

With lambda = log(alpha / sigma) and h = lambda_s - lambda_t, in terms of the estimated data D(lambda),

    ODE   x_s = (sigma_s / sigma_t) x_t + alpha_s int_0^h e^(u - h) D(lambda_t + u) du                (1)
    SDE   x_s = (sigma_s / sigma_t) e^-h x_t + 2 alpha_s int_0^h e^(2 (u - h)) D du
                + sigma_s sqrt(1 - e^-2h) z                                                           (2)

For a constant D these are DDIM's step and ancestral sampling with the small variance, gaussian.py's equation (3).
D is the polynomial through the last estimates. With r_0 = (lambda_t - lambda_1) / h for the estimate D_1 one
step earlier and r_1 likewise for D_2,

    2M    (1) with D + (D - D_1) / (2 r_0), constant
    3M    (1) with D + (d + r_0 c) u / h + c u^2 / h^2,  d = (D - D_1) / r_0,
          c = (d - (D_1 - D_2) / r_1) / (r_0 + r_1)
    2M SDE  (2) with D + (D - D_1) / (2 r_0), constant                                                (3)

The estimates are carried from step to step. An estimate that does not exist stands at lambda = -inf, and so
do those made where alpha = 0: then 1 / r vanishes, and the order is built up again without a special case.
The first step is of order 1, so that 3M is of global order 2 as 2M is.
"""

from typing import NamedTuple

import jax.numpy as jnp

from diffjax import keys as draws
from diffjax.gaussian import expand, posterior_mean, posterior_variance, transport
from diffjax.samplers.base import Carry, Sampler
from diffjax.samplers.exponential import half_logsnr, phi
from diffjax.types import Batch, Times


class Past(NamedTuple):
  """An estimate of the data and the half log-SNR [B] where it was made, -inf for none."""

  x0: Batch
  at: Times


def _start(count: int):
  def start(x):
    return Carry(x, (Past(jnp.zeros_like(x), jnp.full(x.shape[:1], -jnp.inf, x.dtype)),) * count)

  return start


def _inverse_ratio(h: Times, at: Times, past: Past) -> Times:
  """h / (at - past.at), or 0 where either has no finite half log-SNR."""
  gap = at - past.at
  usable = jnp.isfinite(h) & jnp.isfinite(gap) & (gap != 0)
  return jnp.where(usable, h, 0) / jnp.where(usable, gap, 1)


def _now(denoiser, schedule, x, t, s):
  """The estimate at t and the length of the step."""
  now = Past(denoiser(x, t).x0, jnp.broadcast_to(half_logsnr(schedule, t), x.shape[:1]))
  return now, half_logsnr(schedule, s) - now.at


def _slope(x, now: Past, past: Past, h: Times) -> Batch:
  """(D - D_1) / r_0."""
  return expand(_inverse_ratio(h, now.at, past), x) * (now.x0 - past.x0)


def dpmpp_2m() -> Sampler:
  """DPM-Solver++(2M), its midpoint form."""

  def step(denoiser, schedule, carry, t, s, keys):
    x, (past,) = carry
    now, h = _now(denoiser, schedule, x, t, s)
    x0 = now.x0 + _slope(x, now, past, h) / 2
    return Carry(transport(schedule, x0, x, s, t), (now,))

  return Sampler(step, order=2, deterministic=True, start=_start(1))


def dpmpp_3m() -> Sampler:
  """DPM-Solver++(3M), with the exact integral of the quadratic.

  The authors' code and those made from it have half the quadratic term, and there the order does not rise
  above 2 even with an exact start.
  """

  def step(denoiser, schedule, carry, t, s, keys):
    x, (past, older) = carry
    now, h = _now(denoiser, schedule, x, t, s)
    finite = jnp.isfinite(h)
    slope, before = _slope(x, now, past, h), _slope(x, past, older, h)
    gap = jnp.where(finite, now.at - older.at, jnp.inf)  # h (r_0 + r_1)
    usable = finite & jnp.isfinite(gap) & (gap != 0)
    bend = expand(jnp.where(usable, h, 0) / jnp.where(usable, gap, 1), x) * (slope - before)
    share = expand(jnp.where(usable, now.at - past.at, 0) / jnp.where(usable & (h != 0), h, 1), x)
    length = jnp.where(finite, h, 0)
    gain = length * schedule.alpha_sigma(s)[0]
    two, three = expand(gain * phi(2, -length), x), expand(2 * gain * phi(3, -length), x)
    moved = two * (slope + share * bend) + three * bend
    return Carry(transport(schedule, now.x0, x, s, t) + moved, (now, past))

  return Sampler(step, order=2, deterministic=True, start=_start(2))


def dpmpp_2m_sde() -> Sampler:
  """SDE-DPM-Solver++(2M), its midpoint form."""

  def step(denoiser, schedule, carry, t, s, keys):
    x, (past,) = carry
    now, h = _now(denoiser, schedule, x, t, s)
    x0 = now.x0 + _slope(x, now, past, h) / 2
    std = expand(jnp.sqrt(posterior_variance(schedule, s, t)), x)
    noise = draws.normal(keys, x.shape[1:], x.dtype)
    return Carry(posterior_mean(schedule, x0, x, s, t) + std * noise, (now,))

  return Sampler(step, order=2, deterministic=False, start=_start(1))
