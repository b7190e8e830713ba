"""What every probe finds of an autoencoder that loses nothing, of one that loses much, and of models that are none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from diffjax.data.source import ArraySource
from diffjax.machine.parallel import Parallel
from diffjax.metrics import PROBES, ifid, reconstruction
from diffjax.metrics import probe as probes
from diffjax.metrics.frechet import frechet_distance
from diffjax.metrics.moments import Moments
from diffjax.types import ConfigError, Trained

RNG = np.random.default_rng(0)
SOURCES = [
  ArraySource({"image": RNG.integers(0, 256, (n, 12, 12, 1), np.uint8)}, f"{n}", {}) for n in (70, 40)
]
MATRIX = RNG.normal(size=(144, 5)) / 100
every_probe = pytest.mark.parametrize("name", PROBES)


def model(scale=1.0, std=0.5):
  """Pixels are the latent, but for a scale in the decoder."""

  def encode(params, images):
    x = images.astype(jnp.float32) / 127.5 - 1
    return {"mean": x, "std": jnp.full_like(x, std)}

  return Trained("runs/x", {"encode": encode, "decode": lambda params, z: params * z}, jnp.float32(scale), "")


def features(images):
  return images.reshape(len(images), -1) @ MATRIX


@pytest.fixture(autouse=True)
def projection(monkeypatch):
  monkeypatch.setitem(
    probes.FEATURES, "inception", lambda train, parallel: (features, {"features": "projection"})
  )


def probed(name, given, **options):
  devices = Parallel("jit", Mesh(np.asarray(jax.devices()[:2]), ("data",)))
  options |= {"features": "inception"}
  return PROBES[name](given, *SOURCES, devices, **options)


@every_probe
def test_values_are_finite_and_settings_say_what_they_hang_on(name):
  values, settings = probed(name, model())
  assert values and all(isinstance(value, float) and np.isfinite(value) for value in values.values())
  assert settings["features"] == "projection" and "of" in settings["images"]


@every_probe
def test_what_loses_nothing_is_better_than_what_loses_much(name):
  best, worse = (probed(name, model(scale)).values for scale in (1.0, 0.3))
  assert best["rfid"] < 1e-9 and worse["rfid"] > 1
  if name == "ifid":
    assert 0 < best["ifid"]
  else:
    assert best["psnr"] == 100 and worse["psnr"] < 20 and best["ssim"] == 1 > worse["ssim"]


@every_probe
@pytest.mark.parametrize("lacks", ["encode", "decode"])
def test_a_model_that_is_no_autoencoder_is_told(name, lacks):
  given = model()
  given = given._replace(can={what: done for what, done in given.can.items() if what != lacks})
  with pytest.raises(ConfigError, match=f"needs a model that can {lacks}"):
    probed(name, given)


def test_kl_and_active_numbers_are_the_formulas():
  mean, std = RNG.normal(size=(50, 2, 3, 4)), RNG.uniform(0.2, 2, (50, 2, 3, 4))
  mean[:, 0, :, 1] = 0.01 * mean[:, 0, :, 1] + 3  # three of 24 that hardly vary
  values = reconstruction.of_latent(mean, std)
  nats = 0.5 * (mean**2 + std**2 - 1 - np.log(std**2))
  np.testing.assert_allclose(values["kl"], nats.sum((1, 2, 3)).mean(), rtol=1e-10)
  np.testing.assert_allclose([values[f"kl_{k}"] for k in range(4)], nats.sum((1, 2)).mean(0), rtol=1e-10)
  assert values["active"] == 21 / 24


def test_ifid_blends_with_the_nearest_other_latent():
  values, _ = probed("ifid", model(), between=0.25, count=30)
  x = SOURCES[0].read(np.arange(30), ("image",))["image"]
  z = x / 127.5 - 1
  apart = ((z.reshape(30, 1, -1) - z.reshape(1, 30, -1)) ** 2).sum(-1) + 1e9 * np.eye(30)
  blend = 0.75 * z + 0.25 * z[apart.argmin(1)]
  np.testing.assert_array_equal(ifid.nearest(z), apart.argmin(1))
  gaussians = (Moments.of(features(part)) for part in (np.round((blend + 1) * 127.5), x))
  np.testing.assert_allclose(values["ifid"], frechet_distance(*gaussians), rtol=1e-2)
  assert probed("ifid", model(), between=0.0, count=30).values["ifid"] < 1e-9
