"""The diffusion transformer with adaLN-Zero (Peebles & Xie 2023, section 3.2), in NHWC.

  in      patches of patch x patch pixels, each a vector through one dense layer, plus the fixed sines and
          cosines of its row and its column.
  blocks  each, with (shift, scale, gate) twice from swish(embedding) through a dense layer,
          h += gate_1 attention(norm(h) (1 + scale_1) + shift_1)                                    (1)
          h += gate_2 mlp(norm(h) (1 + scale_2) + shift_2)                                          (2)
  out     norm(h) (1 + scale) + shift, and a dense layer back to patches.

The embedding is that of the time plus those of the conditions. Their tokens are attended to between (1) and (2),
h += attention(norm(h), tokens). The dense layers of shift, scale and gate and the
last one start at zero, so that at first every block is the identity and the output is 0. Norms are layer
norms without parameters of their own.

Of a video the patches are tubelets, of several frames, with the sines and cosines of their time besides. Blocks attend
by turns to the tubelets of one time and to those of one place (Latte, Ma et al. 2024, variant 1), or each to all.
"""

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.core import FrozenDict
from jaxtyping import Array, Bool, Float

from diffjax.models.attention import MultiHeadAttention
from diffjax.models.conditioning import Conditioning, Embeds, Widths, with_planes
from diffjax.models.layers import DTYPES, Dense, Dropout, require_sides, self_attention, sinusoids
from diffjax.models.space_time import apart, layered, of_frames, unlayered
from diffjax.ranges import Count, Positive, Rate, Whole, closed
from diffjax.types import ConfigError, Keys, PerExample

TIME_CHANNELS = 256  # of the sines and cosines of the time


def norm(x: Float[Array, "b n c"], eps: float = 1e-6) -> Float[Array, "b n c"]:
  """Layer norm over the channels, without parameters, in float32."""
  x = x.astype(jnp.float32)
  x -= x.mean(-1, keepdims=True)
  return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + eps)


class Block(nn.Module):
  """Equations (1) and (2).

  Attributes:
    heads: a divisor of the channels.
    mlp_ratio: hidden channels of the mlp per channel.
    dropout: rate in [0, 1), after the attention and the mlp.
    dtype: of the computation and the output.
    mlp_eps: of the norm before the mlp.
    chunk: see self_attention.
  """

  heads: int
  mlp_ratio: float
  dropout: float
  dtype: str
  mlp_eps: float = 1e-6
  chunk: int = 0

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b n c"],
    emb: Float[Array, "b e"],
    tokens: tuple[Float[Array, "b l d"], Bool[Array, "b l"]] | None,
    keys: Keys | None,
    bias: Float[Array, "b 1 m m"] | None = None,
  ) -> Float[Array, "b n c"]:
    """x [B, N, C], emb [B, E], which is swish of the embedding, and tokens with their mask, to [B, N, C].

    `bias` joins the logits of the attention between the x, that of M times for those of N / M places each.
    """
    channels = x.shape[-1]
    parts = jnp.split(Dense(6 * channels, 0.0, name="modulation")(emb)[:, None], 6, axis=-1)

    def branch(x, shift, scale, gate, change, name, eps=1e-6):
      h = change((norm(x, eps) * (1 + scale) + shift).astype(self.dtype))
      h = Dropout(self.dropout, name=name)(h, keys)
      return x + (gate * h).astype(self.dtype)

    x = branch(x, *parts[:3], lambda h: self._attention(h, bias), "dropout_0")
    if tokens is not None:
      cross = MultiHeadAttention(self.heads, init_scale=0.0, dtype=self.dtype, name="cross")
      x += cross(norm(x).astype(self.dtype), tokens[0].astype(self.dtype), tokens[1])
    return branch(x, *parts[3:], self._mlp, "dropout_1", self.mlp_eps)

  def _attention(self, h, bias):
    c = h.shape[-1]
    # Three projections in one: 3c outputs make the fan average 2c, and scale 2 makes up for it.
    qkv = Dense(3 * c, 2.0, dtype=self.dtype, name="qkv")(h)
    return Dense(c, dtype=self.dtype, name="out")(self_attention(qkv, self.heads, bias, self.chunk))

  def _mlp(self, h):
    hidden = Dense(int(self.mlp_ratio * h.shape[-1]), dtype=self.dtype, name="mlp_0")(h)
    return Dense(h.shape[-1], dtype=self.dtype, name="mlp_1")(nn.gelu(hidden))


