"""What a run is at one moment, and nothing else: saved and restored whole."""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, Key, UInt32

from diffjax.types import Params


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=["step", "params", "ema", "opt_state", "key", "memory"],
  meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class TrainState:
  """The state of training.

  Attributes:
    step: number of steps taken.
    params: the parameters.
    ema: moving averages of the parameters, by name.
    opt_state: optax's state.
    key: the seed's key, constant; the key of a step is fold_in(key, step).
    memory: what the task remembers of its losses, () for nothing.
  """

  step: Int[Array, ""]
  params: Params
  ema: dict[str, Params]
  opt_state: optax.OptState
  key: Key[Array, ""]
  memory: Any = ()


def create(
  params: Params,
  optimizer: optax.GradientTransformation,
  averages: Iterable[str],
  key: Key[Array, ""],
  memory: Any = (),
) -> TrainState:
  """The state before the first step; every average, named here, starts at the parameters themselves."""
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    # Copies: a donated buffer must not stand twice in one state.
    ema={name: jax.tree.map(jnp.copy, params) for name in averages},
    opt_state=optimizer.init(params),
    key=key,
    memory=memory,
  )


CHECKSUM = "murmur3 sum"  # what `checksum` computes, saved beside its numbers


def mixed(word: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
  """MurmurHash3's last step (Appleby 2011), a bijection in which every bit of a word moves every bit."""
  for factor, shift in ((1, 16), (0x85EBCA6B, 13), (0xC2B2AE35, 16)):
    word = word * jnp.uint32(factor)
    word ^= word >> shift
  return word


@jax.jit
def checksum(leaf: Array) -> UInt32[Array, ""]:
  """A uint32 that any change of the numbers changes, computed where the array lives.

  sum of mixed(word_i ^ mixed(i)) modulo 2^32: a change of one word is seen always, of several but for one case in
  2^32, sign flips and numbers that change places among them. Integer sums do not depend on the order, so any sharding
  of the same numbers gives the same checksum.
  """
  if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    leaf = jax.random.key_data(leaf)
  if leaf.dtype == jnp.bool_:
    leaf = leaf.astype(jnp.uint8)
  # A word has at most 32 bits; wider numbers are several.
  words = jax.lax.bitcast_convert_type(leaf, jnp.dtype(f"uint{min(8 * leaf.dtype.itemsize, 32)}")).ravel()
  place = jax.lax.iota(jnp.uint32, words.size)
  return jnp.sum(mixed(words.astype(jnp.uint32) ^ mixed(place)), dtype=jnp.uint32)


def fingerprint(tree) -> dict[str, Array]:
  """The checksum of every leaf, by its path; leaves of one shape share what is compiled."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {jax.tree_util.keystr(path): checksum(leaf) for path, leaf in leaves}
