"""The vision transformer (Dosovitskiy et al. 2021, section 3.1), in NHWC.

  z_0 = [x_class; x_1 E; ...; x_N E] + positions                                                    (1)
  z_l = block(z_(l-1)), pre-norm (transformer.py), l = 1..L                                        (2), (3)
  y   = norm(z_L^class), or the mean of norm(z_L) over the patches                                  (4)

x_n are patches of patch x patch pixels, row by row. In CLIP (Radford et al. 2021, section 2.4) E has no bias,
another norm stands between (1) and (2), and y passes a projection without bias. In this form the
defaults have 87,456,000 parameters for images of 224 x 224, 393,216 more with the projection to 512.
"""

from typing import Annotated, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from diffjax.models.dit import patches
from diffjax.models.layers import DTYPES, Dense, initialiser
from diffjax.models.transformer import ACTIVATIONS, Block, LayerNorm
from diffjax.ranges import Count, Positive, Rate, Whole, one_of
from diffjax.types import ConfigError, Keys

POOLS = ("class", "mean")


class ImageFeatures(NamedTuple):
  """What a vision transformer makes of an image.

  Attributes:
    tokens: [B, N, C], before the last norm, the class token first where there is one.
    pooled: [B, C] of equation (4), or [B, projection].
  """

  tokens: Float[Array, "b n c"]
  pooled: Float[Array, "b d"]


class VisionTransformer(nn.Module):
  """The encoder; `apply({"params": p}, images, keys)`. The defaults are ViT-B/32 without its head.

  Attributes:
    patch: side of a patch, a divisor of the image's sides.
    channels: of every token.
    blocks: number of blocks.
    heads: of every attention; a divisor of the channels.
    mlp_ratio: hidden channels of an mlp per channel.
    activation: of the mlps, one of ACTIVATIONS.
    pool: "class", of a token of its own, or "mean" of the patches.
    patch_bias: whether E has one.
    pre_norm: whether a norm stands before the blocks.
    eps: of all norms.
    projection: channels of the pooled vector; 0: no projection.
    dropout: rate in [0, 1), in every block.
    dtype: one of DTYPES, of dense layers and the tensors between them. Parameters, norms, softmax and the outputs
      are float32.
    remat: whether the inside of a block is computed again in the backward pass rather than kept.
    rows: standard deviation of a new class token and of the rows of a new table of places; see TextTransformer's.
  """

  patch: Count = 32
  channels: Count = 768
  blocks: Count = 12
  heads: Count = 12
  mlp_ratio: Positive = 4.0
  activation: Annotated[str, one_of(ACTIVATIONS)] = "gelu"
  pool: Annotated[str, one_of(POOLS)] = "class"
  patch_bias: bool = True
  pre_norm: bool = False
  eps: Positive = 1e-6
  projection: Whole = 0
  dropout: Rate = 0.0
  dtype: Annotated[str, one_of(DTYPES)] = "float32"
  remat: bool = False
  rows: Positive = 0.02

  @nn.compact
  def __call__(self, images: Float[Array, "b h w c"], keys: Keys | None = None) -> ImageFeatures:
    """Looks at images.

    Args:
      images: [B, H, W, C], of one size for the same parameters; H and W divisible by patch.
      keys: [B] keys of the examples' dropout masks; None for no dropout.

    Raises:
      ConfigError: if the patch does not divide the images' sides, or an attribute is out of its range.
    """
    check(self, *images.shape[1:3])
    normal = nn.initializers.normal(self.rows)
    dense = nn.Dense(self.channels, self.patch_bias, self.dtype, kernel_init=initialiser(), name="patches")
    h = dense(patches(images, self.patch))
    if self.pool == "class":
      first = self.param("class", normal, (self.channels,), jnp.float32).astype(self.dtype)
      h = jnp.concatenate([jnp.broadcast_to(first, (h.shape[0], 1, self.channels)), h], axis=1)
    h += self.param("positions", normal, (h.shape[1], self.channels), jnp.float32).astype(self.dtype)
    if self.pre_norm:
      h = LayerNorm(self.eps, self.dtype, name="norm_in")(h)

    make_block = nn.remat(Block) if self.remat else Block
    hidden = int(self.mlp_ratio * self.channels)
    fields = {"activation": self.activation, "eps": self.eps, "dropout": self.dropout, "dtype": self.dtype}
    for i in range(self.blocks):
      h = make_block(self.heads, hidden, **fields, name=f"block_{i}")(h, keys=keys)
    h = h.astype(jnp.float32)
    norm = LayerNorm(self.eps, name="norm_out")
    pooled = norm(h[:, 0]) if self.pool == "class" else norm(h).mean(1)
    if self.projection:
      pooled = nn.Dense(self.projection, use_bias=False, kernel_init=initialiser(), name="projection")(pooled)
    return ImageFeatures(h, pooled)


class Classifier(nn.Module):
  """A vision transformer with a dense layer to the classes, which starts at zero (Dosovitskiy et al. 2021, app. D.4).

  Attributes:
    encoder: of the images.
    classes: how many.
  """

  encoder: VisionTransformer
  classes: Count

  @nn.compact
  def __call__(self, images: Float[Array, "b h w c"], keys: Keys | None = None) -> Float[Array, "b k"]:
    """The logits [B, classes] of images [B, H, W, C]; keys as the encoder's."""
    return Dense(self.classes, 0.0, name="head")(self.encoder(images, keys).pooled)


def check(net: VisionTransformer, height: int, width: int) -> None:
  """Raises ConfigError if the patch does not fit the images, or an attribute is out of its range."""
  if height % net.patch or width % net.patch:
    raise ConfigError(f"patch={net.patch} must divide the image's sides, but it is {height}x{width}.")
  if net.pool not in POOLS:
    raise ConfigError(f"pool={net.pool!r} must be one of {', '.join(POOLS)}.")
