"""The convolutional autoencoder of Stable Diffusion (Rombach et al. 2022, section 3.1; Esser et al. 2021, table 7).

At level i the feature maps have 1/2^i of the image's size and channels * multipliers[i] channels:

  encoder  3x3 convolution; each level: `blocks` residual blocks, then, but for the last level, a 3x3 convolution of
           stride 2, padded at the bottom and the right; residual block, attention of one head, residual block;
           group norm, swish, 3x3 convolution.
  decoder  3x3 convolution; residual block, attention, residual block; each level, in reverse: `blocks` + 1 residual
           blocks, then, but for level 0, nearest upsampling and a 3x3 convolution; group norm, swish, 3x3
           convolution.

There are no skips between the two. A variational one (Kingma & Welling 2014) encodes to the mean and the log-variance
of a Gaussian, clipped to [-30, 20], and with unit normal noise eps

  z = mean + exp(logvar / 2) eps                                                                    (1)
  KL(N(mean, exp(logvar)) || N(0, 1)) = 1/2 sum(mean^2 + exp(logvar) - 1 - logvar)                  (2)

(their appendix B). The defaults are Stable Diffusion's for 8 times smaller latents: 83,653,863 parameters; the form
with 16 latent channels and no 1x1 convolutions beside the latent has 83,819,683.
"""

from typing import Annotated, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from diffjax.models.attention import MultiHeadAttention
from diffjax.models.layers import DTYPES, Conv, GroupNorm, upsample
from diffjax.ranges import Count, Whole, one_of
from diffjax.types import ConfigError, PerExample

LOGVAR = (-30.0, 20.0)


class Moments(NamedTuple):
  """A Gaussian for each number of the latent.

  Attributes:
    mean: [B, H, W, Z], or [B, Z] of a dense network.
    logvar: likewise, the logarithm of its variance, in LOGVAR.
  """

  mean: Float[Array, "b *n z"]
  logvar: Float[Array, "b *n z"]


def draw(moments: Moments, eps: Float[Array, "b *n z"]) -> Float[Array, "b *n z"]:
  """Equation (1)."""
  return moments.mean + jnp.exp(moments.logvar / 2) * eps


def kl(moments: Moments) -> PerExample:
  """Equation (2): nats [B], summed over an example's latent."""
  return kl_of_numbers(moments).sum(tuple(range(1, moments.mean.ndim)))


def kl_of_numbers(moments: Moments) -> Float[Array, "b *n z"]:
  """The terms of equation (2), one a number of the latent."""
  mean, logvar = moments
  return 0.5 * (jnp.square(mean) + jnp.exp(logvar) - 1 - logvar)


def moments_of(h: Float[Array, "b *n c"], variational: bool) -> Moments:
  """The Gaussian that an encoder's last layer speaks of: its halves, or without a variance the least one around it."""
  mean, logvar = jnp.split(h, 2, axis=-1) if variational else (h, jnp.full_like(h, LOGVAR[0]))
  return Moments(mean, jnp.clip(logvar, *LOGVAR))


class ResBlock(nn.Module):
  """norm, swish, conv, norm, swish, conv; added to the input, which passes a 1x1 convolution if channels change.

  Attributes:
    channels: of the output.
    groups: of the norms; 0: `group_count`'s.
    dtype: of the computation and the output.
  """

  channels: int
  groups: int
  dtype: str

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
    h = GroupNorm(True, self.dtype, self.groups, name="norm_0")(x)
    h = Conv(self.channels, dtype=self.dtype, name="conv_0")(h)
    h = GroupNorm(True, self.dtype, self.groups, name="norm_1")(h)
    h = Conv(self.channels, init_scale=0.0, dtype=self.dtype, name="conv_1")(h)
    if x.shape[-1] != self.channels:
      x = Conv(self.channels, size=1, dtype=self.dtype, name="shortcut")(x)
    return x + h


