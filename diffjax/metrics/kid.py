"""The kernel inception distance: an unbiased estimate of a squared maximum mean discrepancy.

    k(x, y) = (x . y / D + 1)^3                                                                       (1)

    MMD^2 = mean of k(x_i, x_j) over i != j + mean of k(y_i, y_j) over i != j - 2 mean of k(x_i, y_j) (2)

(Binkowski et al. 2018, section 4 and eq. 4; Gretton et al. 2012, eq. 3.) It may be negative. `kid` is the
mean of (2) over disjoint subsets. As they share no example they are independent, and the spread over them
gives a standard error that can be believed; subsets that overlap, as usual elsewhere, estimate the same
number, and their spread over the root of their number goes to zero with more of the same data.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from diffjax.metrics.moments import as_features
from diffjax.types import ConfigError


class Kid(NamedTuple):
  """A kernel distance.

  Attributes:
    value: the mean over the subsets.
    standard_error: of that mean.
    subsets: their number.
    subset_size: examples of each set in a subset.
  """

  value: float
  standard_error: float
  subsets: int
  subset_size: int


def kid(x: ArrayLike, y: ArrayLike, subset_size: int = 1000, seed: int = 0) -> Kid:
  """The kernel distance between two sets of features.

  Args:
    x: features [N, D].
    y: features [M, D].
    subset_size: examples that are compared at a time; the cost grows with N times this.
    seed: of the order in which examples are dealt to the subsets.

  Raises:
    ConfigError: the features are not finite or differ in dimension, or there are fewer than two subsets.
  """
  x, y = _pair(x, y)
  subsets = min(len(x), len(y)) // subset_size if subset_size > 1 else 0
  if subsets < 2:
    raise ConfigError(
      f"KID has {len(x)} and {len(y)} features and subsets of {subset_size}; its standard error needs at "
      "least 2 disjoint subsets of at least 2: choose a smaller subset size."
    )
  rng = np.random.Generator(np.random.Philox(seed))
  deal = lambda n: rng.permutation(n)[: subsets * subset_size].reshape(subsets, subset_size)
  values = [mmd2(x[i], y[j]) for i, j in zip(deal(len(x)), deal(len(y)), strict=True)]
  return Kid(float(np.mean(values)), float(np.std(values, ddof=1) / subsets**0.5), subsets, subset_size)


def mmd2(x: ArrayLike, y: ArrayLike, block: int = 4096) -> float:
  """Equation (2) over all pairs of two sets of features, in float64, `block` rows at a time.

  Raises:
    ConfigError: the features are not finite or differ in dimension, or a set has fewer than two.
  """
  x, y = _pair(x, y)
  if min(len(x), len(y)) < 2:
    raise ConfigError(f"an unbiased MMD needs 2 features of each set, and there are {len(x)} and {len(y)}.")
  return _within(x, block) + _within(y, block) - 2 * _sum(x, y, block) / (len(x) * len(y))


def _kernel(dot: np.ndarray, dim: int) -> np.ndarray:
  """Equation (1) of inner products."""
  base = dot / dim + 1
  return base * base * base


def _sum(x: np.ndarray, y: np.ndarray, block: int) -> float:
  """The sum of k over all pairs."""
  starts = range(0, len(x), block)
  return float(sum(_kernel(x[i : i + block] @ y.T, x.shape[1]).sum() for i in starts))


def _within(x: np.ndarray, block: int) -> float:
  """The mean of k over the pairs of different examples."""
  own = _kernel(np.einsum("nd,nd->n", x, x), x.shape[1]).sum()
  return (_sum(x, x, block) - float(own)) / (len(x) * (len(x) - 1))


def _pair(x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
  x, y = as_features(x), as_features(y)
  if x.shape[1] != y.shape[1]:
    raise ConfigError(
      f"the first set has {x.shape[1]} features and the second {y.shape[1]}; both must come from the same "
      "feature network."
    )
  return x, y
