"""The Fréchet distance of two Gaussians, which is FID when the features are Inception's.

For means m and covariances C (Dowson & Landau 1982, eq. 4; Heusel et al. 2017, eq. 6)

    d^2 = |m_1 - m_2|^2 + Tr(C_1 + C_2 - 2 (C_1^{1/2} C_2 C_1^{1/2})^{1/2})                           (1)

The eigenvalues of C_1^{1/2} C_2 C_1^{1/2} are the squared singular values of C_1^{1/2} C_2^{1/2}, so

    Tr (C_1^{1/2} C_2 C_1^{1/2})^{1/2} = sum of the singular values of C_1^{1/2} C_2^{1/2}            (2)

and with C = V diag(l) V^T the rotations on the outside drop out: L_1^{1/2} V_1^T V_2 L_2^{1/2} has the same
singular values. Everything is real, singular covariances (fewer samples than features) included, and as no
square is formed the error stays near 1e-15 Tr C, where the root of an eigenvalue of C_1^{1/2} C_2 C_1^{1/2}
that should be zero adds 1e-8.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from diffjax.metrics.moments import Moments
from diffjax.types import ConfigError

Gaussian = Moments | tuple[ArrayLike, ArrayLike]
FULL = 50_000  # the sample count that "FID" without more means


def fid_name(count: int, base: str = "fid") -> str:
  """What a Fréchet distance of `count` samples may be called: "fid", or "fid_5k", "fid_500" for fewer."""
  if count >= FULL:
    return base
  return f"{base}_{count // 1000}k" if count and count % 1000 == 0 else f"{base}_{count}"


def frechet_distance(p: Gaussian, q: Gaussian) -> float:
  """The squared Fréchet (2-Wasserstein) distance d^2 of equation (1), in float64.

  Args:
    p: `Moments`, or a pair (mean [D], covariance [D, D]).
    q: the same, of the same dimension.

  Returns:
    d^2 >= 0, in squared units of the features. Where round-off makes it negative it is 0. Singular
    covariances are right as they stand; `Moments.rank_deficient` says where they come from too few samples.

  Raises:
    ConfigError: the dimensions differ, or a covariance is not finite, not symmetric, or has an
      eigenvalue below zero by more than the round-off of its type.
  """
  return distance_to(q)(p)


def distance_to(q: Gaussian) -> Callable[[Gaussian], float]:
  """p -> frechet_distance(p, q), with the work on q done once; q is the second in what is raised."""
  mean_q, cov_q = _mean_and_covariance(q, "second")
  root_q = _root(cov_q, "second")

  def distance(p: Gaussian) -> float:
    mean_p, cov_p = _mean_and_covariance(p, "first")
    if mean_p.size != mean_q.size:
      raise ConfigError(
        f"the first Gaussian has {mean_p.size} features and the second {mean_q.size}; "
        "both must come from the same feature network"
      )
    root_p = _root(cov_p, "first")
    overlap = np.linalg.svd(root_p.T @ root_q, compute_uv=False).sum()
    delta = mean_p - mean_q
    traces = np.sum(root_p**2) + np.sum(root_q**2)
    return max(0.0, float(delta @ delta + traces - 2 * overlap))

  return distance


def _mean_and_covariance(gaussian: Gaussian, which: str):
  """The pair (mean [D] float64, covariance [D, D] in the type it came in), checked."""
  if isinstance(gaussian, Moments):
    gaussian = gaussian.mean, gaussian.covariance
  mean, cov = np.asarray(gaussian[0], np.float64), np.asarray(gaussian[1])
  if mean.ndim != 1 or cov.shape != (mean.size, mean.size):
    raise ConfigError(
      f"the {which} Gaussian has a mean of shape {mean.shape} and a covariance of shape {cov.shape}; "
      "they must be [D] and [D, D]"
    )
  if not (np.isfinite(mean).all() and np.isfinite(cov).all()):
    raise ConfigError(f"the {which} Gaussian has a mean or a covariance that is not finite")
  return mean, cov


def _root(cov: np.ndarray, which: str) -> np.ndarray:
  """V diag(sqrt l) [D, D] of the covariance V diag(l) V^T; eigenvalues lost in round-off are 0."""
  coarse = np.finfo(cov.dtype).eps if np.issubdtype(cov.dtype, np.floating) else 0.0
  cov = cov.astype(np.float64)
  fine = len(cov) * np.finfo(np.float64).eps
  tolerance = max(fine, len(cov) * coarse) * np.abs(cov).max(initial=0.0)
  if np.abs(cov - cov.T).max(initial=0.0) > tolerance:
    raise ConfigError(f"the {which} covariance is not symmetric")
  values, vectors = np.linalg.eigh((cov + cov.T) / 2)
  largest = np.abs(values).max(initial=0.0)
  if values.min(initial=0.0) < -max(fine, len(cov) * coarse) * largest:
    raise ConfigError(
      f"the {which} covariance has the eigenvalue {values.min():.3g} beside {largest:.3g}; "
      "a covariance has none below zero"
    )
  return vectors * np.sqrt(np.where(values > fine * largest, values, 0.0))
