"""Pixels of few levels: images in [-1, 1] whose values are L evenly spaced ones, whatever uint8 they are stored as.

    x0 = 2 k / (L - 1) - 1,  k = 0..L-1                                                              (1)
    y = (k + u) / L,  u uniform in [0, 1), which fills [0, 1)                                         (2)
    -log2 P(k) <= -log2 p(y) + log2 L, in expectation                 (Theis et al. 2016, eq. 6)      (3)

A density that is smooth over two levels pays log2(256 / L) bits too much where images of L levels are taken for 256.
"""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from diffjax.ranges import closed
from diffjax.types import Batch, Keys

Levels = Annotated[int, closed(2, 256)]


def between(images: UInt8[np.ndarray, "*dims"], levels: int) -> np.ndarray:
  """The grey values of 255 that are there and none of `levels` evenly spaced ones, each rounded to a whole number."""
  grey = np.unique(images)
  nearest = np.round(np.round(grey / 255 * (levels - 1)) / (levels - 1) * 255)
  return grey[np.abs(grey - nearest) > 1]


def ranks(x0: Batch, levels: int) -> Int[Array, "b *dims"]:
  """k of equation (1), the nearest."""
  return jnp.clip(jnp.round((x0 + 1) / 2 * (levels - 1)), 0, levels - 1).astype(jnp.int32)


def values(rank: Int[Array, "*dims"], levels: int) -> Float[Array, "*dims"]:
  """Equation (1)."""
  return 2 * rank.astype(jnp.float32) / (levels - 1) - 1


def dequantised(x0: Batch, levels: int, example_keys: Keys) -> Batch:
  """Equation (2), example i by key i."""
  u = jax.vmap(lambda key: jax.random.uniform(key, (x0[0].size,)))(example_keys).reshape(x0.shape)
  return (ranks(x0, levels) + u) / levels


def quantised(y: Batch, levels: int) -> Batch:
  """x0 of the level that y lies in, the inverse of (2); what is outside [0, 1) gets the nearest."""
  return values(jnp.clip(jnp.floor(y * levels), 0, levels - 1), levels)
