"""Streaming moments against NumPy's two-pass formulas and exact integers."""

from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.metrics.moments import Moments
from diffjax.types import ConfigError


def _correlated(n, dim, seed=0):
  rng = np.random.default_rng(seed)
  return rng.normal(size=(n, dim)) @ rng.normal(size=(dim, dim)) + rng.normal(size=dim)


def _stream(features, cuts):
  moments = Moments.empty(features.shape[1])
  for part in np.split(features, cuts):
    moments = moments.add(part)
  return moments


def test_moments_are_those_of_the_whole_set():
  features = _correlated(101, 5)
  moments = _stream(features, [1, 1, 40, 97])
  assert moments.count == 101
  np.testing.assert_allclose(moments.mean, features.mean(0), rtol=0, atol=1e-14)
  np.testing.assert_allclose(moments.covariance, np.cov(features.T), rtol=0, atol=1e-13)


def test_order_and_sharding_change_nothing():
  features = _correlated(96, 4)
  whole = Moments.empty(4).add(features)
  shards = [Moments.empty(4).add(part) for part in np.array_split(features[::-1], 7)]
  tree = shards[0].merge(shards[1]).merge(shards[2].merge(shards[3]))
  for shard in shards[4:]:
    tree = shard.merge(tree)
  assert tree.count == whole.count
  np.testing.assert_allclose(tree.mean, whole.mean, rtol=0, atol=1e-13)
  np.testing.assert_allclose(tree.scatter, whole.scatter, rtol=1e-12, atol=1e-12)


def test_exact_rational_moments():
  rows = [(3, -1), (4, 1), (-5, 9), (2, 6), (5, 3)]
  n = len(rows)
  mean = [Fraction(sum(row[i] for row in rows), n) for i in range(2)]
  cov = [
    [sum((r[i] - mean[i]) * (r[j] - mean[j]) for r in rows) / (n - 1) for j in range(2)] for i in range(2)
  ]
  moments = _stream(np.array(rows), [2])
  np.testing.assert_allclose(moments.mean, np.array(mean, float), rtol=1e-15)
  np.testing.assert_allclose(moments.covariance, np.array(cov, float), rtol=1e-14)


def test_a_mean_far_from_zero_costs_no_digits():
  near = np.round(_correlated(400, 3) * 64) / 64  # so that adding 2^26 is exact
  offset = 2.0**26
  far = near + offset
  truth = np.cov(near.T)
  streamed = _stream(far, range(10, 400, 10)).covariance
  naive = (far.T @ far - len(far) * np.outer(far.mean(0), far.mean(0))) / (len(far) - 1)
  assert np.abs(streamed - truth).max() < 1e-7
  assert np.abs(naive - truth).max() > 1e-2


def test_features_of_any_real_type():
  features = np.arange(12).reshape(4, 3) ** 2
  truth = np.cov(features.T)
  for typed in (features, features.astype(np.float32), jnp.asarray(features, jnp.bfloat16)):
    moments = Moments.empty(3).add(typed)
    assert moments.scatter.dtype == np.float64
    np.testing.assert_allclose(moments.covariance, truth, rtol=1e-13)


def test_nothing_added_changes_nothing():
  moments = Moments.empty(3).add(_correlated(5, 3))
  for same in (moments.add(np.zeros((0, 3))), moments.merge(Moments.empty(3))):
    assert same.count == 5
    np.testing.assert_array_equal(same.scatter, moments.scatter)
  assert Moments.empty(3).merge(Moments.empty(3)).count == 0


def test_moments_are_values():
  moments = Moments.empty(2)
  moments.add(np.ones((3, 2)))
  assert moments.count == 0
  np.testing.assert_array_equal(moments.mean, 0)


@pytest.mark.parametrize("count", [0, 1])
def test_a_covariance_needs_two(count):
  with pytest.raises(ConfigError, match=f"at least 2 .* {count}"):
    _ = Moments.empty(2).add(np.ones((count, 2))).covariance


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_features_raise(bad):
  features = np.zeros((4, 2))
  features[2, 1] = bad
  with pytest.raises(ConfigError, match="1 of 4 .* row 2"):
    Moments.empty(2).add(features)


@pytest.mark.parametrize("shape", [(3,), (4, 3), (4, 2, 1)])
def test_other_shapes_raise(shape):
  with pytest.raises(ConfigError, match=r"must be \[n, 2\]"):
    Moments.empty(2).add(np.zeros(shape))


def test_other_dimensions_do_not_merge():
  with pytest.raises(ConfigError, match="2 features .* 3"):
    Moments.empty(2).merge(Moments.empty(3))


def test_complex_features_raise():
  with pytest.raises(ConfigError, match="complex128"):
    Moments.empty(2).add(np.ones((3, 2), complex))
