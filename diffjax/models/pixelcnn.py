"""The gated PixelCNN (van den Oord et al. 2016b): convolutions whose output at a number sees the numbers before it
alone, in raster order, the channels of a pixel one after the other.

Two stacks of feature maps. The vertical one sees the rows above, the horizontal one what stands to the left in the row,
and through a 1x1 convolution the vertical one, so that nothing before a pixel is hidden from it. In each layer

    y = tanh(a) sigmoid(b),  (a, b) = convolution + projection of the conditions                      (eq. 4)

where a convolution is a dense layer of the pixels that it sees, side by side; the horizontal stack adds its input
to what a dense layer makes of y. Of several colours each has a share of the channels: a share sees the shares of the
colours before it, and from the second layer on its own (the paper's masks A and B).
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from diffjax.models.conditioning import Embeds, Vectors
from diffjax.models.layers import DTYPES, Dense, Dropout
from diffjax.models.made import MaskedDense
from diffjax.ranges import Count, Rate, one_of
from diffjax.types import Batch, ConfigError, Keys


class Layer(nn.Module):
  """A gated layer of both stacks.

  Attributes:
    width: channels of each.
    size: side of the kernels, odd and at least 3.
    colours: of the image.
    first: whether the horizontal stack must not see the pixel's own colour.
    dropout: rate before the 1x1 convolution.
    conditions, dtype: see PixelCNN.
  """

  width: int
  size: int
  colours: int
  first: bool
  dropout: float
  conditions: Embeds
  dtype: str

  @nn.compact
  def __call__(self, vertical: Batch, horizontal: Batch, cond: Mapping[str, Any], keys: Keys | None):
    """The two stacks after it."""
    width, reach = self.width, self.size // 2
    above = [(i, j) for i in range(-reach, 1 - self.first) for j in range(-reach, reach + 1)]
    left = [(0, j) for j in range(-reach, 0)]
    shares = np.tile(colour_of(width, self.colours), 2)
    here = channel_mask(colour_of(horizontal.shape[-1], self.colours), shares, own=not self.first)
    dense = lambda name: Dense(2 * width, dtype=self.dtype, name=name)
    say = lambda name: Vectors(2 * width, self.conditions, name=name)(cond, len(vertical))[:, None, None]
    v = dense("above")(shifted(vertical, above)) + say("embedding_v")
    h = dense("left")(shifted(horizontal, left)) + dense("across")(v) + say("embedding_h")
    if here.any():
      h += MaskedDense(here, self.dtype, name="here")(horizontal)
    v, h = (jnp.tanh(x[..., :width]) * nn.sigmoid(x[..., width:]) for x in (v, h))
    within = channel_mask(shares[:width], shares[:width], own=True)
    h = MaskedDense(within, self.dtype, name="out")(Dropout(self.dropout, name="dropout")(h, keys))
    return v, h if self.first else horizontal + h


class PixelCNN(nn.Module):
  """The network; `apply({"params": p}, x, cond, keys)`.

  Attributes:
    width: channels of each stack, at least one for each colour.
    depth: layers.
    size: side of the kernels, odd and at least 3.
    dropout: rate in every layer.
    outputs: numbers that it answers with for each of the image's, set by the task.
    conditions: what it is told, set by the task.
    dtype: of the computation but for the last layer.
  """

  width: Count = 32
  depth: Count = 5
  size: Count = 3
  dropout: Rate = 0.0
  outputs: int = 2
  conditions: Embeds = ()
  dtype: Annotated[str, one_of(DTYPES)] = "float32"

  @nn.compact
  def __call__(
    self, x: Float[Array, "b h w c"], cond: Mapping[str, Any], keys: Keys | None = None
  ) -> Float[Array, "b h w c o"]:
    """Images [B, H, W, C] to the outputs for each of their numbers, [B, H, W, C, outputs].

    Raises:
      ConfigError: a kernel that is even or of one pixel, or fewer channels than colours.
    """
    colours = x.shape[-1]
    if self.size % 2 == 0 or self.size < 3 or self.width < colours:
      raise ConfigError(
        f"size is {self.size} and width {self.width}; choose an odd size from 3 on, and at least {colours} channels."
      )
    v = h = x
    for i in range(self.depth):
      v, h = Layer(
        *(self.width, self.size, colours, i == 0, self.dropout, self.conditions, self.dtype),
        name=f"layer_{i}",
      )(v, h, cond, keys)
    numbers = np.repeat(np.arange(colours), self.outputs)
    mask = channel_mask(colour_of(self.width, colours), numbers, own=True)
    out = MaskedDense(mask, "float32", name="out")(nn.swish(h.astype(jnp.float32)))
    return out.reshape(*x.shape, self.outputs)


def colour_of(channels: int, colours: int) -> np.ndarray:
  """Whose share each of the channels is in."""
  return np.arange(channels) * colours // channels


def channel_mask(inputs: np.ndarray, outputs: np.ndarray, own: bool) -> np.ndarray:
  """[C, D]: which channels see which, by their colours."""
  return inputs[:, None] <= outputs if own else inputs[:, None] < outputs


def shifted(x: Float[Array, "b h w c"], offsets: Sequence[tuple[int, int]]) -> Float[Array, "b h w n"]:
  """What stands (row, column) from each pixel, for each of the offsets side by side; zeros outside the image."""
  reach = max(max(abs(i), abs(j)) for i, j in offsets)
  padded = jnp.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
  height, width = x.shape[1:3]
  at = lambda i, j: padded[:, reach + i : reach + i + height, reach + j : reach + j + width]
  return jnp.concatenate([at(i, j) for i, j in offsets], axis=-1)
