"""Who draws what: one key per example, whatever the batch, the devices or the processes.

Example i of the global batch of a step draws from fold_in(fold_in(seed, step), i), and sample i from
fold_in(key, i); each purpose (time, noise, dropout, ...) then folds in a number of its own. All keys are
threefry, so a draw is the same bit for bit however the batch is cut.
"""

import dataclasses
import functools
import zlib

import jax
from jax.typing import ArrayLike
from jaxtyping import Array, Int, Key

from diffjax.types import Batch, Keys, PerExample


def seed(value: int) -> Key[Array, ""]:
  """The threefry key of an integer seed."""
  return jax.random.key(value, impl="threefry2x32")


def fold(keys: Keys, data) -> Keys:
  """fold_in for every key of the batch; `data` is one integer or one per key ([B])."""
  axis = 0 if getattr(data, "ndim", 0) else None
  return jax.vmap(jax.random.fold_in, in_axes=(0, axis))(keys, data)


def of_examples(key: Key[Array, ""], index) -> Keys:
  """Keys [B] of the examples with these global indices ([B] integers)."""
  return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, index)


def purpose(keys: Keys, name: str) -> Keys:
  """The keys [B] of one named use; different names give independent streams."""
  return fold(keys, zlib.crc32(name.encode()))


def normal(keys: Keys, shape: tuple[int, ...], dtype=float) -> Batch:
  """Standard normal noise [B, *shape], row i from key i."""
  return jax.vmap(lambda key: jax.random.normal(key, shape, dtype))(keys)


def uniform(keys: Keys, dtype=float) -> PerExample:
  """Uniform numbers in [0, 1), shape [B]."""
  return jax.vmap(lambda key: jax.random.uniform(key, dtype=dtype))(keys)


@functools.partial(
  jax.tree_util.register_dataclass, data_fields=["key", "index", "step"], meta_fields=["size"]
)
@dataclasses.dataclass(frozen=True)
class Draws:
  """The randomness of one training step.

  Attributes:
    key: the step's key, fold_in(seed, step); what the whole batch shares comes from here.
    index: [B] positions in the global batch of the examples at hand.
    size: the global batch size.
    step: the number of steps taken so far, for losses that change over training.
  """

  key: Key[Array, ""]
  index: Int[Array, "b"]
  size: int
  step: Int[ArrayLike, ""] = 0

  def keys(self, name: str) -> Keys:
    """Keys [B] of one named use."""
    return purpose(of_examples(self.key, self.index), name)

  def shared(self, name: str) -> Key[Array, ""]:
    """One key for the whole global batch."""
    return jax.random.fold_in(self.key, zlib.crc32(name.encode()))
