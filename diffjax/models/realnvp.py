"""RealNVP (Dinh et al. 2017): an invertible network of affine couplings, for images with sides of even length.

A coupling keeps the numbers b of x and changes the others by what it computes from them (eq. 7 to 9),

    y = b x + (1 - b) (x exp(s) + t),  s = scale tanh(.),  t from the network of b x                  (1)
    log |det dy/dx| = sum (1 - b) s                                                                   (2)

b is a checkerboard of the pixels, or half of the channels after a squeeze, which turns 2x2 pixels into channels. At
each of `levels` come `couplings` of the former, a squeeze and `couplings` of the latter, the parts taking turns. All
begin as the identity. Unlike the paper's there is no batch norm, which couples examples, and no part of x leaves early.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from diffjax.models.conditioning import Embeds, Vectors
from diffjax.models.layers import DTYPES, Conv, Dense, Dropout
from diffjax.ranges import Count, Rate, one_of
from diffjax.types import Batch, ConfigError, Keys, PerExample

LAYERS = ("dense", "convolutional")


class Coupling(nn.Module):
  """Equation (1).

  Attributes:
    mask: b, [H, W, C] of 0 and 1.
    hidden: widths of its network's layers.
    layers: one of LAYERS; convolutions are 3x3.
    dropout: rate after each.
    conditions: what the network is told, at its first layer.
    dtype: of the computation but for the last layer.
  """

  mask: np.ndarray
  hidden: tuple[int, ...]
  layers: str
  dropout: float
  conditions: Embeds
  dtype: str

  @nn.compact
  def changes(self, x: Batch, cond: Mapping[str, Any], keys: Keys | None) -> tuple[Batch, Batch]:
    """(1 - b) s and (1 - b) t."""
    channels, dense = x.shape[-1], self.layers == "dense"
    h = (x * self.mask).reshape(len(x), -1) if dense else x * self.mask
    shift = Vectors(self.hidden[0], self.conditions, name="embedding")(cond, len(x))
    shift = shift if dense else shift[:, None, None]
    for i, width in enumerate(self.hidden):
      layer = Dense if dense else Conv
      h = nn.swish(layer(width, dtype=self.dtype, name=f"layer_{i}")(h) + shift)
      h, shift = Dropout(self.dropout, name=f"dropout_{i}")(h, keys), 0
    h = h.astype(jnp.float32)
    if dense:
      h = Dense(2 * x[0].size, init_scale=0.0, name="out")(h).reshape(*x.shape[:-1], -1)
    else:
      h = Conv(2 * channels, init_scale=0.0, name="out")(h)
    scale = self.param("scale", nn.initializers.ones_init(), x.shape[1:], jnp.float32)
    return (1 - self.mask) * scale * jnp.tanh(h[..., :channels]), (1 - self.mask) * h[..., channels:]

  def __call__(self, x: Batch, cond: Mapping[str, Any], keys: Keys | None) -> tuple[Batch, PerExample]:
    """y and equation (2)."""
    s, t = self.changes(x, cond, keys)
    return x * jnp.exp(s) + t, s.sum((1, 2, 3))

  def inverse(self, y: Batch, cond: Mapping[str, Any]) -> Batch:
    """x."""
    s, t = self.changes(y, cond, None)
    return (y - t) * jnp.exp(-s)


class RealNVP(nn.Module):
  """The network; `apply({"params": p}, x, cond, keys)`, and back by `apply({"params": p}, z, cond, method="inverse")`.

  Attributes:
    levels: squeezes.
    couplings: of each kind at each level.
    hidden, layers, dropout: of every coupling's network.
    shape: [H, W, C] of the images, set by the task.
    conditions: what it is told, set by the task.
    dtype: of the couplings' networks.
  """

  levels: Count = 1
  couplings: Count = 4
  hidden: tuple[Count, ...] = (72, 72)
  layers: Annotated[str, one_of(LAYERS)] = "dense"
  dropout: Rate = 0.0
  shape: tuple[int, ...] = (8, 8, 1)
  conditions: Embeds = ()
  dtype: Annotated[str, one_of(DTYPES)] = "float32"

  def setup(self):
    if any(side % 2**self.levels for side in self.shape[:2]):
      height, width, _ = self.shape
      raise ConfigError(
        f"levels is {self.levels}, but {height}x{width} pixels cannot be squeezed so often; lower it."
      )
    self.steps = [
      Coupling(mask, self.hidden, self.layers, self.dropout, self.conditions, self.dtype)
      for mask in self._parts()
    ]

  def _parts(self) -> list[np.ndarray]:
    """b of every coupling."""
    (height, width, channels), masks = self.shape, []
    for _ in range(self.levels):
      rows, columns, _ = np.indices((height, width, channels))
      masks += [(rows + columns + i) % 2 for i in range(self.couplings)]
      height, width, channels = height // 2, width // 2, channels * 4
      of_channel = np.indices((height, width, channels))[2]
      masks += [(of_channel < channels // 2) == (i % 2 == 0) for i in range(self.couplings)]
    return [mask.astype(np.float32) for mask in masks]

  def __call__(
    self, x: Float[Array, "b h w c"], cond: Mapping[str, Any], keys: Keys | None = None
  ) -> tuple[Batch, PerExample]:
    """z, in the shape of the last level, and log |det dz/dx|."""
    total = jnp.zeros(len(x), jnp.float32)
    for i, step in enumerate(self.steps):
      x = squeezed(x) if i % (2 * self.couplings) == self.couplings else x
      x, logdet = step(x, cond, keys)
      total += logdet
    return x, total

  def inverse(self, z: Batch, cond: Mapping[str, Any]) -> Float[Array, "b h w c"]:
    """x of z."""
    for i, step in reversed(list(enumerate(self.steps))):
      z = step.inverse(z, cond)
      z = unsqueezed(z) if i % (2 * self.couplings) == self.couplings else z
    return z


def squeezed(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c4"]:
  """2x2 pixels as channels."""
  b, h, w, c = x.shape
  return x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, h // 2, w // 2, 4 * c)


def unsqueezed(x: Float[Array, "b h2 w2 c4"]) -> Float[Array, "b h w c"]:
  """The inverse."""
  b, h, w, c = x.shape
  return x.reshape(b, h, w, 2, 2, c // 4).transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, c // 4)
