"""The kernel distance against a direct double sum and against moments in one dimension."""

import itertools

import numpy as np
import pytest

from diffjax.metrics.kid import kid, mmd2
from diffjax.types import ConfigError


def _features(n, dim, seed, shift=0.0):
  return np.random.default_rng(seed).normal(size=(n, dim)) + shift


def _direct(x, y):
  """Binkowski et al. 2018, eq. 4, one pair at a time."""
  k = lambda a, b: (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3
  m, n = len(x), len(y)
  within_x = sum(k(x[i], x[j]) for i, j in itertools.permutations(range(m), 2)) / (m * (m - 1))
  within_y = sum(k(y[i], y[j]) for i, j in itertools.permutations(range(n), 2)) / (n * (n - 1))
  between = sum(k(a, b) for a, b in itertools.product(x, y)) / (m * n)
  return within_x + within_y - 2 * between


@pytest.mark.parametrize("block", [1, 7, 4096])
def test_the_direct_sum(block):
  x, y = _features(23, 5, 0), _features(17, 5, 1, 0.3)
  assert mmd2(x, y, block) == pytest.approx(_direct(x, y), abs=1e-13)
  assert mmd2(x.astype(np.float32), y, block) == pytest.approx(_direct(x, y), abs=1e-6)


def test_a_distance_far_from_zero_and_large_features():
  x, y = 30 + _features(20, 3, 2), 30 + 2 * _features(21, 3, 3)
  assert mmd2(x, y) == pytest.approx(_direct(x, y), rel=1e-9)


def _of_moments(p, q):
  """In one dimension E k(x, y) is a sum over the moments: the MMD is sum_j C(3, j) (p_j - q_j)^2."""
  return sum(c * (a - b) ** 2 for c, a, b in zip((1, 3, 3, 1), p, q, strict=True))


@pytest.mark.parametrize("shift, moments", [(0.0, (1, 0, 1, 0)), (0.5, (1, 0.5, 1.25, 1.625))])
def test_unbiased_with_a_believable_standard_error(shift, moments):
  """x ~ N(0, 1) has the moments 1, 0, 1, 0; 300 repetitions lie about the truth as their errors say."""
  truth = _of_moments((1, 0, 1, 0), moments)
  results = [
    kid(_features(400, 1, 2 * i), _features(400, 1, 2 * i + 1, shift), subset_size=40) for i in range(300)
  ]
  values = np.array([result.value for result in results])
  errors = np.array([result.standard_error for result in results])
  assert abs(values.mean() - truth) < 4 * values.std() / 300**0.5
  np.testing.assert_allclose((errors**2).mean(), values.var(), rtol=0.3)
  assert results[0].subsets == 10 and results[0].subset_size == 40


def test_the_seed_decides():
  x, y = _features(60, 4, 0), _features(50, 4, 1)
  assert kid(x, y, 10) == kid(x, y, 10)
  assert kid(x, y, 10).value != kid(x, y, 10, seed=1).value
  assert kid(x, y, 10).subsets == 5


@pytest.mark.parametrize("size", [0, 1, 11])
def test_too_few_subsets_raise(size):
  with pytest.raises(ConfigError, match=f"subsets of {size}"):
    kid(_features(20, 2, 0), _features(21, 2, 1), size)


def test_bad_features_raise():
  with pytest.raises(ConfigError, match="2 features and the second 3"):
    mmd2(_features(5, 2, 0), _features(5, 3, 0))
  with pytest.raises(ConfigError, match="not finite"):
    mmd2(np.full((5, 2), np.nan), _features(5, 2, 0))
  with pytest.raises(ConfigError, match="there are 1 and 5"):
    mmd2(_features(1, 2, 0), _features(5, 2, 0))
