"""The Inception network against the published shapes, NumPy's pools and resizes, and golden features."""

import os

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from PIL import Image

from diffjax.machine.parallel import Parallel
from diffjax.metrics import inception, inception_weights
from diffjax.types import ConfigError

SHAPES = {  # Szegedy et al. 2016, table 1, as the 2015-12-05 graph has them
  "Conv2d_1a_3x3": (149, 149, 32),
  "Conv2d_2a_3x3": (147, 147, 32),
  "Conv2d_2b_3x3": (147, 147, 64),
  "Conv2d_3b_1x1": (73, 73, 80),
  "Conv2d_4a_3x3": (71, 71, 192),
  "Mixed_5b": (35, 35, 256),
  "Mixed_5c": (35, 35, 288),
  "Mixed_5d": (35, 35, 288),
  "Mixed_6a": (17, 17, 768),
  "Mixed_6b": (17, 17, 768),
  "Mixed_6c": (17, 17, 768),
  "Mixed_6d": (17, 17, 768),
  "Mixed_6e": (17, 17, 768),
  "Mixed_7a": (8, 8, 1280),
  "Mixed_7b": (8, 8, 2048),
  "Mixed_7c": (8, 8, 2048),
}


def _images(n, h=32, w=32, c=3, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (n, h, w, c)).astype(np.uint8)


def _random_variables(class_layer=False, seed=0):
  """He-like kernels and moments near those of their inputs, so that no layer dies or explodes."""
  rng = np.random.default_rng(seed)
  image = jax.ShapeDtypeStruct((1, 299, 299, 3), jnp.float32)
  shapes = jax.eval_shape(inception.Inception(class_layer).init, jax.random.key(0), image)

  def draw(path, leaf):
    name = path[-1].key
    if name == "kernel":
      return (rng.normal(size=leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[:-1]))).astype(np.float32)
    return rng.uniform(*((0.5, 1.5) if name == "var" else (-0.2, 0.2)), leaf.shape).astype(np.float32)

  return jax.tree_util.tree_map_with_path(draw, shapes)


@pytest.fixture(scope="module")
def variables():
  return _random_variables(class_layer=True)


@pytest.fixture(scope="module")
def tiny():
  """A resize to the smallest size that the network takes, so that a test of the whole is quick."""
  shrink = lambda x: inception.interpolate(inception.interpolate(x, 2, 0.5, 75), 1, 0.5, 75) / 127.5 - 1
  inception.RESIZES["tiny"] = shrink
  yield "tiny"
  del inception.RESIZES["tiny"]


@pytest.fixture(scope="module")
def extract(variables, tiny):
  return inception.extractor(variables, tiny, batch_size=8)


def test_layer_shapes():
  network = inception.Inception()
  image = jax.ShapeDtypeStruct((2, 299, 299, 3), jnp.float32)
  variables = jax.eval_shape(network.init, jax.random.key(0), image)
  run = lambda v, x: network.apply(v, x, capture_intermediates=True, mutable="intermediates")
  out, state = jax.eval_shape(run, variables, image)
  for name, shape in SHAPES.items():
    got = state["intermediates"][name]["__call__"][0]
    assert jax.tree.leaves(got)[0].shape == (2, *shape), name
  assert out.pool3.shape == (2, 2048) and out.spatial.shape == (2, 2023) and out.logits is None


def test_parameter_count():
  """Keras counts 21,802,784 for its InceptionV3 without the top, whose normalisations have no scale."""
  image = jax.ShapeDtypeStruct((1, 299, 299, 3), jnp.float32)
  variables = jax.eval_shape(inception.Inception().init, jax.random.key(0), image)
  assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == 21_802_784


def _windows(x):
  """The 3 x 3 neighbourhoods of x [H, W, C], NaN outside, [H, W, C, 3, 3]."""
  padded = np.pad(x, ((1, 1), (1, 1), (0, 0)), constant_values=np.nan)
  return np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (0, 1))


def test_average_pool_leaves_the_padding_out():
  x = np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float32) + 3
  truth = np.nanmean(_windows(x), axis=(-1, -2))
  np.testing.assert_allclose(inception.average_pool(x[None])[0], truth, rtol=1e-6)


def test_max_pools():
  x = np.random.default_rng(1).normal(size=(7, 5, 2)).astype(np.float32) - 9  # padding with 0 would win
  windows = np.nanmax(_windows(x), axis=(-1, -2))
  np.testing.assert_array_equal(inception.max_pool_same(x[None])[0], windows)
  np.testing.assert_array_equal(inception.max_pool_half(x[None])[0], windows[1:-1:2, 1:-1:2])


