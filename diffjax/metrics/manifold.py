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
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from numpy.typing import ArrayLike

from diffjax.metrics.moments import as_features
from diffjax.types import ConfigError

BLOCK = 1024
NEAREST = {
  "precision_recall": 3,
  "density_coverage": 5,
}  # k of the k-th neighbour: the papers', and the defaults


class PrecisionRecall(NamedTuple):
  """Equations (1) and (2), both in [0, 1]."""

  precision: float
  recall: float


class DensityCoverage(NamedTuple):
  """Equations (3), at least 0, and (4), in [0, 1]."""

  density: float
  coverage: float


def neighbours(
  real: ArrayLike, generated: ArrayLike, k: Mapping[str, int] = NEAREST, block: int = BLOCK
) -> dict[str, float]:
  """Improved precision and recall, density and coverage, as `k` names them, from distances that are computed once.

  Args:
    real: features of the data [N, D].
    generated: features of the samples [M, D].
    k: by name, one or both of NEAREST's, which nearest neighbour the balls reach to.
    block: rows of distances that are held at a time.

  Raises:
    ConfigError: the features are not finite or differ in dimension, or a set has at most k of them.
  """
  real, generated = _pair(real, generated, k.values())
  radii = radii2(real, tuple(k.values()), block)
  recalls = "precision_recall" in k
  own = radii2(generated, (k["precision_recall"],), block)[0] if recalls else np.full(len(generated), -1.0)
  balls, occupied, inside = _membership(real, radii, generated, own.astype(np.float32), block)
  values = {}
  for i, name in enumerate(k):
    if name == "precision_recall":
      values |= PrecisionRecall(float((balls[i] > 0).mean()), float(inside.mean()))._asdict()
    else:
      values |= DensityCoverage(float(balls[i].mean() / k[name]), float(occupied[i].mean()))._asdict()
  return values


def precision_recall(
  real: ArrayLike, generated: ArrayLike, k: int = NEAREST["precision_recall"], block: int = BLOCK
) -> PrecisionRecall:
  """Improved precision and recall alone; see `neighbours` for the arguments and errors."""
  return PrecisionRecall(**neighbours(real, generated, {"precision_recall": k}, block))


def density_coverage(
  real: ArrayLike, generated: ArrayLike, k: int = NEAREST["density_coverage"], block: int = BLOCK
) -> DensityCoverage:
  """Density and coverage alone; see `neighbours` for the arguments and errors."""
  return DensityCoverage(**neighbours(real, generated, {"density_coverage": k}, block))


def radii2(
  features: Float[np.ndarray, "n d"], ks: tuple[int, ...], block: int = BLOCK
) -> Float[np.ndarray, "k n"]:
  """Squared distances of each feature to its k-th nearest other one, a row for every k."""
  whole = jnp.asarray(features)
  rows, size = _blocks(features, block)
  parts = [_nearest(whole, jnp.asarray(row), i * size, ks) for i, row in enumerate(rows)]
  return np.concatenate(parts, axis=1)[:, : len(features)]


def _membership(centres, radii, points, own, block):
  """How many balls hold each point, [K, M], and which hold any, [K, N], for every row of radii [K, N].

  And which centres lie in a ball around a point, [N], whose radii are `own`, [M].
  """
  balls, whole, radii = [], jnp.asarray(centres), jnp.asarray(radii)
  occupied, inside = np.zeros(radii.shape, bool), np.zeros(len(centres), bool)
  rows, size = _blocks(points, block)
  owned, _ = _blocks(own[:, None], block)
  for i, (row, reach) in enumerate(zip(rows, owned[..., 0], strict=True)):
    mask = np.arange(i * size, (i + 1) * size) < len(points)  # the last block is padded
    count, some, around = _inside(whole, radii, jnp.asarray(row), jnp.asarray(reach), mask)
    balls.append(count)
    occupied |= np.asarray(some)
    inside |= np.asarray(around)
  return np.concatenate(balls, axis=1)[:, : len(points)], occupied, inside


def _blocks(features, block):
  """Blocks of rows, the last padded, and their size."""
  size = min(block, len(features))
  padded = np.pad(features, ((0, -len(features) % size), (0, 0)))
  return padded.reshape(-1, size, features.shape[1]), size


def _distances2(x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, "n m"]:
  """Squared distances of all pairs."""
  dot = jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)
  return jnp.maximum(jnp.sum(x * x, axis=1)[:, None] + jnp.sum(y * y, axis=1) - 2 * dot, 0)


@functools.partial(jax.jit, static_argnames="ks")
def _nearest(
  whole: Float[Array, "n d"], rows: Float[Array, "b d"], start: int, ks: tuple[int, ...]
) -> Float[Array, "k b"]:
  """The k-th smallest squared distances of rows start, start + 1, ... to all others."""
  distances = _distances2(rows, whole)
  itself = jnp.arange(len(rows))[:, None] + start == jnp.arange(len(whole))
  smallest = -jax.lax.top_k(-jnp.where(itself, jnp.inf, distances), max(ks))[0]
  return jnp.stack([smallest[:, k - 1] for k in ks])


@jax.jit
def _inside(
  centres: Float[Array, "n d"],
  radii: Float[Array, "k n"],
  points: Float[Array, "b d"],
  own: Float[Array, "b"],
  mask: Bool[Array, "b"],
) -> tuple[Int[Array, "k b"], Bool[Array, "k n"], Bool[Array, "n"]]:
  distances = _distances2(points, centres)
  inside = (distances <= radii[:, None]) & mask[:, None]
  around = (distances <= own[:, None]) & mask[:, None]
  return jnp.sum(inside, axis=2), jnp.any(inside, axis=1), jnp.any(around, axis=0)


def _pair(real: ArrayLike, generated: ArrayLike, ks: Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
  """Both sets as float32, moved to the mean of the real ones."""
  real, generated = as_features(real), as_features(generated)
  if real.shape[1] != generated.shape[1]:
    raise ConfigError(
      f"the real set has {real.shape[1]} features and the generated {generated.shape[1]}; both must come "
      "from the same feature network."
    )
  for k in ks:
    if not 1 <= k < min(len(real), len(generated)):
      raise ConfigError(
        f"k is {k} with {len(real)} real and {len(generated)} generated features; it must be at least 1 and "
        "less than both."
      )
  centre = real.mean(axis=0)
  return (real - centre).astype(np.float32), (generated - centre).astype(np.float32)
