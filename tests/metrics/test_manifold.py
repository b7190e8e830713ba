"""Precision, recall, density and coverage on constructed sets, by brute force, and in expectation."""

import numpy as np
import pytest

from diffjax.metrics.manifold import density_coverage, neighbours, precision_recall, radii2
from diffjax.types import ConfigError


def _features(n, dim, seed, shift=0.0):
  return np.random.default_rng(seed).normal(size=(n, dim)) + shift


def _brute(real, generated, k):
  """All four from their definitions, one pair at a time."""
  distance = lambda a, b: np.sqrt(np.sum((a - b) ** 2))

  def radii(points):
    return [
      sorted(distance(p, q) for j, q in enumerate(points) if j != i)[k - 1] for i, p in enumerate(points)
    ]

  def inside(centres, points):
    r = radii(centres)
    return np.array([[distance(p, c) <= r[i] for i, c in enumerate(centres)] for p in points])

  in_real, in_generated = inside(real, generated), inside(generated, real)
  precision, recall = in_real.any(axis=1).mean(), in_generated.any(axis=1).mean()
  return precision, recall, in_real.sum(axis=1).mean() / k, in_real.any(axis=0).mean()


@pytest.mark.parametrize("k, block", [(1, 1024), (2, 16), (3, 7)])
def test_brute_force(k, block):
  real, generated = _features(41, 3, 0), 1.3 * _features(33, 3, 1, 1.4)
  truth = _brute(real, generated, k)
  got = (*precision_recall(real, generated, k, block), *density_coverage(real, generated, k, block))
  np.testing.assert_allclose(got, truth, atol=1e-12)
  together = neighbours(real, generated, {"density_coverage": k + 2, "precision_recall": k}, block)
  wider = _brute(real, generated, k + 2)
  assert together == pytest.approx(
    dict(zip(("precision", "recall", "density", "coverage"), (*truth[:2], *wider[2:]), strict=True)),
    abs=1e-12,
  )
  assert 0 < truth[0] < 1 and 0 < truth[1] < 1 and 0 < truth[3] < 1


def test_a_mean_far_from_zero_is_harmless():
  real, generated = _features(50, 4, 2), _features(50, 4, 3, 0.5)
  assert precision_recall(real + 1e4, generated + 1e4) == precision_recall(real, generated)


def test_two_clusters_of_which_one_is_missed():
  left, right = _features(100, 2, 0, -100), _features(100, 2, 1, 100)
  real = np.concatenate([left, right])
  generated = left[:, ::-1] + 0.01  # all near the left half
  precision, recall = precision_recall(real, generated)
  assert precision > 0.85 and 0.35 < recall <= 0.5
  density, coverage = density_coverage(real, generated)
  assert 0.7 < density < 1.3 and 0.35 < coverage <= 0.5


def test_one_cluster_of_two_is_real():
  real = _features(100, 2, 0, -100)
  generated = np.concatenate([_features(50, 2, 1, -100), _features(50, 2, 2, 100)])
  precision, recall = precision_recall(real, generated)
  assert 0.4 < precision <= 0.5 and recall > 0.7


def test_disjoint_sets():
  real, generated = _features(30, 2, 0), _features(30, 2, 1, 1000)
  assert precision_recall(real, generated) == (0, 0)
  assert density_coverage(real, generated) == (0, 0)


def test_a_line_of_points():
  """At unit distance, a ball of k = 2 reaches exactly to both neighbours; its surface belongs to it."""
  real = np.stack([np.arange(10.0), np.zeros(10)], axis=1)
  np.testing.assert_allclose(radii2(real.astype(np.float32), (2, 1)), [[4, *[1] * 8, 4], [1] * 10], atol=1e-5)
  between = np.array([[3.5, 0.0], [3.5, 0.8], [3.5, 0.9], [5.0, 1.01], [-1.9, 0.0], [-2.1, 0.0]])
  precision, _ = precision_recall(real, between, k=2)
  assert precision == 3 / 6  # 3.5^2 + 0.9^2 > 1 and the last two of each kind are out
  density, coverage = density_coverage(real, between, k=2)
  assert density == pytest.approx((2 + 2 + 1) / (2 * 6))
  assert coverage == 3 / 10


def test_one_outlier_does_not_make_everything_precise_by_density():
  """Naeem et al. 2020, figure 3: a real outlier's large ball lifts precision to 1 and density little."""
  real = np.concatenate([_features(100, 2, 0), [[50.0, 50.0]]])
  generated = _features(100, 2, 1, 20)
  assert precision_recall(real, generated, k=3).precision == 1
  assert density_coverage(real, generated, k=3).density == pytest.approx(1 / 3)


def test_expectations_under_equal_distributions():
  """Naeem et al. 2020, eq. 9 and lemma 1: E density = 1, E coverage = 1 - (N-1)...(N-k) / (2N-1)...(2N-k)."""
  n, k, draws = 40, 3, 120
  steps = np.arange(1, k + 1)
  truth = 1 - np.prod((n - steps) / (2 * n - steps))
  results = np.array([
    density_coverage(_features(n, 5, 2 * i), _features(n, 5, 2 * i + 1), k) for i in range(draws)
  ])  # fmt: skip
  error = results.std(axis=0) / draws**0.5
  assert np.all(np.abs(results.mean(axis=0) - [1, truth]) < 4 * error)


@pytest.mark.parametrize("k", [0, 20, 21])
def test_k_out_of_range_raises(k):
  with pytest.raises(ConfigError, match=f"k is {k} with 30 real and 20 generated"):
    precision_recall(_features(30, 2, 0), _features(20, 2, 1), k)


def test_other_dimensions_raise():
  with pytest.raises(ConfigError, match="2 features and the generated 3"):
    density_coverage(_features(9, 2, 0), _features(9, 3, 1))
