"""What a sampler is, and the walk along a grid of times.

A sampler is a step from any time t to another time s. A grid is a row of decreasing times. Walking it is
one loop with a dynamic bound, so that a sampler compiles once for every number of steps (grids are padded
to a common length), and can be cut anywhere: the carry is all there is.

Sample i draws everything from fold_in(key, i), so that it does not depend on the batch it is made in.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from diffjax import keys
from diffjax.denoisers import Denoiser
from diffjax.schedules import Schedule
from diffjax.types import Batch, Keys, Times

CAPACITY = 1024  # grids are padded to this length, or to the next power of two


class Carry(NamedTuple):
  """State between two steps: the sample x_t and whatever a multistep method remembers, examples on axis 0."""

  x: Batch
  memory: Any = ()


@dataclasses.dataclass(frozen=True)
class Sampler:
  """A solver.

  Attributes:
    step: (denoiser, schedule, carry, t, s, keys [B]) -> carry at s. Deterministic samplers accept s > t.
    order: the claimed global order of convergence (weak order for stochastic ones), or None.
    deterministic: whether a step draws nothing.
    start: x_T -> the first carry.
    evaluations: calls of the denoiser in a step; None where they depend on a tolerance.
    first: further calls in the first one.
  """

  step: Callable[[Denoiser, Schedule, Carry, Times, Times, Keys], Carry]
  order: int | None
  deterministic: bool
  start: Callable[[Batch], Carry] = Carry
  evaluations: int | None = 1
  first: int = 0


def padded(grid: np.ndarray) -> tuple[Float[Array, "n"], Int[Array, ""]]:
  """A grid padded with its last time to the common length, and its true length."""
  capacity = max(CAPACITY, 1 << (len(grid) - 1).bit_length())
  return jnp.asarray(np.pad(grid, (0, capacity - len(grid)), mode="edge")), jnp.asarray(len(grid))


def prior(schedule: Schedule, sample_keys: Keys, shape: tuple[int, ...], t: Times) -> Batch:
  """The noise [B, *shape] at t, where a grid starts, sample i from key i."""
  return schedule.prior_std(t) * keys.normal(keys.purpose(sample_keys, "prior"), shape)


def walk(
  denoiser: Denoiser,
  schedule: Schedule,
  sampler: Sampler,
  carry: Carry,
  grid: Float[Array, "n"],
  start: Int[Array, ""] | int,
  stop: Int[Array, ""] | int,
  sample_keys: Keys,
) -> Carry:
  """Takes the carry from grid[start] to grid[stop]; both may be traced."""
  step_keys = keys.purpose(sample_keys, "step")

  def body(k, carry):
    return sampler.step(denoiser, schedule, carry, grid[k], grid[k + 1], keys.fold(step_keys, k))

  return jax.lax.fori_loop(start, stop, body, carry)


def denoise_last(denoiser: Denoiser, xt: Batch, t: Times) -> Batch:
  """`final = "denoise"`: the sample is the estimated data at the grid's last time."""
  return denoiser(xt, t).x0


def leave_last(denoiser: Denoiser, xt: Batch, t: Times) -> Batch:
  """`final = "none"`: the sample is x_t itself."""
  return xt


class Final(NamedTuple):
  """What ends a sample.

  Attributes:
    sample: (denoiser, x_t, t at the grid's end) -> the sample.
    evaluations: calls of the denoiser.
  """

  sample: Callable[[Denoiser, Batch, Times], Batch]
  evaluations: int


FINALS: dict[str, Final] = {"denoise": Final(denoise_last, 1), "none": Final(leave_last, 0)}


def sample(
  denoiser: Denoiser,
  schedule: Schedule,
  sampler: Sampler,
  grid: Float[Array, "n"],
  length: Int[Array, ""] | int,
  key: Key[Array, ""],
  index: Int[Array, "b"],
  shape: tuple[int, ...],
  final: str = "denoise",
) -> Batch:
  """Draws samples.

  Args:
    denoiser: the denoiser.
    schedule: its schedule.
    sampler: one of SAMPLERS, made.
    grid: decreasing times, padded or not.
    length: the grid's true length.
    key: the key of the whole draw.
    index: [B] numbers of the samples; sample i is the same in every batch.
    shape: the shape of one sample.
    final: what ends it, one of FINALS.

  Returns:
    [B, *shape].
  """
  sample_keys = keys.of_examples(key, index)
  carry = sampler.start(prior(schedule, sample_keys, shape, grid[0]))
  carry = walk(denoiser, schedule, sampler, carry, grid, 0, length - 1, sample_keys)
  return FINALS[final].sample(denoiser, carry.x, grid[length - 1])
