"""The Inception network of FID, and the features that metrics are computed from.

    weights = load()                                       # metrics/inception_weights.py
    extract = extractor(weights.variables, resize="pytorch")
    moments = Moments.empty(POOL3).add(extract(images).pool3)          # images uint8 [N, H, W, C]

It is the 2015-12-05 ImageNet classifier of Szegedy et al. 2016 that Heusel et al. 2017 chose, with the
quirks of its graph: average pools over the image's pixels only, never over the padding, and a max pool
in the last block where every description has an average. Feature maps:

    pool3      [2048], the mean of the last block's map: FID, KID, precision and recall
    spatial    [17 * 17 * 7], the first 7 channels of mixed_6/conv, rows before columns before channels:
               sFID (Nash et al. 2021, section 5; the layer as in the evaluation code of Dhariwal & Nichol)
    logits     [1008] without their bias, which is what the Inception score's code has always used;
               only where the weights hold the class layer

Images are enlarged or shrunk to 299 x 299 as named; the first two are two-point interpolation without antialiasing:

    pytorch    pixel centres at i + 1/2;   2 (x / 255) - 1                (pytorch-fid)                (1)
    tf1        pixel centres at i;         (x - 128) / 128                (the original graph)         (2)
    clean      bicubic with antialiasing, clipped to 0 to 255; (x - 128) / 128   (Parmar et al. 2022)  (3)

Everything is float32 at the highest matrix precision: TF32 moves features by more than the network of
another framework does.
"""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, UInt8

from diffjax.machine.parallel import Parallel
from diffjax.types import ConfigError, Params

SIZE = 299
POOL3 = 2048
CLASSES = 1008
SPATIAL_CHANNELS = 7
SPATIAL = 17 * 17 * SPATIAL_CHANNELS
BATCH = 64


def convolution(x, kernel, strides, padding, **settings) -> Float[Array, "b h2 w2 d"]:
  """lax.conv_general_dilated, in the words that XLA's CPU backend runs fastest.

  A 1 x 1 kernel is a matrix product; a 3 x 3 one without padding takes less than half the time with padding and the
  border cut off (benchmarks/README.md). Accelerators lose a few pixels of work by it.
  """
  sides, none = kernel.shape[:2], all(pad == (0, 0) for pad in padding)
  if sides == (1, 1) and none:
    return jnp.einsum("bhwc,cd->bhwd", x, kernel[0, 0], precision=settings["precision"])
  if sides == (3, 3) and none and tuple(strides) == (1, 1):
    return lax.conv_general_dilated(x, kernel, strides, [(1, 1), (1, 1)], **settings)[:, 1:-1, 1:-1]
  return lax.conv_general_dilated(x, kernel, strides, padding, **settings)


class ConvBN(nn.Module):
  """Convolution without bias, batch normalisation by the running moments and without scale, ReLU.

  Attributes:
    features: channels that come out.
    kernel: (height, width).
    strides: the same in both directions.
    padding: zeros (above and below, left and right).
  """

  features: int
  kernel: tuple[int, int] = (1, 1)
  strides: int = 1
  padding: tuple[int, int] = (0, 0)

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 features"]:
    x = nn.Conv(
      self.features,
      self.kernel,
      self.strides,
      padding=[(pad, pad) for pad in self.padding],
      use_bias=False,
      precision=lax.Precision.HIGHEST,
      conv_general_dilated=convolution,
      name="conv",
    )(x)
    return nn.relu(nn.BatchNorm(True, epsilon=1e-3, use_scale=False, name="bn")(x))


def average_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
  """3 x 3 means over the pixels inside the image."""
  return nn.avg_pool(x, (3, 3), padding=[(1, 1), (1, 1)], count_include_pad=False)


