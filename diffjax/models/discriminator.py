"""The discriminator of patches (Isola et al. 2017, section 3.2.2; in VQGAN: Esser et al. 2021, section 3.1).

`layers` 4x4 convolutions of stride 2 and two of stride 1, padded by one pixel, so that each number of the output
tells of a patch of the image (70 pixels a side with 3 layers) whether it is real. Between them leaky ReLUs of slope
0.2, and norms but after the first convolution and the last. With 3 layers of width 64 it has 2,765,633 parameters.

The authors' norm is batch norm with scale and bias, by the moments of the batch at hand:

  y = scale (x - mean_bhw(x)) / sqrt(var_bhw(x) + 1e-5) + bias                                      (1)

which makes an example's output depend on its batch, and so on how the batch is cut; no moments are averaged over
steps, since a discriminator only serves in training. "group" is group norm, which couples no examples and has as many
parameters.
"""

from typing import Annotated

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from diffjax.models.conv import conv
from diffjax.models.layers import DTYPES, GroupNorm
from diffjax.ranges import Count, one_of
from diffjax.types import ConfigError

SLOPE = 0.2  # of the leaky ReLU
MOST = 8  # times the width has the widest convolution


class BatchNorm(nn.Module):
  """Equation (1) (Ioffe & Szegedy 2015, algorithm 1), in float32."""

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    scale = self.param("scale", _around_one, (x.shape[-1],), jnp.float32)
    bias = self.param("bias", nn.initializers.zeros_init(), (x.shape[-1],), jnp.float32)
    x = x.astype(jnp.float32)
    x -= x.mean((0, 1, 2))
    return x * (scale * jax.lax.rsqrt(jnp.square(x).mean((0, 1, 2)) + 1e-5)) + bias


def _around_one(key, shape, dtype):
  return 1 + 0.02 * jax.random.normal(key, shape, dtype)


NORMS = {"batch": BatchNorm, "group": GroupNorm}


class Conv(nn.Module):
  """A 4x4 convolution padded by one pixel: [B, H, W, C] to [B, (H - 2) // stride + 1, ..., features].

  Attributes:
    features: output channels.
    stride: 1 or 2.
    bias: whether it has one.
    dtype: of the computation and the output.
  """

  features: int
  stride: int
  bias: bool
  dtype: str

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
    kernel = self.param(
      "kernel", nn.initializers.normal(0.02), (4, 4, x.shape[-1], self.features), jnp.float32
    )
    # SAME pads by one pixel too, but for a further row and column at the end where that leaves a remainder.
    rows, columns = ((size - 2) // self.stride + 1 for size in x.shape[1:3])
    y = conv(x.astype(self.dtype), kernel.astype(self.dtype), self.stride)[:, :rows, :columns]
    if self.bias:
      y += self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32).astype(self.dtype)
    return y


class PatchDiscriminator(nn.Module):
  """The network; `apply({"params": p}, x)`.

  Attributes:
    width: channels of the first convolution; each next one has twice as many, up to MOST times the width.
    layers: of stride 2.
    norm: one of NORMS.
    dtype: one of DTYPES, of convolutions but the last. Parameters, norms and the output are float32.
  """

  width: Count = 64
  layers: Count = 3
  norm: Annotated[str, one_of(NORMS)] = "batch"
  dtype: Annotated[str, one_of(DTYPES)] = "float32"

  @property
  def couples(self) -> bool:
    """Whether an image's logits depend on the others of its batch."""
    return self.norm == "batch"

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2"]:
    """Logits [B, H2, W2] that the patches of x [B, H, W, C] are real, from a side of 3 * 2^layers on.

    Raises:
      ConfigError: if the norm is none of NORMS, or an image is too small for one patch.
    """
    if self.norm not in NORMS:
      raise ConfigError(f"norm={self.norm!r} must be one of {', '.join(NORMS)}.")
    if min(x.shape[1:3]) < 3 * 2**self.layers:
      raise ConfigError(
        f"layers={self.layers} needs images of {3 * 2**self.layers} pixels a side, but these are"
        f" {x.shape[1]}x{x.shape[2]}."
      )
    h = nn.leaky_relu(Conv(self.width, 2, True, self.dtype, name="conv_0")(x), SLOPE)
    for i in range(1, self.layers + 1):
      width, stride = self.width * min(2**i, MOST), 2 if i < self.layers else 1
      h = Conv(width, stride, False, self.dtype, name=f"conv_{i}")(h)
      h = nn.leaky_relu(NORMS[self.norm](name=f"norm_{i}")(h), SLOPE)
    return Conv(1, 1, True, "float32", name="conv_out")(h)[..., 0]
