"""The U-Net of DDPM (Ho et al. 2020, appendix B), in NHWC.

At level i the feature maps have 1/2^i of the image's size and channels * multipliers[i] channels:

  in      3x3 convolution.
  down    each level: `blocks` residual blocks, each followed by attention at the sizes named; then,
          but for the last level, a 3x3 convolution of stride 2. Each of these, and `in`, leaves a
          skip.
  middle  residual block, attention, residual block.
  up      each level, in reverse: `blocks` + 1 residual blocks, each on [h, newest skip], with
          attention as on the way down; then, but for level 0, nearest upsampling and a 3x3
          convolution.
  out     group norm, swish, 3x3 convolution.

With `resample`, `skip_scale` and `attend_last` it is DDPM++ (Song et al. 2021, appendix H, without its Fourier
features), which Karras et al. 2022 train on CIFAR-10. With `transformers` it is Stable Diffusion's (Rombach et al.
2022, section 3.3), whose attention is a transformer that reads the conditions' tokens between its own attention and
its mlp; configs/sd_unet.py has every number. With `scale_shift` and resampling in bare blocks it is ADM's (Dhariwal &
Nichol 2021, section 3).

The last convolution of every residual branch and of the network starts at zero (the authors' code
has 1e-10 of the usual variance), so that at first every branch adds nothing and the output is 0.

A video [B, T, H, W, C] passes it frame by frame, and every attention is followed by one over time (space_time.py).

For 32x32x3 images the defaults are the paper's CIFAR-10 network: 35,746,307 parameters.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import flax.linen as nn
import jax.numpy as jnp
from flax.core import FrozenDict
from jaxtyping import Array, Bool, Float

from diffjax.models.attention import MultiHeadAttention
from diffjax.models.conditioning import Conditioning, Embeds, Widths, with_planes
from diffjax.models.layers import (
  DTYPES,
  Conv,
  Dense,
  Dropout,
  GroupNorm,
  downsample,
  require_sides,
  self_attention,
  upsample,
)
from diffjax.models.space_time import TimeAttention, of_frames
from diffjax.models.transformer import SpatialTransformer
from diffjax.ranges import Count, Positive, Rate, Whole, closed
from diffjax.types import ConfigError, Keys, PerExample

RESAMPLES = ("conv", "block", "bare_block")


class ResBlock(nn.Module):
  """norm, swish, resampling, conv, + embedding, norm, swish, dropout, conv; added to the input.

  Where the number of channels or of pixels changes, the input passes the resampling and a 1x1 convolution first. With
  `scale_shift` the embedding says scale and shift, norm(h) (1 + scale) + shift, in place of being added.

  Attributes:
    channels: of the output.
    dropout: rate in [0, 1).
    dtype: of the computation and the output.
    scale: factor on the sum.
    resample: `upsample`, `downsample`, or None.
    groups, eps: of the norms; see GroupNorm.
    scale_shift: how the embedding enters.
    bare: whether the 1x1 convolution is left out where the channels stay.
  """

  channels: int
  dropout: float
  dtype: str
  scale: float = 1.0
  resample: Callable | None = None
  groups: int = 0
  eps: float = 1e-6
  scale_shift: bool = False
  bare: bool = False

  @nn.compact
  def __call__(
    self, x: Float[Array, "b h w c"], emb: Float[Array, "b e"], keys: Keys | None
  ) -> Float[Array, "b h2 w2 d"]:
    """x [B, H, W, C] and emb [B, E], which is swish of the embedding, to [B, H, W, channels], resampled."""
    h = GroupNorm(True, self.dtype, self.groups, self.eps, name="norm_0")(x)
    if self.resample:
      h, x = self.resample(h), self.resample(x)
    projection = Dense((1 + self.scale_shift) * self.channels, dtype=self.dtype, name="embedding")(emb)
    h = Conv(self.channels, dtype=self.dtype, name="conv_0")(h, None if self.scale_shift else projection)
    h = GroupNorm(not self.scale_shift, self.dtype, self.groups, self.eps, name="norm_1")(h)
    if self.scale_shift:
      scale, shift = jnp.split(projection[:, None, None], 2, axis=-1)
      h = nn.swish(h * (1 + scale) + shift)
    h = Dropout(self.dropout, name="dropout")(h, keys)
    h = Conv(self.channels, init_scale=0.0, dtype=self.dtype, name="conv_1")(h)
    if x.shape[-1] != self.channels or (self.resample and not self.bare):
      x = Conv(self.channels, size=1, dtype=self.dtype, name="shortcut")(x)
    return (x + h) * self.scale


class Attention(nn.Module):
  """Self-attention between all pixels, added to the input; softmax in float32.

  Attributes:
    heads: a divisor of the channels.
    dtype: of the computation and the output.
    scale: factor on the sum.
    groups, eps: of the norm; see GroupNorm.
    norm: whether there is one.
    chunk: see self_attention.
  """

  heads: int
  dtype: str
  scale: float = 1.0
  groups: int = 0
  eps: float = 1e-6
  norm: bool = True
  chunk: int = 0

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    b, h, w, c = x.shape
    y = GroupNorm(False, self.dtype, self.groups, self.eps, name="norm")(x) if self.norm else x
    # Three projections in one: 3c outputs make the fan average 2c, and scale 2 makes up for it.
    y = Conv(3 * c, size=1, init_scale=2.0, dtype=self.dtype, name="qkv")(y)
    y = self_attention(y.reshape(b, h * w, 3 * c), self.heads, chunk=self.chunk).reshape(b, h, w, c)
    return (x + Conv(c, size=1, init_scale=0.0, dtype=self.dtype, name="out")(y)) * self.scale


class CrossAttention(nn.Module):
  """Attention from all pixels to the tokens of the conditions, added to the input; attributes as Attention's."""

  heads: int
  dtype: str
  scale: float = 1.0
  groups: int = 0
  eps: float = 1e-6

  @nn.compact
  def __call__(
    self, x: Float[Array, "b h w c"], tokens: Float[Array, "b l d"], mask: Bool[Array, "b l"]
  ) -> Float[Array, "b h w c"]:
    y = GroupNorm(False, self.dtype, self.groups, self.eps, name="norm")(x)
    y = y.reshape(x.shape[0], -1, x.shape[-1])
    attention = MultiHeadAttention(self.heads, init_scale=0.0, dtype=self.dtype, name="attention")
    return (x + attention(y, tokens.astype(self.dtype), mask).reshape(x.shape)) * self.scale


