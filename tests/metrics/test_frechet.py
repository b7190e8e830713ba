"""The Fréchet distance against closed forms and the paper's formula through scipy's sqrtm."""

import numpy as np
import pytest
import scipy.linalg

from diffjax.metrics.frechet import frechet_distance
from diffjax.metrics.moments import Moments
from diffjax.types import ConfigError


def _rotation(dim, seed):
  return np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0]


def _spd(dim, seed):
  factor = np.random.default_rng(seed).normal(size=(dim, 2 * dim))
  return factor @ factor.T / dim


def _mean(dim, seed):
  return np.random.default_rng(seed).normal(size=dim)


def _moments(n, dim, seed):
  rng = np.random.default_rng(seed)
  return Moments.empty(dim).add(rng.normal(size=(n, dim)) @ rng.normal(size=(dim, dim)))


def test_one_dimension():
  d2 = frechet_distance(([0.5], [[4.0]]), ([-1.0], [[0.25]]))
  assert d2 == pytest.approx(1.5**2 + (2.0 - 0.5) ** 2, abs=1e-14)


def test_diagonal_covariances():
  s1, s2 = np.array([1.0, 2.0, 0.1, 3.0]), np.array([2.0, 0.5, 0.3, 3.0])
  m1, m2 = _mean(4, 0), _mean(4, 1)
  d2 = frechet_distance((m1, np.diag(s1**2)), (m2, np.diag(s2**2)))
  assert d2 == pytest.approx(np.sum((m1 - m2) ** 2) + np.sum((s1 - s2) ** 2), abs=1e-13)


def test_commuting_covariances():
  turn = _rotation(6, 2)
  s1, s2 = np.linspace(0.1, 3, 6), np.array([2.0, 0.1, 1.0, 5.0, 0.2, 0.7])
  mean = np.zeros(6)
  d2 = frechet_distance((mean, turn * s1**2 @ turn.T), (mean, turn * s2**2 @ turn.T))
  assert d2 == pytest.approx(np.sum((s1 - s2) ** 2), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_the_papers_formula_by_sqrtm(seed):
  dim = 9
  m1, m2, c1, c2 = _mean(dim, seed), _mean(dim, seed + 9), _spd(dim, seed), _spd(dim, seed + 9)
  root = scipy.linalg.sqrtm(c1 @ c2)
  truth = np.sum((m1 - m2) ** 2) + np.trace(c1 + c2 - 2 * root.real)
  assert frechet_distance((m1, c1), (m2, c2)) == pytest.approx(truth, rel=1e-10)


def test_the_optimal_map_attains_it():
  c1, c2 = _spd(5, 3), _spd(5, 4)
  root = scipy.linalg.sqrtm(c1).real
  inverse = np.linalg.inv(root)
  map_ = inverse @ scipy.linalg.sqrtm(root @ c2 @ root).real @ inverse
  np.testing.assert_allclose(map_ @ c1 @ map_.T, c2, atol=1e-10)
  cost = np.trace((np.eye(5) - map_) @ c1 @ (np.eye(5) - map_).T)  # E |x - T x|^2
  zero = np.zeros(5)
  assert frechet_distance((zero, c1), (zero, c2)) == pytest.approx(cost, rel=1e-9)


@pytest.mark.parametrize("samples", [20, 500])
def test_itself_is_at_distance_zero(samples):
  moments = _moments(samples, 64, 5)
  assert 0 <= frechet_distance(moments, moments) < 1e-8 * np.trace(moments.covariance)
  assert frechet_distance(moments, moments) < 1e-6


def test_symmetric():
  p, q = _moments(40, 8, 6), _moments(50, 8, 7)
  assert frechet_distance(p, q) == pytest.approx(frechet_distance(q, p), rel=1e-12)


def test_singular_covariances_on_the_same_subspace():
  dim, rank = 12, 4
  basis = _rotation(dim, 8)[:, :rank]
  c1, c2 = _spd(rank, 9), _spd(rank, 10)
  low = frechet_distance((np.zeros(rank), c1), (np.zeros(rank), c2))
  high = frechet_distance((np.zeros(dim), basis @ c1 @ basis.T), (np.zeros(dim), basis @ c2 @ basis.T))
  assert high == pytest.approx(low, abs=1e-12)


def test_singular_covariances_on_orthogonal_subspaces():
  turn = _rotation(10, 11)
  c1 = turn[:, :3] * np.array([1.0, 2.0, 3.0]) @ turn[:, :3].T
  c2 = turn[:, 3:6] * np.array([0.5, 4.0, 1.0]) @ turn[:, 3:6].T
  zero = np.zeros(10)
  assert frechet_distance((zero, c1), (zero, c2)) == pytest.approx(6.0 + 5.5, abs=1e-12)
  assert frechet_distance((zero, c1), (zero, 0 * c1)) == pytest.approx(6.0, abs=1e-12)


def test_singular_against_full():
  turn = _rotation(200, 12)
  s1 = np.concatenate([np.linspace(1, 5, 20), np.zeros(180)])
  s2 = np.linspace(2, 3, 200)
  d2 = frechet_distance((s1, turn * s1**2 @ turn.T), (s1, turn * s2**2 @ turn.T))
  assert d2 == pytest.approx(np.sum((s1 - s2) ** 2), abs=1e-9)


def test_sharding_and_order_change_nothing():
  rng = np.random.default_rng(13)
  features = rng.normal(size=(120, 16)) @ rng.normal(size=(16, 16)) + 50
  other = _moments(60, 16, 14)
  whole = frechet_distance(Moments.empty(16).add(features), other)
  parts = [Moments.empty(16).add(part) for part in np.array_split(features[::-1], 11)]
  merged = parts[0]
  for part in parts[1:]:
    merged = part.merge(merged)
  assert abs(frechet_distance(merged, other) - whole) < 1e-8


def test_a_shift_adds_its_square():
  cov = _spd(5, 15)
  shift = np.array([3.0, 0, 0, 4.0, 0])
  assert frechet_distance((shift, cov), (np.zeros(5), cov)) == pytest.approx(25.0, abs=1e-12)


def test_a_covariance_kept_in_float32():
  moments = _moments(6, 12, 16)
  kept = (moments.mean, moments.covariance.astype(np.float32))
  assert np.linalg.eigvalsh(kept[1].astype(float)).min() < -1e-8  # rounding made it indefinite
  trace = np.trace(moments.covariance)
  assert frechet_distance(kept, moments) < 1e-6 * trace


def test_different_dimensions_raise():
  with pytest.raises(ConfigError, match="8 features and the second 9"):
    frechet_distance(_moments(20, 8, 0), _moments(20, 9, 0))


@pytest.mark.parametrize(
  "cov, message",
  [
    (np.diag([1.0, -1e-6]), "eigenvalue -1e-06"),
    (np.array([[1.0, 0.5], [0.4, 1.0]]), "second covariance is not symmetric"),
    (np.array([[1.0, np.nan], [np.nan, 1.0]]), "not finite"),
    (np.eye(3), r"must be \[D\] and \[D, D\]"),
  ],
)
def test_what_is_no_covariance_raises(cov, message):
  with pytest.raises(ConfigError, match=message):
    frechet_distance(([0.0, 0.0], np.eye(2)), ([0.0, 0.0], cov))


def test_one_sample_is_not_enough():
  with pytest.raises(ConfigError, match="at least 2"):
    frechet_distance(Moments.empty(2).add(np.ones((1, 2))), _moments(5, 2, 0))
