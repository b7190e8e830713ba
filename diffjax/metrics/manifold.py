"""Precision, recall, density and coverage: which images lie near which.

A set's manifold is the union of balls around its features, each reaching to the k-th nearest other feature
of the same set:

    precision   share of the generated inside the manifold of the real                                (1)
    recall      share of the real inside the manifold of the generated                                (2)
    density     mean over the generated of the number of real balls that hold it, over k              (3)
    coverage    share of the real balls that hold something generated                                 (4)

(1, 2: Kynkaanniemi et al. 2019, eq. 1 to 3, with k = 3 and VGG features there; 3, 4: Naeem et al. 2020, eq.
4 and 5, k = 5.) A ball holds its surface. All four depend on both sample sizes: compare equal sizes only.

Distances are computed on the device in blocks of rows, so that 50,000 x 50,000 never stands in memory, in
float32 from centred features at the highest matrix precision.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from numpy.typing import ArrayLike

from diffjax.metrics.moments import as_features
from diffjax.types import ConfigError

BLOCK = 1024


class PrecisionRecall(NamedTuple):
  """Equations (1) and (2), both in [0, 1]."""

  precision: float
  recall: float


class DensityCoverage(NamedTuple):
  """Equations (3), at least 0, and (4), in [0, 1]."""

  density: float
  coverage: float


def precision_recall(
  real: ArrayLike, generated: ArrayLike, k: int = 3, block: int = BLOCK
) -> PrecisionRecall:
  """Improved precision and recall of features [N, D] and [M, D].

  Args:
    real: features of the data.
    generated: features of the samples.
    k: which nearest neighbour the balls reach to.
    block: rows of distances that are held at a time.

  Raises:
    ConfigError: the features are not finite or differ in dimension, or a set has at most k of them.
  """
  real, generated = _pair(real, generated, k)
  precision = _held(real, radii2(real, k, block), generated, block)[0] > 0
  recall = _held(generated, radii2(generated, k, block), real, block)[0] > 0
  return PrecisionRecall(float(precision.mean()), float(recall.mean()))


def density_coverage(
  real: ArrayLike, generated: ArrayLike, k: int = 5, block: int = BLOCK
) -> DensityCoverage:
  """Density and coverage; see `precision_recall` for the arguments and errors."""
  real, generated = _pair(real, generated, k)
  balls, occupied = _held(real, radii2(real, k, block), generated, block)
  return DensityCoverage(float(balls.mean() / k), float(occupied.mean()))


def radii2(features: Float[np.ndarray, "n d"], k: int, block: int = BLOCK) -> Float[np.ndarray, "n"]:
  """Squared distance of each feature to its k-th nearest other one."""
  whole = jnp.asarray(features)
  rows, size = _blocks(features, block)
  parts = [_nearest(whole, jnp.asarray(row), i * size, k) for i, row in enumerate(rows)]
  return np.concatenate(parts)[: len(features)]


def _held(centres, radii, points, block):
  """How many balls hold each point [M], and which balls hold any [N]."""
  balls, whole, radii = [], jnp.asarray(centres), jnp.asarray(radii)
  occupied = np.zeros(len(centres), bool)
  rows, size = _blocks(points, block)
  for i, row in enumerate(rows):
    mask = np.arange(i * size, (i + 1) * size) < len(points)  # the last block is padded
    count, some = _inside(whole, radii, jnp.asarray(row), mask)
    balls.append(count)
    occupied |= np.asarray(some)
  return np.concatenate(balls)[: len(points)], occupied


def _blocks(features, block):
  """Blocks of rows, the last padded, and their size."""
  size = min(block, len(features))
  padded = np.pad(features, ((0, -len(features) % size), (0, 0)))
  return padded.reshape(-1, size, features.shape[1]), size


def _distances2(x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, "n m"]:
  """Squared distances of all pairs."""
  dot = jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)
  return jnp.maximum(jnp.sum(x * x, axis=1)[:, None] + jnp.sum(y * y, axis=1) - 2 * dot, 0)


@functools.partial(jax.jit, static_argnames="k")
def _nearest(whole: Float[Array, "n d"], rows: Float[Array, "b d"], start: int, k: int) -> Float[Array, "b"]:
  """The k-th smallest squared distance of rows start, start + 1, ... to all others."""
  distances = _distances2(rows, whole)
  itself = jnp.arange(len(rows))[:, None] + start == jnp.arange(len(whole))
  return -jax.lax.top_k(-jnp.where(itself, jnp.inf, distances), k)[0][:, -1]


@jax.jit
def _inside(
  centres: Float[Array, "n d"], radii: Float[Array, "n"], points: Float[Array, "b d"], mask: Bool[Array, "b"]
) -> tuple[Int[Array, "b"], Bool[Array, "n"]]:
  inside = (_distances2(points, centres) <= radii) & mask[:, None]
  return jnp.sum(inside, axis=1), jnp.any(inside, axis=0)


def _pair(real: ArrayLike, generated: ArrayLike, k: int) -> tuple[np.ndarray, np.ndarray]:
  """Both sets as float32, moved to the mean of the real ones."""
  real, generated = as_features(real), as_features(generated)
  if real.shape[1] != generated.shape[1]:
    raise ConfigError(
      f"the real set has {real.shape[1]} features and the generated {generated.shape[1]}; both must come "
      "from the same feature network."
    )
  if not 1 <= k < min(len(real), len(generated)):
    raise ConfigError(
      f"k is {k} with {len(real)} real and {len(generated)} generated features; it must be at least 1 and "
      "less than both."
    )
  centre = real.mean(axis=0)
  return (real - centre).astype(np.float32), (generated - centre).astype(np.float32)