def test_the_last_block_pools_with_maxima_and_the_one_before_with_averages():
  network = inception.Inception()
  image = jax.ShapeDtypeStruct((1, 299, 299, 3), jnp.float32)
  pools = {}

  def see(call, args, kwargs, context):
    if isinstance(context.module, inception.BlockE):
      pools[context.module.name] = context.module.pool
    return call(*args, **kwargs)

  with nn.intercept_methods(see):
    jax.eval_shape(network.init, jax.random.key(0), image)
  assert pools == {"Mixed_7b": inception.average_pool, "Mixed_7c": inception.max_pool_same}


@pytest.mark.parametrize("pool, reduce", [("average_pool", np.nanmean), ("max_pool_same", np.nanmax)])
def test_the_pooled_branch_of_a_block(pool, reduce):
  """Its convolution copies one channel, and all else is zero."""
  x = np.random.default_rng(2).normal(size=(1, 8, 8, 3)).astype(np.float32) + 4
  block = inception.BlockE(getattr(inception, pool))
  shapes = jax.eval_shape(block.init, jax.random.key(0), x)
  variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
  variables["params"]["branch_pool"]["conv"]["kernel"][0, 0, 1, 5] = np.sqrt(1e-3)  # undoes the epsilon
  got = jax.jit(block.apply)(variables, x)[0, :, :, -192 + 5]
  np.testing.assert_allclose(got, reduce(_windows(x[0])[:, :, 1], axis=(-1, -2)), rtol=1e-5)


@pytest.mark.parametrize(
  "kernel, strides, padding",
  [((1, 1), 1, (0, 0)), ((3, 3), 1, (0, 0)), ((3, 3), 1, (1, 1)), ((3, 3), 2, (0, 0)), ((1, 3), 1, (0, 1))],
)
def test_conv_bn_against_numpy(kernel, strides, padding):
  rng = np.random.default_rng(3)
  x = rng.normal(size=(2, 7, 6, 2))
  weight, bias, mean = rng.normal(size=(*kernel, 2, 6)), rng.normal(size=6), rng.normal(size=6)
  var = rng.uniform(0.1, 2, 6)
  padded = np.pad(x, ((0, 0), *((pad, pad) for pad in padding), (0, 0)))
  windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, (1, 2))[:, ::strides, ::strides]
  truth = np.maximum(
    (np.einsum("bhwcij,ijcd->bhwd", windows, weight) - mean) / np.sqrt(var + 0.001) + bias, 0
  )
  module = inception.ConvBN(6, kernel, strides, padding)
  variables = {
    "params": {"conv": {"kernel": weight}, "bn": {"bias": bias}},
    "batch_stats": {"bn": {"mean": mean, "var": var}},
  }
  np.testing.assert_allclose(module.apply(variables, x.astype(np.float32)), truth, atol=1e-5)


@pytest.mark.parametrize("h, w", [(32, 48), (299, 299), (512, 300), (1, 2)])
def test_pytorch_resize_is_half_pixel_bilinear_without_antialiasing(h, w):
  images = _images(2, h, w)
  with jax.enable_x64(True):
    truth = np.asarray(jax.image.resize(images / 255.0, (2, 299, 299, 3), "bilinear", antialias=False))
  np.testing.assert_allclose(inception.preprocess(images, "pytorch"), 2 * truth - 1, atol=2e-5)


@pytest.mark.parametrize("h, w", [(32, 48), (299, 299), (512, 300)])
def test_tf1_resize_has_corners_for_centres(h, w):
  images = _images(1, h, w).astype(np.float64)[0]

  def at(i, j):
    y, x = i * h / 299, j * w / 299
    top, left = int(y), int(x)
    below, right = min(top + 1, h - 1), min(left + 1, w - 1)
    upper = images[top, left] * (1 - x % 1) + images[top, right] * (x % 1)
    lower = images[below, left] * (1 - x % 1) + images[below, right] * (x % 1)
    return (upper * (1 - y % 1) + lower * (y % 1) - 128) / 128

  got = inception.preprocess(images[None].astype(np.uint8), "tf1")[0]
  for i, j in [(0, 0), (0, 298), (298, 0), (298, 298), (17, 140), (200, 3), (291, 291)]:
    np.testing.assert_allclose(got[i, j], at(i, j), atol=2e-5)


