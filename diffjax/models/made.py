"""MADE (Germain et al. 2015): a dense network whose output at a number sees the numbers before it alone, in raster
order, the channels of a pixel one after the other.

Every hidden unit has a degree m, evenly spread over 0..D-1; a weight stands where the order allows it (eq. 8 and 9):

    number d to unit:  d <= m     unit to unit:  m <= m'     unit to output d:  m < d                 (1)

with d = 1..D. Conditions join every hidden layer, and the output directly, for the outputs of the first number.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from diffjax.models.conditioning import Embeds, Vectors
from diffjax.models.layers import DTYPES, Dropout, initialiser
from diffjax.ranges import Count, Rate, one_of
from diffjax.types import Keys


class MaskedDense(nn.Module):
  """A dense layer of which a mask [inputs, features] keeps weights."""

  mask: np.ndarray
  dtype: str

  @nn.compact
  def __call__(self, x: Float[Array, "*b n"]) -> Float[Array, "*b m"]:
    kernel = self.param("kernel", initialiser(), self.mask.shape, jnp.float32)
    bias = self.param("bias", nn.initializers.zeros_init(), self.mask.shape[1:], jnp.float32)
    return x.astype(self.dtype) @ (kernel * self.mask).astype(self.dtype) + bias.astype(self.dtype)


class MADE(nn.Module):
  """The network; `apply({"params": p}, x, cond, keys)`.

  Attributes:
    hidden: widths of the layers.
    dropout: rate after each.
    outputs: numbers that it answers with for each of the image's, set by the task.
    conditions: what it is told, set by the task.
    dtype: of the computation but for the last layer.
  """

  hidden: tuple[Count, ...] = (400, 400)
  dropout: Rate = 0.0
  outputs: int = 2
  conditions: Embeds = ()
  dtype: Annotated[str, one_of(DTYPES)] = "float32"

  @nn.compact
  def __call__(
    self, x: Float[Array, "b h w c"], cond: Mapping[str, Any], keys: Keys | None = None
  ) -> Float[Array, "b h w c o"]:
    """Images [B, H, W, C] to the outputs for each of their numbers, [B, H, W, C, outputs]."""
    numbers = np.arange(1, x[0].size + 1)
    h, before = x.reshape(len(x), -1), numbers
    for i, width in enumerate(self.hidden):
      degrees = np.arange(width) * len(numbers) // width
      h = MaskedDense(before[:, None] <= degrees, self.dtype, name=f"dense_{i}")(h)
      h = nn.swish(h + Vectors(width, self.conditions, name=f"embedding_{i}")(cond, len(x)))
      h, before = Dropout(self.dropout, name=f"dropout_{i}")(h, keys), degrees
    places = np.repeat(numbers, self.outputs)
    out = MaskedDense(before[:, None] < places, "float32", name="out")(h)
    out += Vectors(len(places), self.conditions, rows=0.0, name="embedding_out")(cond, len(x))
    return out.reshape(*x.shape, self.outputs)
