"""DPM-Solver++, multistep (Lu et al. 2022b, algorithm 2 and, for the SDE, section 5).

With lambda = log(alpha / sigma) and h = lambda_s - lambda_t, in terms of the estimated data D(lambda),

    ODE   x_s = (sigma_s / sigma_t) x_t + alpha_s int_0^h e^(u - h) D(lambda_t + u) du                (1)
    SDE   x_s = (sigma_s / sigma_t) e^-h x_t + 2 alpha_s int_0^h e^(2 (u - h)) D du
                + sigma_s sqrt(1 - e^-2h) z                                                           (2)

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
from diffjax.gaussian import expand
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


def _shrunk(schedule, x, t, s):
  return expand(schedule.alpha_sigma(s)[1] / schedule.alpha_sigma(t)[1], x) * x


def dpmpp_2m() -> Sampler:
  """DPM-Solver++(2M), its midpoint form."""

  def step(denoiser, schedule, carry, t, s, keys):
    x, (past,) = carry
    now, h = _now(denoiser, schedule, x, t, s)
    x0 = now.x0 + _slope(x, now, past, h) / 2
    gain = expand(-schedule.alpha_sigma(s)[0] * jnp.expm1(-h), x)
    return Carry(_shrunk(schedule, x, t, s) + gain * x0, (now,))

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
    weights = (jnp.where(finite, -jnp.expm1(-h), 1), length * phi(2, -length), 2 * length * phi(3, -length))
    alpha = schedule.alpha_sigma(s)[0]
    one, two, three = (expand(alpha * w, x) for w in weights)
    moved = one * now.x0 + two * (slope + share * bend) + three * bend
    return Carry(_shrunk(schedule, x, t, s) + moved, (now, past))

  return Sampler(step, order=2, deterministic=True, start=_start(2))


def dpmpp_2m_sde() -> Sampler:
  """SDE-DPM-Solver++(2M), its midpoint form."""

  def step(denoiser, schedule, carry, t, s, keys):
    x, (past,) = carry
    now, h = _now(denoiser, schedule, x, t, s)
    x0 = now.x0 + _slope(x, now, past, h) / 2
    alpha, sigma = schedule.alpha_sigma(s)
    lost = -jnp.expm1(-2 * h)
    noise = draws.normal(keys, x.shape[1:], x.dtype)
    mean = expand(jnp.exp(-h), x) * _shrunk(schedule, x, t, s) + expand(alpha * lost, x) * x0
    return Carry(mean + expand(sigma * jnp.sqrt(lost), x) * noise, (now,))

  return Sampler(step, order=2, deterministic=False, start=_start(1))
