"""Reference statistics: round trips, import of plain files, refusals."""

import dataclasses

import numpy as np
import pytest

from diffjax.metrics import reference
from diffjax.metrics.frechet import frechet_distance
from diffjax.metrics.moments import Moments
from diffjax.metrics.reference import Settings
from diffjax.types import ConfigError

SETTINGS = Settings(data="0123abcd", split="train", resize="pytorch", weights="c9ce7f36")


def _moments(n=30, dim=4, seed=0):
  return Moments.empty(dim).add(np.random.default_rng(seed).normal(size=(n, dim)))


def test_round_trip(tmp_path):
  statistics = reference.of_moments(_moments(), SETTINGS)
  assert statistics.settings.count == 30 and not statistics.rank_deficient
  path = reference.place(SETTINGS, tmp_path / "new")
  assert reference.load_or_none(path) is None
  reference.save(path, statistics)
  read = reference.load(path, dim=4)
  np.testing.assert_array_equal(read.mean, statistics.mean)
  np.testing.assert_array_equal(read.covariance, statistics.covariance)
  assert read.settings == statistics.settings and read.digest == statistics.digest
  assert frechet_distance(_moments(seed=1), read.gaussian) == frechet_distance(_moments(seed=1), _moments())
  assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_statistics_of_other_features_are_found_again(tmp_path):
  settings = dataclasses.replace(SETTINGS, features="spatial")
  path = reference.place(settings, tmp_path)
  reference.save(path, reference.of_moments(_moments(), settings))
  assert reference.load_or_none(path, "spatial").settings.features == "spatial"
  assert reference.load_or_none(path) is None


def test_a_cut_cache_file_counts_as_none(tmp_path):
  path = reference.place(SETTINGS, tmp_path)
  reference.save(path, reference.of_moments(_moments(), SETTINGS))
  whole = path.read_bytes()
  for length in range(0, len(whole) - 1, 61):
    path.write_bytes(whole[:length])
    assert reference.load_or_none(path) is None


def test_every_setting_but_the_count_moves_the_place(tmp_path):
  places = {reference.place(SETTINGS, tmp_path)}
  for field in dataclasses.fields(Settings):
    changed = dataclasses.replace(SETTINGS, **{field.name: 7 if field.name == "count" else "other"})
    places.add(reference.place(changed, tmp_path))
  assert len(places) == 1 + len(dataclasses.fields(Settings)) - 1


def test_a_cache_folder_of_the_environment(tmp_path, monkeypatch):
  monkeypatch.setenv("DIFFJAX_CACHE", str(tmp_path))
  assert reference.place(SETTINGS).parent == tmp_path


def test_plain_files_of_others(tmp_path):
  moments, spatial = _moments(), _moments(dim=3, seed=1)
  np.savez(tmp_path / "r.npz", mu=moments.mean, sigma=moments.covariance.astype(np.float32),
           mu_s=spatial.mean, sigma_s=spatial.covariance, arr_0=np.zeros((2, 8, 8, 3), np.uint8))  # fmt: skip
  read = reference.load(tmp_path / "r.npz", dim=4)
  assert read.settings == Settings() and read.rank_deficient is None
  assert frechet_distance(moments, read.gaussian) < 1e-6
  assert reference.load(tmp_path / "r.npz", features="spatial").mean.shape == (3,)


@pytest.mark.parametrize(
  "arrays, message",
  [
    ({"mean": np.zeros(4)}, "holds nothing; statistics of pool3 features are the arrays mu and sigma"),
    ({"mu": np.zeros(4)}, "holds mu; statistics"),
    (
      {"mu": np.zeros(4), "sigma": np.eye(3)},
      r"mu has shape \[4\] and sigma \[3, 3\]; .* \[4\] and \[4, 4\]",
    ),
    ({"mu": np.zeros(3), "sigma": np.eye(3)}, r"must be \[4\]"),
    ({"mu": np.array([{}]), "sigma": np.eye(4)}, "not an npz file of plain arrays"),
  ],
)
def test_files_that_do_not_fit_raise(tmp_path, arrays, message):
  np.savez(tmp_path / "r.npz", **arrays)
  with pytest.raises(ConfigError, match=message):
    reference.load(tmp_path / "r.npz", dim=4)


def test_missing_and_foreign_files_raise(tmp_path):
  with pytest.raises(ConfigError, match="r.npz is not there"):
    reference.load(tmp_path / "r.npz")
  (tmp_path / "r.npz").write_bytes(b"no archive at all")
  with pytest.raises(ConfigError, match="not an npz"):
    reference.load(tmp_path / "r.npz")
  np.save(tmp_path / "a.npy", np.eye(2))
  with pytest.raises(ConfigError, match="not an npz"):
    reference.load(tmp_path / "a.npy")


def test_statistics_of_other_features_raise(tmp_path):
  reference.save(tmp_path / "r.npz", reference.of_moments(_moments(), SETTINGS))
  with pytest.raises(ConfigError, match="statistics of pool3 features, not of spatial"):
    reference.load(tmp_path / "r.npz", features="spatial")


def test_too_few_images_are_flagged():
  assert reference.of_moments(_moments(n=4), SETTINGS).rank_deficient


@pytest.mark.parametrize(
  "arrays, message",
  [
    (dict(mu=np.zeros(3), sigma=np.eye(3), settings=np.array("no json")), "its array settings is not"),
    (dict(mu=np.zeros(3), sigma=np.eye(3), settings=np.array('{"colour": 1}')), "its array settings is not"),
    (dict(mu=np.array(["a", "b"]), sigma=np.eye(2)), "must be finite floating-point numbers"),
    (dict(mu=np.array([0.0, np.nan]), sigma=np.eye(2)), "must be finite floating-point numbers"),
  ],
)
def test_files_that_hold_something_else_are_told(tmp_path, arrays, message):
  np.savez(tmp_path / "odd.npz", **arrays)
  with pytest.raises(ConfigError, match=message):
    reference.load(tmp_path / "odd.npz")
  assert reference.load_or_none(tmp_path / "odd.npz") is None