def max_pool_same(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
  """3 x 3 maxima at stride 1."""
  return nn.max_pool(x, (3, 3), padding=[(1, 1), (1, 1)])


def max_pool_half(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
  """3 x 3 maxima at stride 2, without padding."""
  return nn.max_pool(x, (3, 3), (2, 2))


class BlockA(nn.Module):
  """Mixed_5b to 5d at 35 x 35; `pool` channels of the pooled branch."""

  pool: int

  @nn.compact
  def __call__(self, x):
    double = ConvBN(64, name="branch3x3dbl_1")(x)
    double = ConvBN(96, (3, 3), padding=(1, 1), name="branch3x3dbl_2")(double)
    branches = [
      ConvBN(64, name="branch1x1")(x),
      ConvBN(64, (5, 5), padding=(2, 2), name="branch5x5_2")(ConvBN(48, name="branch5x5_1")(x)),
      ConvBN(96, (3, 3), padding=(1, 1), name="branch3x3dbl_3")(double),
      ConvBN(self.pool, name="branch_pool")(average_pool(x)),
    ]
    return jnp.concatenate(branches, axis=-1)


class BlockB(nn.Module):
  """Mixed_6a, from 35 x 35 to 17 x 17."""

  @nn.compact
  def __call__(self, x):
    double = ConvBN(64, name="branch3x3dbl_1")(x)
    double = ConvBN(96, (3, 3), padding=(1, 1), name="branch3x3dbl_2")(double)
    branches = [
      ConvBN(384, (3, 3), 2, name="branch3x3")(x),
      ConvBN(96, (3, 3), 2, name="branch3x3dbl_3")(double),
      max_pool_half(x),
    ]
    return jnp.concatenate(branches, axis=-1)


class BlockC(nn.Module):
  """Mixed_6b to 6e at 17 x 17, with `inner` channels between; also returns its 1 x 1 branch."""

  inner: int

  @nn.compact
  def __call__(self, x):
    row = dict(kernel=(1, 7), padding=(0, 3))
    column = dict(kernel=(7, 1), padding=(3, 0))
    single = ConvBN(self.inner, name="branch7x7_1")(x)
    single = ConvBN(self.inner, **row, name="branch7x7_2")(single)
    double = ConvBN(self.inner, name="branch7x7dbl_1")(x)
    double = ConvBN(self.inner, **column, name="branch7x7dbl_2")(double)
    double = ConvBN(self.inner, **row, name="branch7x7dbl_3")(double)
    double = ConvBN(self.inner, **column, name="branch7x7dbl_4")(double)
    branches = [
      ConvBN(192, name="branch1x1")(x),
      ConvBN(192, **column, name="branch7x7_3")(single),
      ConvBN(192, **row, name="branch7x7dbl_5")(double),
      ConvBN(192, name="branch_pool")(average_pool(x)),
    ]
    return jnp.concatenate(branches, axis=-1), branches[0]


class BlockD(nn.Module):
  """Mixed_7a, from 17 x 17 to 8 x 8."""

  @nn.compact
  def __call__(self, x):
    long = ConvBN(192, name="branch7x7x3_1")(x)
    long = ConvBN(192, (1, 7), padding=(0, 3), name="branch7x7x3_2")(long)
    long = ConvBN(192, (7, 1), padding=(3, 0), name="branch7x7x3_3")(long)
    branches = [
      ConvBN(320, (3, 3), 2, name="branch3x3_2")(ConvBN(192, name="branch3x3_1")(x)),
      ConvBN(192, (3, 3), 2, name="branch7x7x3_4")(long),
      max_pool_half(x),
    ]
    return jnp.concatenate(branches, axis=-1)


class BlockE(nn.Module):
  """Mixed_7b and 7c at 8 x 8; `pool` is what the pooled branch pools with."""

  pool: Callable

  @nn.compact
  def __call__(self, x):
    row = dict(kernel=(1, 3), padding=(0, 1))
    column = dict(kernel=(3, 1), padding=(1, 0))
    single = ConvBN(384, name="branch3x3_1")(x)
    double = ConvBN(448, name="branch3x3dbl_1")(x)
    double = ConvBN(384, (3, 3), padding=(1, 1), name="branch3x3dbl_2")(double)
    branches = [
      ConvBN(320, name="branch1x1")(x),
      ConvBN(384, **row, name="branch3x3_2a")(single),
      ConvBN(384, **column, name="branch3x3_2b")(single),
      ConvBN(384, **row, name="branch3x3dbl_3a")(double),
      ConvBN(384, **column, name="branch3x3dbl_3b")(double),
      ConvBN(192, name="branch_pool")(self.pool(x)),
    ]
    return jnp.concatenate(branches, axis=-1)


class Features(NamedTuple):
  """What the network says about each image; see the module's docstring.

  Attributes:
    pool3: [B, 2048].
    spatial: [B, h * w * 7], 2023 at the network's own size.
    logits: [B, 1008], or None without the class layer.
  """

  pool3: Float[Array, "b 2048"]
  spatial: Float[Array, "b s"]
  logits: Float[Array, "b 1008"] | None = None


class Inception(nn.Module):
  """The network; its parameters carry pytorch-fid's names.

  Attributes:
    class_layer: whether it ends in the 1008 classes.
  """

  class_layer: bool = False

  @nn.compact
  def __call__(self, x: Float[Array, "b h w 3"]) -> Features:
    """Features of images in [-1, 1], 299 x 299 (any size from 75 runs)."""
    x = ConvBN(32, (3, 3), 2, name="Conv2d_1a_3x3")(x)
    x = ConvBN(32, (3, 3), name="Conv2d_2a_3x3")(x)
    x = max_pool_half(ConvBN(64, (3, 3), padding=(1, 1), name="Conv2d_2b_3x3")(x))
    x = ConvBN(80, name="Conv2d_3b_1x1")(x)
    x = max_pool_half(ConvBN(192, (3, 3), name="Conv2d_4a_3x3")(x))
    x = BlockA(32, name="Mixed_5b")(x)
    x = BlockA(64, name="Mixed_5c")(x)
    x = BlockA(64, name="Mixed_5d")(x)
    x = BlockB(name="Mixed_6a")(x)
    x, _ = BlockC(128, name="Mixed_6b")(x)
    x, _ = BlockC(160, name="Mixed_6c")(x)
    x, mixed_6_conv = BlockC(160, name="Mixed_6d")(x)
    x, _ = BlockC(192, name="Mixed_6e")(x)
    x = BlockD(name="Mixed_7a")(x)
    x = BlockE(average_pool, name="Mixed_7b")(x)
    x = BlockE(max_pool_same, name="Mixed_7c")(x)
    pool3 = jnp.mean(x, axis=(1, 2))
    spatial = mixed_6_conv[..., :SPATIAL_CHANNELS].reshape(len(x), -1)
    if not self.class_layer:
      return Features(pool3, spatial)
    highest = lax.Precision.HIGHEST
    logits = nn.Dense(CLASSES, use_bias=False, precision=highest, name="fc")(pool3)
    return Features(pool3, spatial, logits)


def interpolate(x: Float[Array, "b h w c"], axis: int, offset: float, size: int = SIZE):
  """Two-point interpolation along one axis, pixel i's centre at i + offset, edges repeated."""
  length = x.shape[axis]
  place = np.clip((np.arange(size) + offset) * (length / size) - offset, 0, length - 1)
  low = np.floor(place).astype(int)
  share = (place - low).astype(np.float32)
  share = share.reshape([-1 if i == axis else 1 for i in range(x.ndim)])
  high = np.minimum(low + 1, length - 1)
  return (1 - share) * jnp.take(x, low, axis) + share * jnp.take(x, high, axis)


def cubic(length: int, size: int = SIZE) -> Float[np.ndarray, "size length"]:
  """The matrix that resizes one axis by Keys' kernel with a = -1/2, as wide as a pixel of the smaller of both.

  Pixel centres lie at i + 1/2, and the weights of a pixel are normalised, as Pillow has it.
  """
  scale = length / size
  x = np.abs(np.arange(length) + 0.5 - (np.arange(size)[:, None] + 0.5) * scale) / max(scale, 1)
  near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
  weights = np.where(x < 1, near, np.where(x < 2, far, 0))
  return weights / weights.sum(axis=1, keepdims=True)


def _clean(x):
  rows, columns = (cubic(length).astype(np.float32) for length in x.shape[1:3])
  x = jnp.einsum("ih,bhwc,jw->bijc", rows, x, columns, precision=lax.Precision.HIGHEST)
  return (jnp.clip(x, 0, 255) - 128) / 128


def _pytorch(x):
  x = interpolate(interpolate(x / 255, 2, 0.5), 1, 0.5)
  return 2 * x - 1


def _tf1(x):
  return (interpolate(interpolate(x, 2, 0.0), 1, 0.0) - 128) / 128


RESIZES: dict[str, Callable[[Float[Array, "b h w c"]], Float[Array, "b 299 299 c"]]] = {
  "pytorch": _pytorch,
  "tf1": _tf1,
  "clean": _clean,
}


def preprocess(images: UInt8[Array, "b h w c"], resize: str = "pytorch") -> Float[Array, "b 299 299 3"]:
  """The network's input; grey images [B, H, W, 1] become RGB."""
  x = jnp.asarray(images).astype(jnp.float32)
  if x.shape[-1] == 1:
    x = jnp.repeat(x, 3, axis=-1)
  return RESIZES[resize](x)


def features(variables: Params, images: UInt8[Array, "b h w c"], resize: str = "pytorch") -> Features:
  """Features of one batch, a pure function; `variables` as weights.load gives them."""
  network = Inception(class_layer="fc" in variables["params"])
  return network.apply(variables, preprocess(images, resize))


def extractor(
  variables: Params, resize: str = "pytorch", batch_size: int = BATCH, parallel: Parallel | None = None
) -> Callable[[np.ndarray], Features]:
  """A function from uint8 images [N, H, W, C], any N, to NumPy Features; one compile an image size.

  Args:
    variables: the network's, see weights.load.
    resize: one of RESIZES.
    batch_size: images that go through the network together, rounded up to a multiple of the devices; the
      last batch is padded.
    parallel: devices of this process to spread a batch over; default: the first one. Processes extract
      their own images and merge moments, not features.

  Raises:
    ConfigError: an unknown resize, or (when called) images that are not uint8 [N, H, W, 1 or 3].
  """
  if resize not in RESIZES:
    raise ConfigError(f"the resize is {resize!r}; it must be one of {', '.join(RESIZES)}.")
  one = functools.partial(features, resize=resize)
  if parallel is None:
    variables, run = jax.device_put(variables), jax.jit(one)
  else:
    batch_size = parallel.padded(batch_size)
    variables, run = parallel.replicate(variables), parallel.batched(one)

  def batches(images: np.ndarray) -> Iterator[Features]:
    pending = None  # the device works on the next batch while this one is copied
    for start in range(0, len(images), batch_size):
      batch = images[start : start + batch_size]
      missing = batch_size - len(batch)
      out = run(variables, np.pad(batch, [(0, missing), (0, 0), (0, 0), (0, 0)]))
      if pending is not None:
        yield jax.device_get(pending)
      pending = out
    yield jax.device_get(pending)

  def extract(images: np.ndarray) -> Features:
    images = _checked(images)
    parts = zip(*batches(images), strict=True)
    whole = [None if part[0] is None else np.concatenate(part)[: len(images)] for part in parts]
    return Features(*whole)

  return extract


def _checked(images: np.ndarray) -> np.ndarray:
  images = np.asarray(images)
  if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
    raise ConfigError(
      f"the images are {images.dtype} {list(images.shape)}; the Inception network takes uint8 "
      "[N, H, W, 3], or [N, H, W, 1] if they are grey, and at least one."
    )
  return images
