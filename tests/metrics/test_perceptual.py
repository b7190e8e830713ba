"""The metric "inception": names, settings, caches and refusals, with a projection in the network's place."""

from types import SimpleNamespace

import numpy as np
import pytest

from diffjax.data import SOURCES
from diffjax.metrics import METRICS, perceptual, reference
from diffjax.metrics.frechet import frechet_distance
from diffjax.metrics.inception import Features
from diffjax.metrics.kid import kid
from diffjax.metrics.manifold import precision_recall
from diffjax.metrics.moments import Moments
from diffjax.types import ConfigError

CALLS = []


def project(images):
  """Eight features of each image."""
  CALLS.append(len(images))
  directions = np.random.Generator(np.random.Philox(0)).normal(size=(64, 12)) / 100
  out = images.reshape(len(images), -1) @ directions
  return Features(out[:, :8].astype(np.float32), out[:, 8:].astype(np.float32))


@pytest.fixture
def network(monkeypatch, tmp_path):
  monkeypatch.setenv("DIFFJAX_CACHE", str(tmp_path))
  loaded = SimpleNamespace(variables={"params": {}}, digest="0123456789abcdef-more", published=False)
  monkeypatch.setattr(perceptual.inception_weights, "load", lambda path: loaded)
  monkeypatch.setattr(perceptual, "extractor", lambda variables, resize, batch_size, parallel: project)
  monkeypatch.setattr(perceptual, "DIMENSIONS", {"pool3": 8, "spatial": 4})
  CALLS.clear()


def sources():
  return SOURCES["digits"](split="train"), SOURCES["digits"](split="test")


def images(source, count=None):
  return source.read(np.arange(len(source) if count is None else count), ("image",))


def test_values_are_those_of_the_parts_and_carry_their_settings(network):
  train, test = sources()
  values = ("fid", "sfid", "kid", "precision_recall", "fid_infinity")
  metric = METRICS["inception"](train, test, None, values=values, bootstrap_draws=2)
  result = metric.judge(images(test), {})
  real, samples = project(images(train)["image"]), project(images(test)["image"])
  moments = lambda features: Moments.empty(features.shape[1]).add(features)
  expected = frechet_distance(moments(samples.pool3), moments(real.pool3))
  np.testing.assert_allclose(result["fid_355"], expected, rtol=1e-9)
  assert result["fid_355_low"] < expected < result["fid_355_high"]
  expected = frechet_distance(moments(samples.spatial), moments(real.spatial))
  np.testing.assert_allclose(result["sfid_355"], expected, rtol=1e-9)
  first = real.pool3[:355]
  np.testing.assert_allclose(result["kid"], kid(samples.pool3, first, subset_size=177).value, rtol=1e-9)
  assert (result["precision"], result["recall"]) == precision_recall(first, samples.pool3)
  assert "fid_infinity" in result and "fid_355_rank_deficient" not in result
  settings = metric.settings
  assert settings["resize"] == "pytorch" and settings["weights"] == "0123456789abcdef"
  assert settings["published_weights"] is False
  assert settings["reference"]["pool3"]["count"] == len(train)
  assert settings["reference"]["pool3"]["data"] == train.fingerprint


def test_the_reference_is_computed_once(network):
  train, test = sources()
  METRICS["inception"](train, test, None, bootstrap_draws=0).judge(images(test), {})
  CALLS.clear()
  METRICS["inception"](train, test, None, bootstrap_draws=0).judge(images(test), {})
  assert CALLS == [len(test)]


def test_few_samples_are_flagged_and_imported_statistics_are_used(network, tmp_path):
  train, test = sources()
  np.savez(tmp_path / "mine.npz", mu=np.zeros(8), sigma=np.eye(8))
  metric = METRICS["inception"](
    train, test, None, ("fid",), reference_file=str(tmp_path / "mine.npz"), bootstrap_draws=0
  )
  result = metric.judge(images(test, 6), {})
  samples = project(images(test, 6)["image"]).pool3
  expected = frechet_distance(Moments.empty(8).add(samples), (np.zeros(8), np.eye(8)))
  np.testing.assert_allclose(result["fid_6"], expected, rtol=1e-9)
  assert result["fid_6_rank_deficient"] == 1


def test_what_cannot_be_computed_is_refused(network, tmp_path):
  train, test = sources()
  with pytest.raises(ConfigError, match="values names 'fidd'; it must be of fid, sfid"):
    METRICS["inception"](train, test, None, ("fidd",))
  with pytest.raises(ConfigError, match="no class layer"):
    METRICS["inception"](train, test, None, ("inception_score",)).judge(images(test), {})
  with pytest.raises(ConfigError, match="nowhere.npz is not there"):
    METRICS["inception"](train, test, None, reference_file=str(tmp_path / "nowhere.npz"))
  with pytest.raises(ConfigError, match="values is empty"):
    METRICS["inception"](train, test, None, ())
  np.savez(tmp_path / "other.npz", mu=np.zeros(9), sigma=np.eye(9))
  with pytest.raises(ConfigError, match=r"other.npz: mu has shape \[9\]"):
    METRICS["inception"](train, test, None, reference_file=str(tmp_path / "other.npz"))
  settings = reference.Settings(resize="tf1", weights="0123456789abcdef-more")
  reference.save(tmp_path / "tf1.npz", reference.Reference(np.zeros(8), np.eye(8), settings))
  with pytest.raises(ConfigError, match="computed with the resize 'tf1', and here it is 'pytorch'"):
    METRICS["inception"](train, test, None, reference_file=str(tmp_path / "tf1.npz"))
  METRICS["inception"](train, test, None, reference_file=str(tmp_path / "tf1.npz"), resize="tf1")
