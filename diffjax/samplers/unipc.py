"""UniPC: each estimate corrects the step that led to it, before it predicts the next (Zhao et al. 2023).

In the notation of exponential.py, with x_t predicted from x_r, corrected at r, and D_t = D(x_t predicted, t),

    UniC-p  x_t corrected: (3) from r, for the polynomial through D_r, D_t and the p - 1 estimates before
    UniP-p  x_s predicted: (3) from x_t corrected, for that through D_t and the p - 1 estimates before  (1)

with their B_2(h) = e^h - 1, which shows only where the polynomial is a line: its value in the middle of the step
stands for it. One evaluation a step, and none for correcting the last: the sample is D of what was predicted there.
UniPC-p is of order p + 1 once it has its past. The first step, UniPC-1, is of order 2, so that of UniPC-2 and
UniPC-3 the global order is 3.
"""

from typing import NamedTuple

import jax.numpy as jnp

from diffjax.gaussian import expand
from diffjax.samplers.base import Carry, Sampler
from diffjax.samplers.exponential import Past, estimated, multistep, none
from diffjax.types import Batch, PerExample


class Memory(NamedTuple):
  """The last x after its correction, its time [B], and the last estimates, the newest first."""

  x: Batch
  t: PerExample
  past: tuple[Past, ...]


def _unipc(order: int) -> Sampler:
  def start(x):
    return Carry(x, Memory(x, jnp.ones_like(x, shape=x.shape[:1]), none(x, order)))

  def step(denoiser, schedule, carry, t, s, keys):
    x, (before, r, (last, *older)) = carry
    now = estimated(denoiser, schedule, x, t)
    corrected = multistep(schedule, before, r, t, last, (now, *older), middle=True)
    x = jnp.where(expand(last.at, x) > -jnp.inf, corrected, x)
    history = (last, *older)[: order - 1]
    xs = multistep(schedule, x, t, s, now, history, middle=True)
    time = jnp.broadcast_to(jnp.asarray(t, x.dtype), x.shape[:1])
    return Carry(xs, Memory(x, time, (now, *history)))

  return Sampler(step, order=3, deterministic=True, start=start)


def unipc_2() -> Sampler:
  """UniPC-2."""
  return _unipc(2)


def unipc_3() -> Sampler:
  """UniPC-3."""
  return _unipc(3)