class DiT(nn.Module):
  """The network; `apply({"params": p}, x, time, cond, keys)`, as the U-Net's.

  The defaults are DiT-S/2. DiT-B is 768 channels and 12 heads, DiT-L 1024, 24 blocks and 16 heads, DiT-XL
  1152, 28 blocks and 16 heads.

  Attributes:
    patch: side of a patch, a divisor of the image's sides.
    tubelet: frames of a patch, a divisor of a video's.
    factorised: whether a video's blocks attend to space and to time by turns, or each to all tubelets.
    channels: of every token; divisible by 4, at least 8.
    blocks: number of blocks.
    heads: of every attention; a divisor of the channels.
    mlp_ratio: hidden channels of an mlp per channel.
    dropout: rate in [0, 1), in every block; the paper has none.
    out_channels: 3 for RGB; 6 where a variance is learned too.
    conditions: what it is told besides the time, (name, how it is embedded) of each. Their vectors join the time's
      embedding, their tokens are attended to in every block, and their planes join the patches.
    dtype: one of DTYPES, of dense layers and the tensors between them. Parameters, norms, the embedding,
      the last dense layer and the output are float32.
    remat: whether the inside of a block is computed again in the backward pass rather than kept.
    time_scale: factor on the time before the sinusoids; see the U-Net's.
    frequency_shift, cosines_first: of the sinusoids; the authors' code has 0 and True.
    mlp_eps: of the norm before an mlp; 1e-5 in diffusers' files.
    cut: (tokens, the axis along which they stand) -> the tokens, laid out over devices; None: as they come.
    attention_chunk: tokens that attend at a time; see the U-Net's.
  """

  patch: Count = 2
  channels: Count = 384
  blocks: Count = 12
  heads: Count = 6
  mlp_ratio: Positive = 4.0
  dropout: Rate = 0.0
  out_channels: int = 3
  conditions: Embeds = ()
  dtype: str = "float32"
  remat: bool = False
  time_scale: Positive = 1.0
  frequency_shift: Annotated[int, closed(0, 1)] = 1
  cosines_first: bool = False
  mlp_eps: Positive = 1e-6
  tubelet: Count = 1
  factorised: bool = True
  cut: Callable[[Array, int], Array] | None = None
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
      x: [B, H, W, C] or [B, T, H, W, C]; H and W divisible by patch, T by tubelet.
      time: [B], any real numbers: what the network is told of the time; see `time_scale`.
      cond: the value [B, ...] of each condition by its name.
      keys: [B] keys of the examples' dropout masks; None for no dropout.

    Returns:
      float32 [B, ..., H, W, out_channels].

    Raises:
      ConfigError: if an attribute is out of range or does not fit the image, or if cond has other names than the
        conditions.
    """
    require_sides(x, "DiT")
    check(self, *x.shape[-3:-1], x.shape[1] if x.ndim == 5 else self.tubelet)
    make_block = nn.remat(Block) if self.remat else Block
    widths = Widths(TIME_CHANNELS, self.channels, self.channels, rows=0.02)
    waves = (self.frequency_shift, self.cosines_first)
    embedding = Conditioning(widths, self.time_scale, self.conditions, *waves, name="embedding")(time, cond)
    emb = nn.swish(embedding.vector)
    x = with_planes(x, embedding.planes)
    b, *frames, height, width, _ = x.shape
    rows, columns, depth = height // self.patch, width // self.patch, self.tubelet if frames else 1
    times = frames[0] // depth if frames else 1
    x = layered(x, depth) if frames else x

    h = Dense(self.channels, dtype=self.dtype, name="patches")(patches(x, self.patch))
    h += jnp.asarray(positions(rows, columns, self.channels), self.dtype)
    if frames:
      h = h.reshape(b, times, rows * columns, -1)
      h += sinusoids(jnp.arange(times), self.channels)[:, None].astype(self.dtype)
    conditioning = (emb, embedding.tokens, keys)
    for i in range(self.blocks):
      fields = (self.heads, self.mlp_ratio, self.dropout, self.dtype, self.mlp_eps, self.attention_chunk)
      block = make_block(*fields, name=f"block_{i}")
      if frames:
        h = self._across(block, i, h, conditioning, embedding.together)
      else:
        h = block(self._cut(h, 1), *conditioning)
    shift, scale = jnp.split(Dense(2 * self.channels, 0.0, name="modulation")(emb)[:, None], 2, axis=-1)
    h = norm(h.reshape(b, -1, self.channels)) * (1 + scale) + shift
    h = Dense(depth * self.patch**2 * self.out_channels, 0.0, name="out")(h)
    out = images(h.reshape(b * times, rows * columns, -1), rows, columns, self.patch)
    return unlayered(out, *frames, depth) if frames else out

  def _cut(self, h, axis):
    return self.cut(h, axis) if self.cut else h

  def _across(self, block, turn, h, conditioning, together):
    """A block upon tubelets h [B, T, N, C]: across those of one time, of one place, or across all."""
    b, times, places, c = h.shape
    bias = None if together is None else apart(together, times)
    if not self.factorised:
      return block(self._cut(h.reshape(b, -1, c), 1), *conditioning, bias).reshape(h.shape)
    h = self._cut(h, 2)  # of which attention over time sees one place alone
    if turn % 2 == 0:
      return block(h.reshape(-1, places, c), *of_frames(conditioning, times)).reshape(h.shape)
    return (
      block(h.swapaxes(1, 2).reshape(-1, times, c), *of_frames(conditioning, places), bias)
      .reshape(b, places, times, c)
      .swapaxes(1, 2)
    )


def patches(x: Float[Array, "b h w c"], patch: int) -> Float[Array, "b n d"]:
  """[B, H, W, C] to its patches [B, H W / patch^2, patch^2 C], row by row."""
  b, h, w, c = x.shape
  x = x.reshape(b, h // patch, patch, w // patch, patch, c)
  return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, -1, patch * patch * c)


def images(h: Float[Array, "b n d"], rows: int, columns: int, patch: int) -> Float[Array, "b h w c"]:
  """The images [B, rows patch, columns patch, C] of these patches; `patches` undone."""
  h = h.reshape(h.shape[0], rows, columns, patch, patch, -1)
  return h.transpose(0, 1, 3, 2, 4, 5).reshape(h.shape[0], rows * patch, columns * patch, -1)


def positions(rows: int, columns: int, channels: int) -> np.ndarray:
  """[rows columns, channels]: half for the column and half for the row, each half sines and half cosines.

  Frequencies 10000^(-k / (channels / 4)), as in the authors' code (after MAE).
  """
  frequency = 1e4 ** (-np.arange(channels // 4) / (channels // 4))
  row, column = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
  angles = [place.reshape(-1, 1) * frequency for place in (column, row)]
  return np.concatenate([wave(a) for a in angles for wave in (np.sin, np.cos)], axis=1).astype(np.float32)


def check(net: DiT, height: int, width: int, frames: int) -> None:
  """Raises ConfigError if an attribute is out of range or does not fit the images."""
  if frames % net.tubelet:
    raise ConfigError(f"tubelet={net.tubelet} must divide the frames, which are {frames}.")
  if net.patch < 1 or height % net.patch or width % net.patch:
    raise ConfigError(
      f"patch={net.patch} must be positive and divide the image's sides, but it is {height}x{width}; "
      f"{math.gcd(height, width)} and its divisors do."
    )
  if net.channels < 8 or net.channels % 4:
    raise ConfigError(
      f"channels={net.channels} must be divisible by 4 and at least 8: a quarter each goes to the sines and "
      "cosines of the row and of the column."
    )
  if net.heads < 1 or net.channels % net.heads:
    raise ConfigError(f"heads={net.heads} must divide the channels, which are {net.channels}.")
  if net.blocks < 1:
    raise ConfigError(f"blocks={net.blocks} must be at least 1.")
  if not 0 <= net.dropout < 1:
    raise ConfigError(f"dropout={net.dropout} must be at least 0 and less than 1.")
  if net.dtype not in DTYPES:
    raise ConfigError(f"dtype={net.dtype!r} must be one of {', '.join(DTYPES)}.")
