"""What the exponential integrators share: the half log-SNR, the phi functions, and the multistep polynomial.

    lambda = logsnr / 2 = log(alpha / sigma)                                                          (1)
    phi_1(h) = (e^h - 1) / h,   phi_{k+1}(h) = (phi_k(h) - 1 / k!) / h                                (2)

With h = lambda_s - lambda_t, and D(lambda) the data estimated along the way, the exact solution is

    x_s = (sigma_s / sigma_t) x_t + alpha_s int_0^h e^(u - h) D(lambda_t + u) du                      (3)

where D is replaced by the polynomial through estimates: D_t + the sum of Newton's divided differences times
u (u - u_1) ..., and alpha_s int_0^h e^(u - h) u^k du = alpha_s k! h^(k+1) phi_{k+1}(-h)              (4)

An estimate that does not exist stands at lambda = -inf, and so do those made where alpha = 0: then 1 / u_k
vanishes, and the order is built up again without a special case.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp

from diffjax.gaussian import expand, transport
from diffjax.schedules import Schedule
from diffjax.types import Batch, Times


def half_logsnr(schedule: Schedule, t: Times) -> Times:
  """lambda(t), equation (1)."""
  return schedule.logsnr(t) / 2


def phi(k: int, h: Times) -> Times:
  """phi_k(h), equation (2), by its Taylor series near 0."""
  near = jnp.abs(h) < 0.5
  small, large = jnp.where(near, h, 0), jnp.where(near, 1, h)
  series = 1.0 / math.factorial(k + 13)
  for j in reversed(range(13)):
    series = series * small + 1.0 / math.factorial(k + j)
  value = jnp.expm1(large) / large
  for j in range(1, k):
    value = (value - 1.0 / math.factorial(j)) / large
  return jnp.where(near, series, value)


class Past(NamedTuple):
  """An estimate of the data and the half log-SNR [B] where it was made, -inf for none."""

  x0: Batch
  at: Times


def none(x: Batch, count: int) -> tuple[Past, ...]:
  """So many estimates that do not exist."""
  return (Past(jnp.zeros_like(x), jnp.full(x.shape[:1], -jnp.inf, x.dtype)),) * count


def estimated(denoiser, schedule: Schedule, x: Batch, t: Times) -> Past:
  """The estimate at t."""
  return Past(denoiser(x, t).x0, jnp.broadcast_to(half_logsnr(schedule, t), x.shape[:1]))


def inverse(gap: Times) -> Times:
  """1 / gap, or 0 where it is no number that can be divided by."""
  usable = jnp.isfinite(gap) & (gap != 0)
  return jnp.where(usable, 1, 0) / jnp.where(usable, gap, 1)


def multistep(
  schedule: Schedule, x: Batch, t: Times, s: Times, now: Past, others: tuple[Past, ...], middle: bool = False
) -> Batch:
  """x_s of equation (3) for the polynomial through the estimate at t and others, by (4).

  Args:
    schedule: the schedule.
    x: x_t.
    t: where the step begins.
    s: where it ends.
    now: the estimate at t.
    others: further ones, of which those that do not exist come last.
    middle: a polynomial that is only a line is replaced by its value in the middle of the step.
  """
  h = half_logsnr(schedule, s) - now.at
  h = jnp.where(jnp.isfinite(h), h, 0)
  gain = h * schedule.alpha_sigma(s)[0]
  moments = [math.factorial(k) * gain * h**k * phi(k + 1, -h) for k in range(len(others) + 1)]
  if middle:
    bent = jnp.isfinite(others[1].at) if len(others) > 1 else False
    moments[1] = jnp.where(bent, moments[1], h / 2 * moments[0])
  nodes, ending, product = (
    [now.at],
    [now.x0],
    [1.0],
  )  # `ending`: the divided differences that end with the last node
  xs = transport(schedule, now.x0, x, s, t)
  for other in others:
    u = jnp.where(jnp.isfinite(nodes[-1] - now.at), nodes[-1] - now.at, 0)
    product = [low - u * high for low, high in zip([0.0, *product], [*product, 0.0], strict=True)]
    nodes.append(other.at)
    differences = [other.x0]
    for first, before in zip(reversed(nodes[:-1]), ending, strict=True):
      differences.append(expand(inverse(other.at - first), x) * (differences[-1] - before))
    ending = differences
    weight = sum(c * moment for c, moment in zip(product, moments[: len(product)], strict=True))
    xs += expand(weight, x) * ending[-1]
  return xs