class UNet(nn.Module):
  """The network; `apply({"params": p}, x, time, cond, keys)`.

  Attributes:
    channels: at level 0; even and at least 4.
    multipliers: of the channels, one a level.
    blocks: residual blocks a level on the way down; one more on the way up.
    level_blocks: the same level by level, in place of `blocks`; 0 at the first levels halves before any block, as
      Imagen's efficient U-Net (Saharia et al. 2022, section 2.3.1). (): `blocks` everywhere.
    attention: sizes of the feature maps (heights, if images are not square) that get attention; the
      middle always does.
    heads: of every attention; a divisor of the channels where attention is.
    head_channels: of a head, so that wider levels have more of them; 0: `heads` says how many.
    dropout: rate in [0, 1), in every residual block.
    out_channels: 3 for RGB; 6 where a variance is learned too.
    conditions: what it is told besides the time, (name, how it is embedded) of each. Their vectors join the time's
      embedding, to their tokens every attention is followed by one more, and their planes join the input.
    dtype: one of DTYPES, of convolutions, dense layers and the tensors between them. Parameters,
      the statistics of norms, softmax and the time embedding are float32, and so is the output, which
      in bfloat16 the last convolution has rounded.
    remat: whether the inside of a block is computed again in the backward pass rather than kept:
      less memory, a third more work, the same numbers and the same parameter tree.
    time_scale: factor on the time before the sinusoids. They were made for DDPM's index 0..999: the
      periods run from 6 to 63,000 units. Over t in [0, 1] all of them would be nearly constant
      (1000 gives DDPM's range), and over a log-SNR in [-20, 20] most (25 gives the same span).
    resample: between levels: "conv" as above, or "block", a residual block that halves its input by means of
      2x2 pixels, or doubles it by repeating them, before its first convolution; "bare_block", the same without a
      convolution on what it is added to.
    level_resamples: the same level by level, of what leaves a level for another size, in place of `resample`.
    skip_scale: factor on the sums of residual blocks and attention; sqrt(1/2) keeps their variance.
    attend_last: whether on the way up only the last residual block of a level gets attention.
    transformers: blocks of the transformer that stands in the place of attention, one number a level, the middle
      having the last level's; (): plain attention.
    groups: of the norms, a divisor of all channels; 0: `group_count`'s, which are 32 from 128 channels on.
    eps: of the norms, but for a transformer's.
    centred: whether the convolutions that halve have their middles on the pixels 0, 2, ... (Stable Diffusion), or on
      1, 3, ... (DDPM).
    frequency_shift: 1 or 0, of the time's sines and cosines; see `sinusoids`.
    cosines_first: whether the cosines stand before the sines.
    scale_shift: whether the embedding scales and shifts in residual blocks (Dhariwal & Nichol 2021, equation 4), or
      is added.
    middle_norm: whether the middle's attention begins with a norm; diffusers' networks with scale_shift have none.
    attention_chunk: pixels (and of a video frames) that attend at a time, so that attention's logits never stand
      whole in memory, nor in the backward pass, which computes them again; 0: all. Not with `transformers`.
  """

  channels: Count = 128
  multipliers: tuple[Count, ...] = (1, 2, 2, 2)
  blocks: Count = 2
  attention: tuple[Count, ...] = (16,)
  heads: Count = 1
  head_channels: Whole = 0
  dropout: Rate = 0.1
  out_channels: int = 3
  conditions: Embeds = ()
  dtype: str = "float32"
  remat: bool = False
  time_scale: Positive = 1.0
  resample: str = "conv"
  skip_scale: Positive = 1.0
  attend_last: bool = False
  transformers: tuple[Count, ...] = ()
  groups: Whole = 0
  eps: Positive = 1e-6
  centred: bool = False
  frequency_shift: Annotated[int, closed(0, 1)] = 1
  cosines_first: bool = False
  level_blocks: tuple[Whole, ...] = ()
  level_resamples: tuple[str, ...] = ()
  scale_shift: bool = False
  middle_norm: bool = True
  attention_chunk: Whole = 0

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b *places c"],
    time: PerExample,
    cond: Mapping[str, Any] = FrozenDict(),
    keys: Keys | None = None,
  ) -> Float[Array, "b *places d"]:
    """The network's output for noisy images or videos.

    Args:
      x: [B, H, W, C] or [B, T, H, W, C]; H and W divisible by 2^(levels - 1).
      time: [B], any real numbers: what the network is told of the time; see `time_scale`.
      cond: the value [B, ...] of each condition by its name.
      keys: [B] keys of the examples' dropout masks, the same for all frames; None for no dropout.

    Returns:
      float32 [B, ..., H, W, out_channels].

    Raises:
      ConfigError: if an attribute is out of range or does not fit the image, or if cond has other names than the
        conditions.
    """
    require_sides(x, "U-Net")
    check(self, *x.shape[-3:-1])
    modules = (ResBlock, Attention, CrossAttention, SpatialTransformer, TimeAttention)
    make_block, make_attention, make_cross, make_transformer, make_time = (
      nn.remat(module) if self.remat else module for module in modules
    )
    norm = (self.groups, self.eps)
    widths = Widths(self.channels, 4 * self.channels, 4 * self.channels, rows=1.0)
    waves = (self.frequency_shift, self.cosines_first)
    embedding = Conditioning(widths, self.time_scale, self.conditions, *waves, name="embedding")(time, cond)
    emb, tokens = nn.swish(embedding.vector), embedding.tokens
    x = with_planes(x, embedding.planes)
    outer, frames = x.shape[:-3], x.shape[1] if x.ndim == 5 else 0
    if frames:
      x, (emb, tokens, keys) = x.reshape(-1, *x.shape[2:]), of_frames((emb, tokens, keys), frames)

    def block(h, channels, name, resample=None, bare=False):
      fields = (channels, self.dropout, self.dtype, self.skip_scale, resample, *norm, self.scale_shift, bare)
      return make_block(*fields, name=name)(h, emb, keys)

    def attend(h, level, name, normed=True):
      heads = h.shape[-1] // self.head_channels if self.head_channels else self.heads
      if self.transformers:
        fields = (heads, self.transformers[level], self.groups, self.dropout, self.dtype, self.skip_scale)
        h = make_transformer(*fields, name=name)(h, *(tokens or (None, None)), keys)
      else:
        fields = (heads, self.dtype, self.skip_scale, *norm, normed, self.attention_chunk)
        h = make_attention(*fields, name=name)(h)
        if tokens is not None:
          h = make_cross(heads, self.dtype, self.skip_scale, *norm, name=f"{name}_cross")(h, *tokens)
      if not frames:
        return h
      fields = (frames, heads, self.dtype, *norm, self.attention_chunk)
      return make_time(*fields, name=f"{name}_time")(h, embedding.together)

    def stage(h, level, name, attends=True):
      h = block(h, self.channels * self.multipliers[level], f"{name}_block")
      return attend(h, level, f"{name}_attention") if attends and h.shape[1] in self.attention else h

    def sample(h, level, name, up):
      way = self.level_resamples[level] if self.level_resamples else self.resample
      if way != "conv":
        return block(h, h.shape[-1], name, upsample if up else downsample, way == "bare_block")
      if up:
        return Conv(h.shape[-1], dtype=self.dtype, name=name)(upsample(h))
      return Conv(h.shape[-1], stride=2, dtype=self.dtype, centred=self.centred, name=name)(h)

    last = len(self.multipliers) - 1
    depths = self.level_blocks or (self.blocks,) * (last + 1)
    h = Conv(self.channels, dtype=self.dtype, name="conv_in")(x)
    skips = [h]
    for level in range(last + 1):
      for i in range(depths[level]):
        h = stage(h, level, f"down_{level}_{i}")
        skips.append(h)
      if level < last:
        h = sample(h, level, f"down_{level}_sample", up=False)
        skips.append(h)

    h = block(h, h.shape[-1], "middle_0_block")
    h = attend(h, last, "middle_attention", self.middle_norm)
    h = block(h, h.shape[-1], "middle_1_block")

    for level in reversed(range(last + 1)):
      for i in range(depths[level] + 1):
        attends = i == depths[level] or not self.attend_last
        h = stage(jnp.concatenate([h, skips.pop()], axis=-1), level, f"up_{level}_{i}", attends)
      if level > 0:
        h = sample(h, level, f"up_{level}_sample", up=True)

    h = GroupNorm(True, self.dtype, *norm, name="norm_out")(h)
    h = Conv(self.out_channels, init_scale=0.0, dtype=self.dtype, name="conv_out")(h).astype(jnp.float32)
    return h.reshape(*outer, *h.shape[1:])


