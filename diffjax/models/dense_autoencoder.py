"""A variational autoencoder of dense layers (Kingma & Welling 2014, appendix C), for small images.

  encoder  x as one vector, `hidden` layers with their activation, one layer to mean and log-variance [Z]
  decoder  z, `hidden` layers in reverse, one layer to what the decoder says of every number of x

Conditions join the first layer of both (Sohn et al. 2015). Kingma & Welling have one hidden layer of 500 and tanh;
swish learns faster.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from diffjax.models.autoencoder import Moments, draw, moments_of
from diffjax.models.conditioning import Embeds, Vectors
from diffjax.models.layers import DTYPES
from diffjax.ranges import Count, one_of

ACTIVATIONS = {"swish": nn.swish, "tanh": nn.tanh, "relu": nn.relu}


class Dense(nn.Module):
  """Layers of these widths with an activation between them; the last, "out", is float32 and has none.

  Attributes:
    widths: of all layers.
    activation: one of ACTIVATIONS.
    dtype: of the computation but for the last layer.
    conditions: what it is told.
  """

  widths: tuple[int, ...]
  activation: str
  dtype: str
  conditions: Embeds = ()

  @nn.compact
  def __call__(self, h: Float[Array, "b n"], cond: Mapping[str, Any] | None) -> Float[Array, "b m"]:
    *hidden, last = self.widths
    shift = Vectors(self.widths[0], self.conditions, name="embedding")(cond or {}, len(h))
    for i, width in enumerate(hidden):
      h = nn.Dense(width, dtype=self.dtype, name=f"dense_{i}")(h)
      h, shift = ACTIVATIONS[self.activation](h + shift), 0
    return nn.Dense(last, name="out")(h.astype(jnp.float32))


class DenseAutoencoder(nn.Module):
  """The network; `apply({"params": p}, x, method="encode")`, and `"decode"`.

  Attributes:
    shape: [H, W, C] of the images.
    hidden: widths of the encoder's hidden layers, which the decoder has in reverse.
    latent: numbers of the latent.
    activation: one of ACTIVATIONS.
    out_channels: of what is decoded, a multiple of C.
    dtype: one of DTYPES. Parameters, last layers and outputs are float32.
    variational: whether the encoder answers with a variance.
    conditions: what it is told, set by the task.
  """

  LAST = ("decoder", "out", "kernel")  # the place of the last layer's weights

  shape: tuple[int, ...] = (8, 8, 1)
  hidden: tuple[Count, ...] = (256, 256)
  latent: Count = 8
  activation: Annotated[str, one_of(ACTIVATIONS)] = "swish"
  out_channels: Count = 1
  dtype: Annotated[str, one_of(DTYPES)] = "float32"
  variational: bool = True
  conditions: Embeds = ()

  def setup(self):
    numbers = math.prod(self.shape[:-1]) * self.out_channels
    layers = lambda *widths: Dense(widths, self.activation, self.dtype, self.conditions)
    self.encoder = layers(*self.hidden, (1 + self.variational) * self.latent)
    self.decoder = layers(*self.hidden[::-1], numbers)

  def encode(self, x: Float[Array, "b h w c"], cond: Mapping[str, Any] | None = None) -> Moments:
    """The Gaussian [B, Z] of the latent of images [B, H, W, C], in [-1, 1]."""
    return moments_of(self.encoder(x.reshape(len(x), -1), cond), self.variational)

  def decode(self, z: Float[Array, "b z"], cond: Mapping[str, Any] | None = None) -> Float[Array, "b h w c"]:
    """The decoder's outputs for latents [B, Z]: [B, H, W, out_channels]."""
    return self.decoder(z, cond).reshape(len(z), *self.shape[:-1], self.out_channels)

  def __call__(
    self,
    x: Float[Array, "b h w c"],
    eps: Float[Array, "b z"] | None = None,
    cond: Mapping[str, Any] | None = None,
  ) -> tuple[Float[Array, "b h w c"], Moments]:
    """Images [B, H, W, C] there and back, and their moments; from the mean without eps."""
    moments = self.encode(x, cond)
    return self.decode(moments.mean if eps is None else draw(moments, eps), cond), moments
