"""How far a Fréchet distance of N samples is from that of infinitely many: its bias and its spread.

The distance of N samples is too large by about c / N, with a c that differs between models:

    FID_N = FID_inf + c / N + noise                                                                   (1)

`fid_infinity` fits the line through distances of subsets (Chong & Forsyth 2020, section 4). `bootstrap`
draws N of the N samples with replacement and again. Such draws have the bias (1) twice, so their
percentiles lie above the value itself; what is used is their standard deviation s:

    interval = FID_N -+ z s                                                                           (2)

It is about FID_N, the distance expected of N samples, and does not take the bias away. Both take the
reference as fixed.
"""

import statistics
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from diffjax.metrics.frechet import Gaussian, distance_to
from diffjax.metrics.moments import Moments, as_features
from diffjax.types import ConfigError


class Extrapolated(NamedTuple):
  """A fit of equation (1).

  Attributes:
    value: FID_inf, the line at 1 / N = 0; it may be below zero for very good samples.
    standard_error: of the fit; too small, as the subsets overlap.
    slope: c.
    sizes: the subset sizes.
    distances: the distances that were fitted.
  """

  value: float
  standard_error: float
  slope: float
  sizes: tuple[int, ...]
  distances: tuple[float, ...]


class Interval(NamedTuple):
  """Equation (2).

  Attributes:
    value: the distance of all the samples.
    low: the interval's lower end, at least 0.
    high: its upper end.
    standard_error: s.
  """

  value: float
  low: float
  high: float
  standard_error: float


def fid_infinity(
  features: ArrayLike, reference: Gaussian, smallest: int = 5000, points: int = 15, seed: int = 0
) -> Extrapolated:
  """The Fréchet distance extrapolated to infinitely many samples.

  Args:
    features: [N, D] of the samples.
    reference: their reference, as frechet_distance takes it.
    smallest: the smallest subset.
    points: subsets, evenly spaced in size from `smallest` to N.
    seed: of which samples make a subset.

  Raises:
    ConfigError: fewer than three points, or `smallest` is not between 2 and N; see also frechet_distance.
  """
  from scipy import stats  # as slow to import as jax

  features = as_features(features)
  if points < 3 or not 2 <= smallest < len(features):
    raise ConfigError(
      f"FID-infinity has {points} subsets from {smallest} to {len(features)} samples; it needs at least 3, "
      "from at least 2 samples to more."
    )
  distance, rng = distance_to(reference), np.random.Generator(np.random.Philox(seed))
  sizes = np.linspace(smallest, len(features), points).astype(int)
  empty = Moments.empty(features.shape[1])
  distances = [distance(empty.add(features[rng.permutation(len(features))[:n]])) for n in sizes]
  fit = stats.linregress(1 / sizes, distances)
  return Extrapolated(
    float(fit.intercept),
    float(fit.intercept_stderr),
    float(fit.slope),
    tuple(int(n) for n in sizes),
    tuple(distances),
  )


def bootstrap(
  features: ArrayLike, reference: Gaussian, resamples: int = 20, level: float = 0.95, seed: int = 0
) -> Interval:
  """The Fréchet distance of features [N, D] and an interval for it.

  Args:
    features: [N, D] of the samples.
    reference: their reference, as frechet_distance takes it.
    resamples: how many draws; the standard error is known to about 1 / sqrt(2 resamples) of itself.
    level: the interval's coverage.
    seed: of the draws.

  Raises:
    ConfigError: fewer than two resamples, or a level outside (0, 1); see also frechet_distance.
  """
  features = as_features(features)
  if resamples < 2 or not 0 < level < 1:
    raise ConfigError(
      f"the bootstrap has {resamples} resamples at level {level}; it needs at least 2, and a level between "
      "0 and 1."
    )
  distance, rng = distance_to(reference), np.random.Generator(np.random.Philox(seed))
  empty, n = Moments.empty(features.shape[1]), len(features)
  value = distance(empty.add(features))
  draws = [distance(empty.add(features[rng.integers(0, n, n)])) for _ in range(resamples)]
  error = float(np.std(draws, ddof=1))
  reach = statistics.NormalDist().inv_cdf((1 + level) / 2) * error
  return Interval(value, max(0.0, value - reach), value + reach, error)
