"""Extrapolation and bootstrap of the Fréchet distance where the truth is known."""

import numpy as np
import pytest

from diffjax.metrics.frechet import distance_to, fid_name, frechet_distance
from diffjax.metrics.frechet_error import bootstrap, fid_infinity
from diffjax.metrics.moments import Moments
from diffjax.types import ConfigError

DIM = 12
REFERENCE = np.zeros(DIM), np.eye(DIM)


def _features(n, seed, std=1.2):
  return np.random.default_rng(seed).normal(size=(n, DIM)) * std


def _distance(features):
  return frechet_distance(Moments.empty(DIM).add(features), REFERENCE)


def test_extrapolation_takes_the_bias_away():
  truth = DIM * 0.2**2
  fits = [fid_infinity(_features(1500, seed), REFERENCE, smallest=150, points=8) for seed in range(30)]
  values = np.array([fit.value for fit in fits])
  raw = np.array([_distance(_features(1500, seed)) for seed in range(30)])
  error = values.std() / 30**0.5
  assert abs(values.mean() - truth) < 4 * error
  assert raw.mean() - truth > 4 * raw.std() / 30**0.5
  assert fits[0].sizes[0] == 150 and fits[0].sizes[-1] == 1500 and len(fits[0].distances) == 8
  assert fits[0].distances[-1] == pytest.approx(raw[0], rel=1e-9)


def test_an_exact_line_is_extrapolated_exactly(monkeypatch):
  import diffjax.metrics.frechet_error as module

  monkeypatch.setattr(module, "distance_to", lambda reference: lambda moments: 3 + 500 / moments.count)
  fit = fid_infinity(_features(1000, 0), REFERENCE, smallest=100)
  assert fit.value == pytest.approx(3) and fit.slope == pytest.approx(500)
  assert len(fit.sizes) == 15


def test_the_bootstraps_standard_error_is_the_spread_of_new_samples():
  fresh = np.array([_distance(_features(400, seed)) for seed in range(300)])
  intervals = [bootstrap(_features(400, seed), REFERENCE, resamples=30) for seed in range(12)]
  errors = np.array([interval.standard_error for interval in intervals])
  np.testing.assert_allclose(np.sqrt((errors**2).mean()), fresh.std(), rtol=0.25)
  first = intervals[0]
  assert first.value == pytest.approx(fresh[0], rel=1e-12)
  assert first.high - first.value == pytest.approx(1.959964 * first.standard_error, rel=1e-5)
  assert first.low == pytest.approx(max(0, first.value - 1.959964 * first.standard_error), rel=1e-5)


def test_bad_requests_raise():
  with pytest.raises(ConfigError, match="2 subsets from 5 to 20"):
    fid_infinity(_features(20, 0), REFERENCE, smallest=5, points=2)
  with pytest.raises(ConfigError, match="15 subsets from 5000 to 20"):
    fid_infinity(_features(20, 0), REFERENCE)
  with pytest.raises(ConfigError, match="1 resamples at level 0.95"):
    bootstrap(_features(20, 0), REFERENCE, resamples=1)
  with pytest.raises(ConfigError, match="12 features and the second 3"):
    bootstrap(_features(20, 0), (np.zeros(3), np.eye(3)))


def test_a_reference_prepared_once():
  p, q = Moments.empty(DIM).add(_features(30, 0)), Moments.empty(DIM).add(_features(40, 1))
  assert distance_to(q)(p) == frechet_distance(p, q)


@pytest.mark.parametrize(
  "count, name",
  [(50_000, "fid"), (60_000, "fid"), (49_999, "fid_49999"), (5000, "fid_5k"), (500, "fid_500")],
)
def test_the_name_says_how_many(count, name):
  assert fid_name(count) == name
  assert fid_name(count, "sfid") == "s" + name


@pytest.mark.parametrize("count", [DIM - 1, DIM, DIM + 1, 3 * DIM])
def test_rank_deficient_is_the_rank(count):
  moments = Moments.empty(DIM).add(_features(count, 0))
  assert moments.rank_deficient == (np.linalg.matrix_rank(moments.covariance) < DIM)
