"""Critics: one number for an image, under conditions; nothing in them couples examples.

  dense          dense layers with leaky ReLU of slope 0.2; the conditions join the first
  convolutional  3x3 convolutions with leaky ReLU, the first of stride 1 and `levels` of stride 2, each twice as wide;
                 of the flattened map h                 w h + <e(conditions), sum of h over the pixels>

the second by projection (Miyato & Koyama 2018, eq. 5).
"""

from collections.abc import Mapping
from typing import Annotated, Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from diffjax.models.conditioning import Embeds, Vectors
from diffjax.models.layers import DTYPES, Conv, Dense
from diffjax.ranges import Count, one_of
from diffjax.types import PerExample

SLOPE = 0.2


class DenseCritic(nn.Module):
  """The network; `apply({"params": p}, x, cond)`.

  Attributes:
    hidden: widths of the layers.
    conditions: what it is told, set by the task.
    dtype: of the computation but for the last layer.
  """

  hidden: tuple[Count, ...] = (128, 128)
  conditions: Embeds = ()
  dtype: Annotated[str, one_of(DTYPES)] = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "b *dims"], cond: Mapping[str, Any]) -> PerExample:
    """Images [B, ...] to numbers [B]."""
    h, shift = x.reshape(len(x), -1), Vectors(self.hidden[0], self.conditions, name="embedding")(cond, len(x))
    for i, width in enumerate(self.hidden):
      h = nn.leaky_relu(Dense(width, dtype=self.dtype, name=f"dense_{i}")(h) + shift, SLOPE)
      shift = 0
    return Dense(1, name="out")(h.astype(jnp.float32))[:, 0]


class ConvCritic(nn.Module):
  """The network; `apply({"params": p}, x, cond)`.

  Attributes:
    width: channels of the first map.
    levels: times that the map is halved.
    conditions, dtype: see DenseCritic.
  """

  width: Count = 64
  levels: Count = 2
  conditions: Embeds = ()
  dtype: Annotated[str, one_of(DTYPES)] = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"], cond: Mapping[str, Any]) -> PerExample:
    """Images [B, H, W, C] to numbers [B]."""
    h = nn.leaky_relu(Conv(self.width, dtype=self.dtype, name="conv_0")(x), SLOPE)
    for i in range(1, self.levels + 1):
      h = nn.leaky_relu(Conv(self.width << i, stride=2, dtype=self.dtype, name=f"conv_{i}")(h), SLOPE)
    h = h.astype(jnp.float32)
    out = Dense(1, name="out")(h.reshape(len(x), -1))[:, 0]
    directions = Vectors(h.shape[-1], self.conditions, rows=0.1, name="embedding")(cond, len(x))
    return out + jnp.sum(directions * h.sum((1, 2)), axis=1)