def check(net: UNet, height: int, width: int) -> None:
  """Raises ConfigError if an attribute is out of range or does not fit the images."""
  _check_attributes(net)
  _check_image(net, height, width)


def _check_attributes(net: UNet) -> None:
  if net.channels < 4 or net.channels % 2:
    raise ConfigError(
      f"channels={net.channels} must be even and at least 4: the time embedding has as many sines as cosines."
    )
  if not net.multipliers or min(net.multipliers) < 1:
    raise ConfigError(
      f"multipliers={net.multipliers} must be one positive integer for each level, at least one."
    )
  if len(net.level_blocks) not in (0, len(net.multipliers)):
    raise ConfigError(
      f"level_blocks={net.level_blocks} must be one number for each of the {len(net.multipliers)} levels, or none."
    )
  if net.blocks < 1:
    raise ConfigError(f"blocks={net.blocks} must be at least 1.")
  if not 0 <= net.dropout < 1:
    raise ConfigError(f"dropout={net.dropout} must be at least 0 and less than 1.")
  if net.dtype not in DTYPES:
    raise ConfigError(f"dtype={net.dtype!r} must be one of {', '.join(DTYPES)}.")
  if net.resample not in RESAMPLES:
    raise ConfigError(f"resample={net.resample!r} must be one of {', '.join(RESAMPLES)}.")
  if len(net.level_resamples) not in (0, len(net.multipliers)) or set(net.level_resamples) - set(RESAMPLES):
    raise ConfigError(
      f"level_resamples={net.level_resamples} must be one of {', '.join(RESAMPLES)} for each of the"
      f" {len(net.multipliers)} levels, or none."
    )
  if len(net.transformers) not in (0, len(net.multipliers)):
    raise ConfigError(
      f"transformers={net.transformers} must be one number for each of the {len(net.multipliers)} levels, or none."
    )
  if net.transformers and net.attention_chunk:
    raise ConfigError(
      f"attention_chunk={net.attention_chunk} is of plain attention, and transformers={net.transformers} has none;"
      " set one of them to its default."
    )
  widths = [net.channels, *(net.channels * multiplier for multiplier in net.multipliers)]
  if net.groups and (odd := [width for width in widths if width % net.groups]):
    raise ConfigError(f"groups={net.groups} must divide all channels, but somewhere there are {odd[0]}.")


def _check_image(net: UNet, height: int, width: int) -> None:
  levels = len(net.multipliers)
  step = 2 ** (levels - 1)
  if height % step or width % step:
    raise ConfigError(
      f"multipliers={net.multipliers} halves the image {levels - 1} times, so its sides must be"
      f" divisible by {step}, but it is {height}x{width}."
    )
  sizes = [height // 2**level for level in range(levels)]
  if missing := [size for size in net.attention if size not in sizes]:
    raise ConfigError(
      f"attention={net.attention} names the size {missing[0]}, which no feature map of a"
      f" {height}x{width} image has; the sizes are {', '.join(map(str, sizes))}."
    )
  widths = {net.multipliers[level] for level in range(levels) if sizes[level] in net.attention}
  name = "head_channels" if net.head_channels else "heads"
  divisor = getattr(net, name)
  for multiplier in sorted({*widths, net.multipliers[-1]}):
    if divisor < 1 or net.channels * multiplier % divisor:
      raise ConfigError(
        f"{name}={divisor} must divide the channels wherever attention is, but one attention has"
        f" {net.channels * multiplier}."
      )
