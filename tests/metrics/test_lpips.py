"""LPIPS: the formula on random weights in NumPy, its file, and the authors' distances where the weights are there."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.metrics import lpips
from diffjax.types import ConfigError

RNG = np.random.default_rng(0)

# Channels and the kernel's side of each convolution, by the papers (Krizhevsky 2014, Simonyan & Zisserman 2015).
LAYERS = {
  "alexnet": ((64, 11), (192, 5), (384, 3), (256, 3), (256, 3)),
  "vgg16": tuple((c, 3) for c in (64, 64, 128, 128, *3 * (256,), *6 * (512,))),
}


@pytest.fixture
def tiny(monkeypatch):
  """A network of two layers, the second after a pooling."""
  layers = (lpips.Layer(0, 1, 1, 0, True), lpips.Layer(3, 1, 0, 2, True))
  monkeypatch.setitem(lpips.NETWORKS, "tiny", layers)
  shapes = {"features.0": (4, 3, 3, 3), "features.3": (5, 4, 1, 1)}
  tensors = {f"{name}.weight": RNG.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
  tensors |= {f"{name}.bias": RNG.normal(size=shape[0]).astype(np.float32) for name, shape in shapes.items()}
  return tensors | {f"lin{k}.weight": RNG.random(n).astype(np.float32) for k, n in enumerate((4, 5))}


def saved(tmp_path, tensors):
  np.savez(tmp_path / "lpips_tiny.npz", **tensors)
  return tmp_path / "lpips_tiny.npz"


def taps(tensors, x):
  """In NumPy, pixel by pixel."""
  x = (x - np.array([-0.030, -0.088, -0.188])) / np.array([0.458, 0.448, 0.450])
  n, h, w, _ = x.shape
  padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  first = np.zeros((n, h, w, 4))
  for i in range(h):
    for j in range(w):
      first[:, i, j] = np.einsum(
        "nhwi,oihw->no", padded[:, i : i + 3, j : j + 3], tensors["features.0.weight"]
      )
  first = np.maximum(first + tensors["features.0.bias"], 0)
  pooled = first.reshape(n, h // 2, 2, w // 2, 2, 4).max((2, 4))
  second = np.maximum(pooled @ tensors["features.3.weight"][:, :, 0, 0].T + tensors["features.3.bias"], 0)
  return [f / (np.linalg.norm(f, axis=-1, keepdims=True) + 1e-10) for f in (first, second)]


def test_the_distance_is_the_formula(tiny, tmp_path, monkeypatch):
  monkeypatch.setitem(lpips.PUBLISHED, "tiny", lpips.digest(tiny))
  weights = lpips.load("tiny", str(saved(tmp_path, tiny)))
  a, b = RNG.uniform(-1, 1, (2, 3, 6, 4, 3))
  pairs = enumerate(zip(taps(tiny, a), taps(tiny, b), strict=True))
  want = sum((((f - g) ** 2) @ tiny[f"lin{k}.weight"]).mean((1, 2)) for k, (f, g) in pairs)
  a, b = (jnp.asarray(x, jnp.float32) for x in (a, b))
  np.testing.assert_allclose(lpips.distance(weights, a, b), want, rtol=1e-4)
  np.testing.assert_array_equal(lpips.distance(weights, a, a), 0)
  grey = lambda x: x[..., :1]
  thrice = lambda x: jnp.repeat(grey(x), 3, axis=-1)
  np.testing.assert_allclose(
    lpips.distance(weights, grey(a), grey(b)), lpips.distance(weights, thrice(a), thrice(b)), rtol=1e-5
  )
  gradient = jax.grad(lambda x: lpips.distance(weights, x, b).sum())
  assert np.isfinite(gradient(a)).all() and np.isfinite(gradient(jnp.full_like(a, -50.0))).all()


def test_files_that_will_not_do_are_told(tiny, tmp_path, monkeypatch):
  monkeypatch.setitem(lpips.PUBLISHED, "tiny", lpips.digest(tiny))
  file = saved(tmp_path, tiny | {"lin0.weight": tiny["lin0.weight"] + 1})
  with pytest.raises(
    ConfigError, match=r"weights_file: the tensors in .* are not LPIPS's published tiny \(hash"
  ):
    lpips.load("tiny", str(file))
  monkeypatch.setenv("DIFFJAX_LPIPS", str(tmp_path))
  with pytest.raises(ConfigError, match="are not LPIPS's published tiny"):
    lpips.load("tiny")
  file.write_bytes(b"no npz")
  with pytest.raises(ConfigError, match="is not an npz file of plain arrays"):
    lpips.load("tiny")
  file.unlink()
  with pytest.raises(
    ConfigError, match="looked for in .*lpips_tiny.npz, which is not there; put the npz there"
  ):
    lpips.load("tiny")


@pytest.mark.parametrize("network, side", [("alexnet", 30), ("vgg16", 15)])
def test_images_of_which_nothing_is_left_are_refused_with_the_least_size(network, side):
  """Convolutions of the published strides leave pixels of one more to a side, and none of these."""
  shapes, channels = {}, 3
  for layer, (outputs, kernel) in zip(lpips.NETWORKS[network], LAYERS[network], strict=True):
    shapes[f"features.{layer.index}.weight"] = jax.ShapeDtypeStruct(
      (kernel, kernel, channels, outputs), jnp.float32
    )
    shapes[f"features.{layer.index}.bias"] = jax.ShapeDtypeStruct((outputs,), jnp.float32)
    channels = outputs
  taps = [k for layer, k in zip(lpips.NETWORKS[network], LAYERS[network], strict=True) if layer.tap]
  shapes |= {
    f"lin{k}.weight": jax.ShapeDtypeStruct((outputs,), jnp.float32) for k, (outputs, _) in enumerate(taps)
  }
  images = lambda side, dtype: jax.ShapeDtypeStruct((2, side, side, 3), dtype)
  features = lambda t, x: lpips.features(lpips.Weights(network, t), x)
  distance = lambda t, a: lpips.distance(lpips.Weights(network, t), a, a)
  for call, dtype in ((features, jnp.uint8), (distance, jnp.float32)):
    assert len(jax.eval_shape(call, shapes, images(side + 1, dtype)).shape) == (2 if call is features else 1)
    with pytest.raises(
      ConfigError, match=f"{network} needs images of at least {side + 1}x{side + 1} pixels, and these"
    ):
      jax.eval_shape(call, shapes, images(side, dtype))


@pytest.mark.assets
@pytest.mark.parametrize("network", ["vgg16", "alexnet"])
def test_distances_are_those_of_another_implementation(network):
  """DIFFJAX_LPIPS_GOLDEN names an npz of pairs a, b uint8 [N, H, W, 3] and their distances by network."""
  golden = np.load(Path(os.environ["DIFFJAX_LPIPS_GOLDEN"]))
  a, b = (golden[name].astype(np.float32) / 127.5 - 1 for name in "ab")
  result = lpips.compiled(network)(lpips.load(network).tensors, a, b)
  np.testing.assert_allclose(result, golden[network], atol=1e-4)
