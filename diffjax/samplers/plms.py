"""PLMS, the pseudo linear multistep method (Liu et al. 2022, equations 9 and 12).

The step of DDIM carries not the noise e = eps(x_t, t) but Adams and Bashforth's extrapolation of it,

    x_s = alpha_s x0 + sigma_s e',   alpha_t x0 + sigma_t e' = x_t                                    (1)
    e' = e + (1/2) d e + (5/12) d^2 e + (3/8) d^3 e                                                   (2)

in backward differences, d e_n = e_n - e_(n-1); that is (55 e - 59 e_1 + 37 e_2 - 9 e_3) / 24. The differences
are in the steps' number, of which the grid must be a smooth function. (1) gives e' the whole change of sigma / alpha,
which is not even from step to step: the global order is 2, though that of (2) is 4.

The order is built up from DDIM's step, with one evaluation a step, or from Heun's, e' = (e + e(x_s, s)) / 2 with x_s
of DDIM, which takes one evaluation more (Stable Diffusion's PLMS; diffusers' PNDM with skip_prk_steps); their F-PNDM
starts with three steps of a pseudo Runge-Kutta method, of four evaluations each. Where alpha_t = 0 the step is DDIM's,
and the past begins after it.
"""

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from diffjax.gaussian import expand, implied_eps, transport
from diffjax.ranges import one_of
from diffjax.samplers.base import Carry, Sampler
from diffjax.types import Batch, PerExample

WEIGHTS = (1 / 2, 5 / 12, 3 / 8)
BEGINNINGS = ("ddim", "heun")


class Past(NamedTuple):
  """e and its backward differences at the step before, and how many estimates they come from [B]."""

  differences: tuple[Batch, ...]
  count: PerExample


def plms(begin: Annotated[str, one_of(BEGINNINGS)] = "ddim") -> Sampler:
  """PLMS of order 4 in e, of global order 2; `begin` is the first step's method, one of BEGINNINGS."""

  def start(x):
    return Carry(x, Past((jnp.zeros_like(x),) * len(WEIGHTS), jnp.zeros_like(x, shape=x.shape[:1])))

  def step(denoiser, schedule, carry, t, s, keys):
    x, past = carry
    x0 = denoiser(x, t).x0
    differences, lead = [implied_eps(schedule, x0, x, t)], 0
    for order, (weight, before) in enumerate(zip(WEIGHTS, past.differences, strict=True), 1):
      differences.append(differences[-1] - before)
      lead += expand(jnp.where(past.count >= order, weight, 0), x) * differences[-1]
    alpha, sigma = schedule.alpha_sigma(t)
    interior = alpha > 0
    r = jnp.where(interior, sigma / jnp.where(interior, alpha, 1), 0)

    def ahead(x):
      there = transport(schedule, x0, x, s, t)
      return (implied_eps(schedule, denoiser(there, s).x0, there, s) - differences[0]) / 2

    if begin == "heun":
      first = (past.count == 0) & interior
      heun = jax.lax.cond(jnp.any(first), ahead, jnp.zeros_like, x)
      lead = jnp.where(first.reshape(-1, *[1] * (x.ndim - 1)), heun, lead)
    xs = transport(schedule, x0 - expand(r, x) * lead, x, s, t)
    return Carry(xs, Past(tuple(differences[:-1]), jnp.where(interior, past.count + 1, 0)))

  return Sampler(step, order=2, deterministic=True, start=start, first=int(begin == "heun"))
