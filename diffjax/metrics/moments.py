"""The mean and the scatter of a stream of features, in float64 on the host.

A batch x [n, D] has the moments

    n,    m = (1/n) sum_i x_i,    S = sum_i (x_i - m)(x_i - m)^T                                      (1)

and two sets A and B together have (Chan, Golub & LeVeque 1983, eq. 2.1, for vectors), with d = m_B - m_A,

    n = n_A + n_B,    m = m_A + (n_B / n) d,    S = S_A + S_B + (n_A n_B / n) d d^T                   (2)

Nothing is squared before its mean is taken away, so a mean far from zero costs no digits, as it does in
sum x x^T - n m m^T. The order of the batches and how the data are cut change the result by round-off only.
"""

import dataclasses

import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike

from diffjax.types import ConfigError


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
  """What is known of the features seen so far, equation (1).

  Attributes:
    count: the number of feature vectors.
    mean: [D] their mean.
    scatter: [D, D] the sum of their centred outer products.
  """

  count: int
  mean: Float64[np.ndarray, "d"]
  scatter: Float64[np.ndarray, "d d"]

  @staticmethod
  def empty(dim: int) -> "Moments":
    """The moments of no data in `dim` dimensions."""
    return Moments(0, np.zeros(dim), np.zeros((dim, dim)))

  @staticmethod
  def of(features: np.ndarray) -> "Moments":
    """The moments of features [n, D]; see `add`."""
    return Moments.empty(features.shape[1]).add(features)

  def add(self, features: ArrayLike) -> "Moments":
    """These moments and a batch of features [n, D] of any real type.

    Raises:
      ConfigError: the shape is not [n, D], or a feature is not finite.
    """
    return self.merge(_of_batch(features, self.mean.size))

  def merge(self, other: "Moments") -> "Moments":
    """The moments of both sets together, equation (2).

    Raises:
      ConfigError: the dimensions differ.
    """
    if self.mean.size != other.mean.size:
      raise ConfigError(
        f"cannot merge moments of {self.mean.size} features with moments of {other.mean.size}; "
        "both must come from the same feature network"
      )
    count = self.count + other.count
    if count == 0:
      return self
    delta = other.mean - self.mean
    mean = self.mean + (other.count / count) * delta
    between = (self.count * other.count / count) * np.outer(delta, delta)
    return Moments(count, mean, self.scatter + other.scatter + between)

  @property
  def covariance(self) -> Float64[np.ndarray, "d d"]:
    """The unbiased covariance [D, D], scatter / (count - 1).

    Raises:
      ConfigError: fewer than two feature vectors were added.
    """
    if self.count < 2:
      raise ConfigError(f"a covariance needs at least 2 feature vectors, and there are {self.count}")
    return self.scatter / (self.count - 1)

  @property
  def rank_deficient(self) -> bool:
    """Whether there are too few feature vectors for a covariance of full rank: N span N - 1 dimensions."""
    return self.count <= self.mean.size


def as_features(features: ArrayLike, dim: int | None = None) -> Float64[np.ndarray, "n d"]:
  """Features [n, D] of any real type as float64.

  Raises:
    ConfigError: the shape is not [n, D] (with D = `dim` where given), or a feature is not finite or complex.
  """
  features = np.asarray(features)
  if features.ndim != 2 or dim not in (None, features.shape[1]):
    raise ConfigError(f"features have shape {features.shape}; they must be [n, {dim or 'D'}]")
  if np.iscomplexobj(features):
    raise ConfigError(f"features have type {features.dtype}; they must be real")
  features = features.astype(np.float64)
  bad = ~np.isfinite(features).all(axis=1)
  if bad.any():
    raise ConfigError(
      f"{bad.sum()} of {len(features)} feature vectors are not finite, the first at row {bad.argmax()}; "
      "the images or the feature network are broken"
    )
  return features


def _of_batch(features: ArrayLike, dim: int) -> Moments:
  """Equation (1) for one batch."""
  features = as_features(features, dim)
  if len(features) == 0:
    return Moments.empty(dim)
  mean = features.mean(axis=0)
  centred = features - mean
  return Moments(len(features), mean, centred.T @ centred)
