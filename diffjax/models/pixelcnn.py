"""The gated PixelCNN (van den Oord et al. 2016b): convolutions whose output at a number sees the numbers before it
alone, in raster order, the channels of a pixel one after the other.

Two stacks of feature maps. The vertical one sees the rows above, the horizontal one what stands to the left in the row,
and through a 1x1 convolution the vertical one, so that nothing before a pixel is hidden from it. In each layer

    y = tanh(a) sigmoid(b),  (a, b) = convolution + projection of the conditions                      (eq. 4)

and the horizontal stack adds its input to what a 1x1 convolution makes of y. Of several colours each has a share of the
channels: a share sees the shares of the colours before it, and from the second layer on its own (the paper's masks A
and B).
"""

from collections.abc import Mapping
from typing import Annotated, Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from diffjax.models.conditioning import Embeds, Vectors
from diffjax.models.conv import conv
from diffjax.models.layers import DTYPES, Conv, Dropout, initialiser
from diffjax.ranges import Count, Rate, one_of
from diffjax.types import Batch, ConfigError, Keys


class MaskedConv(nn.Module):
  """A convolution of which a mask [K, K, C, D] keeps weights."""

  mask: np.ndarray
  dtype: str

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
    kernel = self.param("kernel", initialiser(), self.mask.shape, jnp.float32)
    bias = self.param("bias", nn.initializers.zeros_init(), self.mask.shape[3:], jnp.float32)
    return conv(x.astype(self.dtype), (kernel * self.mask).astype(self.dtype)) + bias.astype(self.dtype)


class Layer(nn.Module):
  """A gated layer of both stacks.

  Attributes:
    width: channels of each.
    size: side of the kernels, odd.
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
    channels, width, middle = horizontal.shape[-1], self.width, self.size // 2
    rows, columns = np.indices((self.size, self.size))[..., None, None]
    above = np.broadcast_to(
      rows < middle + (not self.first), (self.size, self.size, vertical.shape[-1], 2 * width)
    )
    shares = np.tile(colour_of(width, self.colours), 2)
    here = seen(colour_of(channels, self.colours), shares, own=not self.first)
    left = (rows == middle) & ((columns < middle) | ((columns == middle) & here))
    say = lambda name: Vectors(2 * width, self.conditions, name=name)(cond, len(vertical))[:, None, None]
    v = MaskedConv(above.astype(np.float32), self.dtype, name="vertical")(vertical)
    h = MaskedConv(left.astype(np.float32), self.dtype, name="horizontal")(horizontal)
    v = v + say("embedding_v")
    h = h + say("embedding_h") + Conv(2 * width, size=1, dtype=self.dtype, name="across")(v)
    v, h = (jnp.tanh(x[..., :width]) * nn.sigmoid(x[..., width:]) for x in (v, h))
    within = seen(shares[:width], shares[:width], own=True)[None, None].astype(np.float32)
    h = MaskedConv(within, self.dtype, name="out")(Dropout(self.dropout, name="dropout")(h, keys))
    return v, h if self.first else horizontal + h


class PixelCNN(nn.Module):
  """The network; `apply({"params": p}, x, cond, keys)`.

  Attributes:
    width: channels of each stack, at least one for each colour.
    depth: layers.
    size: side of the kernels, odd.
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
    """Images [B, H, W, C] to what is said of each of their numbers, [B, H, W, C, outputs].

    Raises:
      ConfigError: an even kernel, or fewer channels than colours.
    """
    colours = x.shape[-1]
    if self.size % 2 == 0 or self.width < colours:
      raise ConfigError(
        f"size is {self.size} and width {self.width}; choose an odd size, and at least {colours} channels."
      )
    v = h = x
    for i in range(self.depth):
      v, h = Layer(
        *(self.width, self.size, colours, i == 0, self.dropout, self.conditions, self.dtype),
        name=f"layer_{i}",
      )(v, h, cond, keys)
    numbers = np.repeat(np.arange(colours), self.outputs)
    mask = seen(colour_of(self.width, colours), numbers, own=True)[None, None].astype(np.float32)
    out = MaskedConv(mask, "float32", name="out")(nn.swish(h.astype(jnp.float32)))
    return out.reshape(*x.shape, self.outputs)


def colour_of(channels: int, colours: int) -> np.ndarray:
  """Whose share each of the channels is in."""
  return np.arange(channels) * colours // channels


def seen(inputs: np.ndarray, outputs: np.ndarray, own: bool) -> np.ndarray:
  """[C, D]: which channels see which, by their colours."""
  return inputs[:, None] <= outputs if own else inputs[:, None] < outputs