class Middle(nn.Module):
  """Residual block, attention between all pixels with one head of all channels, residual block.

  Attributes:
    attention: whether there is any.
    groups: of the norms; 0: `group_count`'s.
    dtype: of the computation and the output.
  """

  attention: bool
  groups: int
  dtype: str

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    b, h, w, c = x.shape
    x = ResBlock(c, self.groups, self.dtype, name="block_0")(x)
    if self.attention:
      y = GroupNorm(False, self.dtype, self.groups, name="norm")(x).reshape(b, h * w, c)
      attend = MultiHeadAttention(1, init_scale=0.0, dtype=self.dtype, name="attention")
      x += attend(y).reshape(x.shape)
    return ResBlock(c, self.groups, self.dtype, name="block_1")(x)


class Encoder(nn.Module):
  """Images to feature maps 2^(levels - 1) times smaller.

  Attributes:
    channels: at level 0.
    multipliers: of the channels, one a level.
    blocks: residual blocks a level.
    out_channels: of the last convolution.
    attention: whether the middle has any.
    groups: of the norms; 0: `group_count`'s, which are 32 from 128 channels on.
    dtype: one of DTYPES. Parameters, statistics of norms, softmax, the last convolution and the output are float32.
    remat: whether the inside of a block is computed again in the backward pass rather than kept.
  """

  channels: Count = 128
  multipliers: tuple[Count, ...] = (1, 2, 4, 4)
  blocks: Count = 2
  out_channels: Count = 8
  attention: bool = True
  groups: Whole = 0
  dtype: Annotated[str, one_of(DTYPES)] = "float32"
  remat: bool = False

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
    """x [B, H, W, C] to [B, H / 2^(levels - 1), W / 2^(levels - 1), out_channels].

    Raises:
      ConfigError: if the image's sides cannot be halved so often, or the groups do not divide the channels.
    """
    last = len(self.multipliers) - 1
    check(self, *x.shape[1:3])
    make_block, make_middle = (nn.remat(m) if self.remat else m for m in (ResBlock, Middle))
    h = Conv(self.channels, dtype=self.dtype, name="conv_in")(x)
    for level, multiplier in enumerate(self.multipliers):
      for i in range(self.blocks):
        fields = (self.channels * multiplier, self.groups, self.dtype)
        h = make_block(*fields, name=f"down_{level}_{i}")(h)
      if level < last:
        h = Conv(h.shape[-1], stride=2, dtype=self.dtype, name=f"down_{level}_sample")(h)
    h = make_middle(self.attention, self.groups, self.dtype, name="middle")(h)
    h = GroupNorm(True, groups=self.groups, name="norm_out")(h)
    return Conv(self.out_channels, name="conv_out")(h)


class Decoder(nn.Module):
  """Feature maps to images 2^(levels - 1) times larger; attributes as the encoder's, but for `blocks` + 1 a level."""

  channels: Count = 128
  multipliers: tuple[Count, ...] = (1, 2, 4, 4)
  blocks: Count = 2
  out_channels: Count = 3
  attention: bool = True
  groups: Whole = 0
  dtype: Annotated[str, one_of(DTYPES)] = "float32"
  remat: bool = False

  @nn.compact
  def __call__(self, z: Float[Array, "b h w z"]) -> Float[Array, "b h2 w2 c"]:
    """z [B, H, W, Z] to [B, H 2^(levels - 1), W 2^(levels - 1), out_channels]."""
    make_block, make_middle = (nn.remat(m) if self.remat else m for m in (ResBlock, Middle))
    h = Conv(self.channels * self.multipliers[-1], dtype=self.dtype, name="conv_in")(z)
    h = make_middle(self.attention, self.groups, self.dtype, name="middle")(h)
    for level, multiplier in reversed(list(enumerate(self.multipliers))):
      for i in range(self.blocks + 1):
        fields = (self.channels * multiplier, self.groups, self.dtype)
        h = make_block(*fields, name=f"up_{level}_{i}")(h)
      if level > 0:
        h = Conv(h.shape[-1], dtype=self.dtype, name=f"up_{level}_sample")(upsample(h))
    h = GroupNorm(True, groups=self.groups, name="norm_out")(h)
    return Conv(self.out_channels, name="conv_out")(h)


