"""I3D, the network of FVD, and the features of clips (Carreira & Zisserman 2017, figure 3; Unterthiner et al. 2018).

    variables = load()                                     # metrics/i3d_weights.py
    extract = extractor(variables, parallel)
    extract(video)                                         # uint8 [N, 16, H, W, C], any N, to [N, 400]

It is Inception-v1 with every kernel inflated over time, trained on Kinetics-400; its features are the 400 logits, a
mean over time. Clips become 224 x 224 by two-point interpolation without antialiasing, then 2 x / 255 - 1:

    pytorch    pixel centres at i + 1/2, as StyleGAN-V's FVD                                          (1)
    tf1        pixel centres at i, as the first FVD's; logits differ by a tenth of their length       (2)

Float32 at the highest matrix precision. A clip of 16 frames costs 49 GFLOP.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, UInt8

from diffjax.machine.parallel import Parallel
from diffjax.metrics.inception import interpolate
from diffjax.types import ConfigError, Params

SIDE = 224
CLASSES = 400
FEWEST = 9  # frames: of fewer the last pool has nothing left
RESIZES = {"pytorch": 0.5, "tf1": 0.0}  # where in a pixel its centre lies
# Channels of each block's branches: 1 x 1; 1 x 1 and 3 x 3 x 3, twice; behind the pool.
MIXED = {
  "Mixed_3b": (64, 96, 128, 16, 32, 32),
  "Mixed_3c": (128, 128, 192, 32, 96, 64),
  "Mixed_4b": (192, 96, 208, 16, 48, 64),
  "Mixed_4c": (160, 112, 224, 24, 64, 64),
  "Mixed_4d": (128, 128, 256, 24, 64, 64),
  "Mixed_4e": (112, 144, 288, 32, 64, 64),
  "Mixed_4f": (256, 160, 320, 32, 128, 128),
  "Mixed_5b": (256, 160, 320, 32, 128, 128),
  "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
POOLS = {
  "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
  "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}  # before these: window, strides


class ConvBN(nn.Module):
  """Convolution without bias, batch normalisation by the running moments and without scale, ReLU."""

  features: int
  side: int = 1
  stride: int = 1

  @nn.compact
  def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t2 h2 w2 features"]:
    kernel, strides = (self.side,) * 3, (self.stride,) * 3
    x = nn.Conv(self.features, kernel, strides, use_bias=False, precision=lax.Precision.HIGHEST, name="conv")(
      x
    )
    return nn.relu(nn.BatchNorm(True, epsilon=1e-3, use_scale=False, name="bn")(x))


class Mixed(nn.Module):
  """Four branches side by side; `channels` as in MIXED."""

  channels: tuple[int, ...]

  @nn.compact
  def __call__(self, x):
    one, inner, two, thin, three, four = self.channels
    pooled = nn.max_pool(x, (3, 3, 3), padding="SAME")
    branches = [
      ConvBN(one, name="branch_0.0a")(x),
      ConvBN(two, 3, name="branch_1.0b")(ConvBN(inner, name="branch_1.0a")(x)),
      ConvBN(three, 3, name="branch_2.0b")(ConvBN(thin, name="branch_2.0a")(x)),
      ConvBN(four, name="branch_3.0b")(pooled),
    ]
    return jnp.concatenate(branches, axis=-1)


class I3D(nn.Module):
  """The network; its parameters carry the names of the TF-Hub port."""

  @nn.compact
  def __call__(self, x: Float[Array, "b t h w 3"]) -> Float[Array, "b 400"]:
    """Logits of clips in [-1, 1], [B, T, 224, 224, 3] with T >= 9."""
    flat = functools.partial(nn.max_pool, window_shape=(1, 3, 3), strides=(1, 2, 2), padding="SAME")
    x = flat(ConvBN(64, 7, 2, name="Conv3d_1a_7x7")(x))
    x = flat(ConvBN(192, 3, name="Conv3d_2c_3x3")(ConvBN(64, name="Conv3d_2b_1x1")(x)))
    for name, channels in MIXED.items():
      if name in POOLS:
        x = nn.max_pool(x, *POOLS[name], padding="SAME")
      x = Mixed(channels, name=name)(x)
    x = nn.avg_pool(x, (2, 7, 7))
    x = nn.Conv(CLASSES, (1, 1, 1), precision=lax.Precision.HIGHEST, name="logits")(x)
    return x.mean((1, 2, 3))


def preprocess(
  video: UInt8[Array, "b t h w c"], resize: str = "pytorch", side: int = SIDE
) -> Float[Array, "b t side side 3"]:
  """The network's input; grey clips become RGB."""
  x = jnp.broadcast_to(video.astype(jnp.float32), (*video.shape[:-1], 3))
  for axis in (2, 3):
    x = interpolate(x, axis, RESIZES[resize], side)
  return 2 * x / 255 - 1


def extractor(
  variables: Params, parallel: Parallel, resize: str = "pytorch", batch_size: int = 8
) -> Callable[[np.ndarray], Float[np.ndarray, "n 400"]]:
  """A function from uint8 clips [N, T, H, W, 1 or 3], any N, to their logits [N, 400]; one compile a shape.

  Args:
    variables: the network's, see i3d_weights.load.
    parallel: devices of this process to spread a batch over.
    resize: one of RESIZES.
    batch_size: clips that go through the network together, rounded up to a multiple of the devices.

  Raises:
    ConfigError: an unknown resize, or (when called) clips of other kinds or of fewer than 9 frames.
  """
  if resize not in RESIZES:
    raise ConfigError(f"resize is {resize!r}; it must be one of {', '.join(RESIZES)}.")
  size, variables = parallel.padded(batch_size), parallel.replicate(variables)
  run = parallel.batched(lambda variables, video: I3D().apply(variables, preprocess(video, resize)))

  def extract(video: np.ndarray) -> np.ndarray:
    if video.dtype != np.uint8 or video.ndim != 5 or video.shape[-1] not in (1, 3) or video.shape[1] < FEWEST:
      raise ConfigError(
        f"the clips are {video.dtype} {list(video.shape)}; I3D takes uint8 [N, T, H, W, 3], or [N, T, H, W, 1] if they "
        f"are grey, of at least {FEWEST} frames."
      )
    parts = [np.zeros((0, CLASSES), np.float32)]
    for start in range(0, len(video), size):
      rows = np.minimum(np.arange(start, start + size), len(video) - 1)
      parts.append(parallel.fetch(run(variables, video[rows])))
    return np.concatenate(parts)[: len(video)]

  return extract
