"""Generators: from noise to an image in [-1, 1], under conditions.

  dense          z and the conditions through dense layers with swish
  convolutional  a dense layer to the smallest map, then `levels` times: nearest upsampling, a 3x3 convolution, group
                 norm, swish; each map half as wide as the one before it

Both end in tanh. Conditions join the first layer.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from diffjax.models.conditioning import Embeds, Vectors
from diffjax.models.layers import DTYPES, Conv, Dense, GroupNorm, upsample
from diffjax.ranges import Count, one_of
from diffjax.types import ConfigError


class DenseGenerator(nn.Module):
  """The network; `apply({"params": p}, z, cond)`.

  Attributes:
    latent: numbers of z.
    hidden: widths of the layers.
    shape: [H, W, C] of the images, set by the task.
    conditions: what it is told, set by the task.
    dtype: of the computation but for the last layer.
  """

  latent: Count = 16
  hidden: tuple[Count, ...] = (128, 128)
  shape: tuple[int, ...] = (8, 8, 1)
  conditions: Embeds = ()
  dtype: Annotated[str, one_of(DTYPES)] = "float32"

  @nn.compact
  def __call__(self, z: Float[Array, "b z"], cond: Mapping[str, Any]) -> Float[Array, "b h w c"]:
    """Noise [B, latent] to images [B, H, W, C]."""
    h, shift = z, Vectors(self.hidden[0], self.conditions, name="embedding")(cond, len(z))
    for i, width in enumerate(self.hidden):
      h = nn.swish(Dense(width, dtype=self.dtype, name=f"dense_{i}")(h) + shift)
      shift = 0
    out = Dense(math.prod(self.shape), name="out")(h.astype(jnp.float32))
    return jnp.tanh(out).reshape(len(z), *self.shape)


class ConvGenerator(nn.Module):
  """The network; `apply({"params": p}, z, cond)`.

  Attributes:
    latent: numbers of z.
    width: channels of the largest map.
    levels: times that the map is doubled.
    shape, conditions, dtype: see DenseGenerator.
  """

  latent: Count = 64
  width: Count = 64
  levels: Count = 2
  shape: tuple[int, ...] = (8, 8, 1)
  conditions: Embeds = ()
  dtype: Annotated[str, one_of(DTYPES)] = "float32"

  @nn.compact
  def __call__(self, z: Float[Array, "b z"], cond: Mapping[str, Any]) -> Float[Array, "b h w c"]:
    """Noise [B, latent] to images [B, H, W, C].

    Raises:
      ConfigError: the image's sides cannot be halved so often.
    """
    height, width, channels = self.shape
    halved_often(self.shape, self.levels)
    widest = self.width * 2**self.levels
    small = height >> self.levels, width >> self.levels, widest
    h = Dense(math.prod(small), dtype=self.dtype, name="dense")(z).reshape(len(z), *small)
    h += Vectors(widest, self.conditions, name="embedding")(cond, len(z))[:, None, None]
    h = nn.swish(h.astype(self.dtype))
    for i in range(1, self.levels + 1):
      h = Conv(widest >> i, dtype=self.dtype, name=f"conv_{i}")(upsample(h))
      h = GroupNorm(True, self.dtype, name=f"norm_{i}")(h)
    return jnp.tanh(Conv(channels, name="out")(h.astype(jnp.float32)))


def halved_often(shape: tuple[int, ...], levels: int) -> None:
  """Raises ConfigError if an image's sides cannot be halved `levels` times."""
  if any(side % 2**levels for side in shape[:2]):
    raise ConfigError(
      f"levels is {levels}, but {shape[0]}x{shape[1]} pixels cannot be halved so often; lower it."
    )