@pytest.mark.parametrize("h, w", [(32, 20), (299, 400), (640, 7)])
def test_clean_resize_is_pillow_s_bicubic_of_float_channels(h, w):
  """Parmar et al. 2022: every channel by itself, in floating point, clipped, and only then quantised or not."""
  (image,) = _images(1, h, w)
  channels = [Image.fromarray(image[..., c].astype(np.float32)) for c in range(3)]
  truth = np.stack([np.asarray(one.resize((299, 299), Image.Resampling.BICUBIC)) for one in channels], -1)
  got = 128 * np.asarray(inception.preprocess(image[None], "clean")[0]) + 128
  np.testing.assert_allclose(got, np.clip(truth, 0, 255), atol=2e-3)


def test_resizes_differ_where_they_should():
  ramp = np.arange(0, 256, 8, dtype=np.uint8)[None, :, None, None] * np.ones((1, 1, 32, 3), np.uint8)
  shift = 127.5 * (inception.preprocess(ramp, "pytorch") + 1) - (
    128 * inception.preprocess(ramp, "tf1") + 128
  )
  inner = np.asarray(shift)[0, 20:-20]
  np.testing.assert_allclose(inner, 8 * (0.5 * 32 / 299 - 0.5), atol=1e-3)  # half a pixel, in units of 8


def test_grey_becomes_rgb():
  grey = _images(1, 8, 8, 1)
  np.testing.assert_array_equal(inception.preprocess(grey), inception.preprocess(np.repeat(grey, 3, -1)))


def test_an_image_is_alone_in_its_batch(extract):
  images = _images(11, 20, 20)
  whole = extract(images)
  assert whole.pool3.shape == (11, 2048) and whole.logits.shape == (11, 1008)
  assert 0.01 < whole.pool3.std(axis=0).mean() < 100  # the images do matter
  for part, rows in ((extract(images[3:6]), slice(3, 6)), (extract(images[::-1]), slice(None, None, -1))):
    for got, truth in zip(part, whole, strict=True):
      np.testing.assert_allclose(got, truth[rows], rtol=1e-4, atol=1e-4)


def test_spread_over_eight_devices(extract, variables, tiny):
  parallel = Parallel("jit", Mesh(np.asarray(jax.devices()), ("data",)))
  images = _images(11, 20, 20)
  spread = inception.extractor(variables, tiny, batch_size=3, parallel=parallel)  # rounded up to 8
  for got, truth in zip(spread(images), extract(images), strict=True):
    np.testing.assert_allclose(got, truth, rtol=1e-4, atol=1e-4)


def test_one_compile_for_any_number_of_images(extract):
  extract(_images(1, 20, 20))
  compiled = []
  listen = lambda event, seconds, **_: compiled.append(event) if "backend_compile" in event else None
  jax.monitoring.register_event_duration_secs_listener(listen)
  for n in (2, 8, 9):
    extract(_images(n, 20, 20))
  assert not compiled
  extract(_images(1, 20, 21))
  assert compiled  # the listener does hear


@pytest.mark.parametrize(
  "images",
  [np.zeros((2, 8, 8, 3), np.float32), np.zeros((8, 8, 3), np.uint8), np.zeros((2, 8, 8, 4), np.uint8),
   np.zeros((0, 8, 8, 3), np.uint8)],
)  # fmt: skip
def test_other_images_raise(extract, images):
  with pytest.raises(ConfigError, match="the Inception network takes uint8"):
    extract(images)


def test_unknown_resize_raises(variables):
  with pytest.raises(ConfigError, match="'bicubic'; it must be one of pytorch, tf1"):
    inception.extractor(variables, "bicubic")


def _asset(name, what):
  path = os.environ.get(name)
  if not path or not os.path.exists(path):
    pytest.skip(f"{name} does not name {what}")
  return path


@pytest.mark.assets
def test_golden_features():
  """The first CIFAR-10 training images of the original release, against TorchScript's features."""
  golden = np.load(_asset("DIFFJAX_GOLDEN", "an npz of golden features 'pool3'"))["pool3"]
  _asset(inception_weights.ENVIRONMENT, "the FID Inception weights")
  _asset("TFDS_DATA_DIR", "a folder with prepared CIFAR-10")
  loaded = inception_weights.load()
  assert loaded.published
  got = inception.extractor(loaded.variables, "pytorch", batch_size=32)(_original_order(len(golden))).pool3
  worst = np.abs(got - golden).max()
  print(f"largest difference from the golden features: {worst:.2e}")
  assert worst < 1e-3


def _original_order(count):
  """The first images of the original release: TFDS keeps their numbers as ids, `train_00000` and so on."""
  import tensorflow_datasets

  records = tensorflow_datasets.data_source("cifar10", split="train", data_dir=os.environ["TFDS_DATA_DIR"])
  images = {}
  for record in records:
    number = int(record["id"].decode().removeprefix("train_"))
    if number < count:
      images[number] = record["image"]
  return np.stack([images[i] for i in range(count)])
