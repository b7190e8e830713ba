"""Fields that a run makes of others: what is made, how often, and when it is made anew."""

import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.data import encoded as module
from diffjax.data.encoded import Encoding, encoded, measure, normalised
from diffjax.data.source import ArraySource, Field
from diffjax.machine import parallel
from diffjax.types import Trained

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (21, 4, 6, 3), np.uint8)
SOURCE = ArraySource({"image": IMAGES, "label": np.arange(21, dtype=np.int32)}, "images")


def encode(params, images):
  rows = params * images.astype(jnp.float32).mean(2)
  return {"mean": rows, "std": jnp.square(rows)}


def of(fingerprint="one", factor=2.0, place="runs/vae"):
  return Trained(place, {"encode": encode}, jnp.float32(factor), fingerprint)


@pytest.fixture
def build(tmp_path, monkeypatch):
  """(run, mirrored) -> the source, and how many examples were encoded for it."""
  counted, whole = [], module._encode
  monkeypatch.setattr(
    module, "_encode", lambda source, *rest: counted.append(len(source)) or whole(source, *rest)
  )
  monkeypatch.setattr(module, "BATCH", 8)

  def make(run, mirrored=False, source=SOURCE):
    counted.clear()
    encodings = {"latent": Encoding(run, "encode", "image", mirrored)}
    return encoded(source, encodings, parallel.create(), str(tmp_path)), sum(counted)

  return make


def test_fields_are_made_once_in_batches_and_read_by_row(build):
  source, count = build(of())
  assert count == 21 and len(source) == 21
  assert source.fields["latent_mean"] == source.fields["latent_std"] == Field((4, 3), "float32")
  rows = np.array([20, 3, 3, 8])
  result = source.read(rows)
  np.testing.assert_array_equal(result["image"], IMAGES[rows])
  np.testing.assert_allclose(result["latent_mean"], 2 * IMAGES[rows].mean(2), rtol=1e-5)
  np.testing.assert_allclose(result["latent_std"], (2 * IMAGES[rows].mean(2)) ** 2, rtol=1e-5)
  again, count = build(of())
  assert count == 0 and again.fingerprint == source.fingerprint
  np.testing.assert_array_equal(again.read(rows)["latent_mean"], result["latent_mean"])


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, capsys):
  (tmp_path / "file").write_text("")
  encodings, cache = {"latent": Encoding(of(), "encode", "image")}, tmp_path / "file" / "cache"
  source = encoded(SOURCE, encodings, parallel.create(), str(cache))
  result = source.read(np.arange(21))["latent_mean"]
  np.testing.assert_allclose(result, 2 * IMAGES.mean(2), rtol=1e-5)
  assert f"warning: keeping what was computed in {cache} failed" in capsys.readouterr().err


def test_another_checkpoint_other_data_and_the_other_view_are_made_anew(build):
  first, _ = build(of())
  other, count = build(of("two", 3.0))
  assert count == 21 and other.fingerprint != first.fingerprint
  np.testing.assert_allclose(other.read(np.arange(2))["latent_mean"], 3 * IMAGES[:2].mean(2), rtol=1e-5)
  np.testing.assert_allclose(first.read(np.arange(2))["latent_mean"], 2 * IMAGES[:2].mean(2), rtol=1e-5)
  assert build(of(), source=ArraySource({"image": IMAGES[:9]}, "fewer"))[1] == 9
  assert build(of(), mirrored=True)[1] == 21


def test_the_mirrored_view_is_of_mirrored_pictures(build):
  run = of()._replace(can={"encode": lambda params, images: {"mean": images.astype(jnp.float32)}})
  source, _ = build(run, mirrored=True)
  np.testing.assert_array_equal(source.read(np.arange(21))["latent_mean"], IMAGES[:, :, ::-1])


def test_mean_and_deviation_are_those_of_all_latents_of_both_views(tmp_path, monkeypatch):
  """Of z = m + s eps by NumPy: mean and square of m, and the square of s; rows are measured in uneven parts."""
  monkeypatch.setattr(module, "ROWS", 8)

  def encode(params, images):
    x = params * images.astype(jnp.float32) / 255  # 4x6 places of three channels, the last of them constant
    x = (
      x * jnp.asarray([1.0, -3.0, 0.0])
      + jnp.asarray([0.0, 5.0, 0.7])
      + jnp.arange(6)[:, None] * jnp.asarray([1, 0, 0])
    )
    return {"mean": x, "std": 0.1 + jnp.abs(x) * jnp.asarray([0.5, 0.5, 0.0]) - jnp.asarray([0.0, 0.0, 0.1])}

  run = Trained("runs/vae", {"encode": encode}, jnp.float32(2), "one")
  views = {
    name: Encoding(run, "encode", "image", name == "mirrored", "latent") for name in ("latent", "mirrored")
  }
  devices = lambda source: encoded(source, views, parallel.create(), str(tmp_path))
  source = devices(SOURCE)
  result = measure(source, views)
  raw = source.read(np.arange(21))
  m, s = (
    np.concatenate([raw[f"{name}_{part}"] for name in views]).astype(np.float64).reshape(-1, 3)
    for part in ("mean", "std")
  )
  deviation = np.sqrt(m.var(0) + (s**2).mean(0))
  assert result.keys() == {"latent"}
  np.testing.assert_allclose(result["latent"].mean, m.mean(0), rtol=1e-6)
  np.testing.assert_allclose(result["latent"].deviation, [*deviation[:2], 1], rtol=1e-6)
  test = ArraySource({"image": IMAGES[:5] // 2}, "held out")  # goes by the training set's
  there, here = devices(test).read(np.arange(5)), normalised(devices(test), views, result).read(np.arange(5))
  for name in views:
    np.testing.assert_allclose(
      here[f"{name}_mean"],
      (there[f"{name}_mean"] - result["latent"].mean) / result["latent"].deviation,
      rtol=1e-5,
      atol=1e-6,
    )
    np.testing.assert_allclose(
      here[f"{name}_std"], there[f"{name}_std"] / result["latent"].deviation, rtol=1e-5
    )