class AutoencoderKL(nn.Module):
  """The variational autoencoder; `apply({"params": p}, x, method="encode")`, and `"decode"`.

  Attributes:
    channels: at level 0.
    multipliers: of the channels, one a level; the latent is 2^(levels - 1) times smaller than the image.
    blocks: residual blocks a level; one more in the decoder.
    latent_channels: Z of the latent.
    out_channels: of the images.
    attention: whether the middles of encoder and decoder have any.
    latent_convs: whether a 1x1 convolution stands on either side of the latent.
    groups: of the norms; 0: `group_count`'s, which are 32 from 128 channels on.
    dtype: one of DTYPES. Parameters, statistics of norms, softmax, the convolutions at the latent, the last one and
      the outputs are float32.
    remat: whether the inside of a block is computed again in the backward pass rather than kept.
    variational: whether the encoder answers with a variance; without one it is the least, and the encoder is half as
      wide at its end.
  """

  LAST = ("decoder", "conv_out", "kernel")  # the place of the last layer's weights

  channels: Count = 128
  multipliers: tuple[Count, ...] = (1, 2, 4, 4)
  blocks: Count = 2
  latent_channels: Count = 4
  out_channels: Count = 3
  attention: bool = True
  latent_convs: bool = True
  groups: Whole = 0
  dtype: Annotated[str, one_of(DTYPES)] = "float32"
  remat: bool = False
  variational: bool = True

  def setup(self):
    shape = (self.channels, self.multipliers, self.blocks)
    rest = (self.attention, self.groups, self.dtype, self.remat)
    width = (1 + self.variational) * self.latent_channels
    self.encoder = Encoder(*shape, width, *rest)
    self.decoder = Decoder(*shape, self.out_channels, *rest)
    if self.latent_convs:
      self.moments_conv = Conv(width, size=1)
      self.latent_conv = Conv(self.latent_channels, size=1)

  def encode(self, x: Float[Array, "b h w c"]) -> Moments:
    """The Gaussian of the latent of images [B, H, W, C], in [-1, 1].

    Raises:
      ConfigError: if the image's sides cannot be halved so often.
    """
    h = self.encoder(x)
    return moments_of(self.moments_conv(h) if self.latent_convs else h, self.variational)

  def decode(self, z: Float[Array, "b h w z"]) -> Float[Array, "b h2 w2 c"]:
    """The images of latents [B, H, W, Z] in the encoder's own scale, in [-1, 1] but for errors."""
    return self.decoder(self.latent_conv(z) if self.latent_convs else z)

  def __call__(
    self, x: Float[Array, "b h w c"], eps: Float[Array, "b h2 w2 z"] | None = None
  ) -> tuple[Float[Array, "b h w c"], Moments]:
    """Images [B, H, W, C] there and back, and their moments; by equation (1), or from the mean without eps."""
    moments = self.encode(x)
    return self.decode(moments.mean if eps is None else draw(moments, eps)), moments


def check(net: Encoder, height: int, width: int) -> None:
  """Raises ConfigError if an image's sides cannot be halved once between all levels, or groups do not fit."""
  step = 2 ** (len(net.multipliers) - 1)
  if height % step or width % step:
    raise ConfigError(
      f"multipliers={net.multipliers} halves the image {len(net.multipliers) - 1} times, so its sides must be"
      f" divisible by {step}, but it is {height}x{width}."
    )
  for multiplier in net.multipliers:
    if net.groups and net.channels * multiplier % net.groups:
      raise ConfigError(
        f"groups={net.groups} must divide the channels, which are {net.channels * multiplier} at one level."
      )
