"""The layers of the networks, each the one place to change what it does.

Group normalisation (Wu & He 2018, eq. 1 and 7), over the pixels and the channels of group g:

  y_c = scale_c (x_c - mu_g) / sqrt(var_g + eps) + bias_c                                     (1)

which is one multiply-add per channel once the moments are known:

  y_c = a_c x_c + o_c,   a_c = scale_c / sqrt(var_g + eps),   o_c = bias_c - a_c mu_g         (2)

The time embedding (Ho et al. 2020, appendix B, after Vaswani et al. 2017, section 3.5, with the
frequencies of the DDPM code, whose shift is 1), half = channels / 2 and k = 0..half - 1:

  w_k = 10000^(-k / (half - shift)),   embedding = [sin(w_k t), cos(w_k t)]                   (3)

Parameters are float32; `dtype` is what convolutions and dense layers compute in. Statistics and the
time embedding are float32 whatever it is.

Random numbers are drawn as a vector and reshaped: the bits are those of a draw in the final shape, but
XLA's CPU backend compiles threefry over several axes up to 15 times as long and runs it half as fast.
"""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from diffjax import keys as streams
from diffjax.models.conv import TRANSFORMED, conv
from diffjax.types import Batch, ConfigError, Keys, PerExample

DTYPES = ("float32", "bfloat16")


def initialiser(scale: float = 1.0) -> Callable:
  """Uniform of variance scale / fan average (Glorot & Bengio 2010, eq. 16), for kernels [..., C, D]."""

  def init(key, shape, dtype):
    if scale == 0:
      return jnp.zeros(shape, dtype)
    fan_average = math.prod(shape[:-2]) * (shape[-2] + shape[-1]) / 2
    limit = math.sqrt(3 * scale / fan_average)
    return jax.random.uniform(key, (math.prod(shape),), dtype, -limit, limit).reshape(shape)

  return init


class Conv(nn.Module):
  """A square convolution with bias; see `conv`.

  Attributes:
    features: output channels.
    size: side of the kernel.
    stride: of both axes.
    init_scale: variance scale of the kernel's initialisation; 0 for zeros.
    dtype: of the computation and the output.
    centred: whether a stride of 2 takes the middle of the kernel to the pixels 0, 2, ..., or to 1, 3, ..., as SAME
      does on even sizes.
  """

  features: int
  size: int = 3
  stride: int = 1
  init_scale: float = 1.0
  dtype: str = "float32"
  centred: bool = False

  @nn.compact
  def __call__(
    self, x: Float[Array, "b h w c"], shift: Float[Array, "b d"] | None = None
  ) -> Float[Array, "b h2 w2 d"]:
    """The convolution of [B, H, W, C]; `shift` [B, features] is added to every pixel, as the bias is."""
    shape = (self.size, self.size, x.shape[-1], self.features)
    kernel = self.param("kernel", initialiser(self.init_scale), shape, jnp.float32)
    bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
    x, given = x.astype(self.dtype), kernel.astype(self.dtype)
    if self.centred:
      y = centred(x, given, self.stride)
    else:
      y = conv(x, given, self.stride, self.get_variable("params", TRANSFORMED))
    bias = bias.astype(self.dtype)
    if shift is None:
      return y + bias
    shift = bias + shift
    if self.dtype == "bfloat16":
      # Or XLA gives the sum to cuDNN, which wants the shift as a map of y's size, and derives both from all pixels.
      y, shift = lax.optimization_barrier(y), lax.optimization_barrier(shift)
    return y + shift[:, None, None]


def centred(
  x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c d"], stride: int
) -> Float[Array, "b h2 w2 d"]:
  """The convolution of stride 2 with the middle of the kernel on the pixels 0, 2, ... of even sides."""
  rows, columns = x.shape[1] // stride, x.shape[2] // stride
  return conv(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), kernel, stride)[:, :rows, :columns]


class Dense(nn.Module):
  """A dense layer with bias, initialised as the convolutions are; `init_scale` as theirs."""

  features: int
  init_scale: float = 1.0
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b d"]:
    shape = (x.shape[-1], self.features)
    kernel = self.param("kernel", initialiser(self.init_scale), shape, jnp.float32)
    bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
    return x.astype(self.dtype) @ kernel.astype(self.dtype) + bias.astype(self.dtype)


def require_sides(x: Array, network: str) -> None:
  """Raises ConfigError where data [B, ...] have no height and width."""
  if x.ndim < 4:
    raise ConfigError(
      f"a {network} is of images, and the data of this one have the shape {x.shape[1:]}; choose one of any shape, "
      "'prior' say, or a space whose data have height and width."
    )


def group_count(channels: int, most: int = 32, least: int = 4) -> int:
  """The largest number of groups up to `most`, of at least `least` channels each, that divides channels.

  A group of one channel would take away whatever constant is added to that channel, and so the whole
  time embedding: the network would be blind to time. At least 4 channels is Karras et al. 2022's rule
  (and Song et al. 2021's); from 128 channels on it is the 32 groups of DDPM.
  """
  most = max(1, min(most, channels // least))
  return next(n for n in range(most, 0, -1) if channels % n == 0)


def group_norm(
  x: Float[Array, "b h w c"],
  scale: Float[Array, " c"],
  bias: Float[Array, " c"],
  groups: int,
  eps: float = 1e-6,
  swish: bool = False,
) -> Float[Array, "b h w c"]:
  """Equation (2) in float32, with swish after it where asked, so that both are one pass over x.

  The variance of float32 numbers is taken about the mean (two reads of x): E[x^2] - mean^2 is no faster on a
  CPU and loses all digits where the mean is a thousand standard deviations. That of bfloat16 numbers is
  E[x^2] - mean^2 in one read: what it loses is less than what rounding x to bfloat16 has lost.

  Args:
    x: [B, H, W, C] of any float dtype.
    scale: [C].
    bias: [C].
    groups: a divisor of C.
    eps: added to the variance.
    swish: whether y * sigmoid(y) is returned in place of y.

  Returns:
    float32 [B, H, W, C].
  """

  def per_group(v):
    return v.reshape(*v.shape[:-1], groups, -1)

  def per_channel(v):
    return v.reshape(v.shape[0], 1, 1, x.shape[-1])

  low, x = x.dtype == jnp.bfloat16, x.astype(jnp.float32)
  if low:
    moments = jnp.stack([x.mean((1, 2)), jnp.square(x).mean((1, 2))])
    mean, square = per_group(moments).mean(-1, keepdims=True)
    var = jnp.maximum(square - jnp.square(mean), 0)
  else:  # the derivative of the variance through its mean is 0
    mean = per_group(x.mean((1, 2))).mean(-1, keepdims=True)
    about = jnp.broadcast_to(lax.stop_gradient(mean), (x.shape[0], *per_group(scale).shape))
    var = per_group(jnp.square(x - per_channel(about)).mean((1, 2))).mean(-1, keepdims=True)
  a = per_group(scale) * lax.rsqrt(var + eps)
  o = per_group(bias) - a * mean
  if low and swish:
    return affine_swish(x, per_channel(a), per_channel(o))
  y = x * per_channel(a) + per_channel(o)
  return nn.swish(y) if swish else y


@jax.custom_jvp
def affine_swish(
  x: Float[Array, "b h w c"], a: Float[Array, "b 1 1 c"], o: Float[Array, "b 1 1 c"]
) -> Float[Array, "b h w c"]:
  """swish(z) with z = a x + o, of bfloat16 numbers x held in float32; its reverse derivative writes no map between.

  With w = swish'(z) and a cotangent v of y the derivatives are

    by x: a w v,    by a: the sum of w v x over the pixels,    by o: the sum of w v                    (4)

  Left to itself XLA writes w v to a GPU's memory, in float32, for the three to read. Behind a barrier w is computed
  once for the first and again for the sums; and into sums over one axis at a time XLA fuses it.
  """
  return nn.swish(a * x + o)


@affine_swish.defjvp
def _affine_swish_jvp(primals, tangents):
  x, a, o = primals
  along, *rates = tangents

  def slope(x):
    z = a * x + o
    gate = nn.sigmoid(z)
    return gate * (1 + z * (1 - gate))

  wide = (x.shape[0], 1, *x.shape[2:])
  rate_a, rate_o = (lax.optimization_barrier(jnp.broadcast_to(rate, wide)) for rate in rates)
  again = lax.optimization_barrier(x.astype(jnp.bfloat16)).astype(jnp.float32)
  return affine_swish(x, a, o), slope(again) * (a * along) + slope(x) * (rate_a * x + rate_o)


class GroupNorm(nn.Module):
  """Group norm of 32 groups, or fewer where channels are few; see `group_norm` and `group_count`.

  Attributes:
    swish: whether swish follows.
    dtype: of the output; the computation is float32.
    groups: a divisor of the channels; 0: `group_count`'s.
    eps: added to the variance.
  """

  swish: bool = False
  dtype: str = "float32"
  groups: int = 0
  eps: float = 1e-6

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    channels = x.shape[-1]
    scale = self.param("scale", nn.initializers.ones_init(), (channels,), jnp.float32)
    bias = self.param("bias", nn.initializers.zeros_init(), (channels,), jnp.float32)
    y = group_norm(x, scale, bias, self.groups or group_count(channels), self.eps, self.swish)
    return y.astype(self.dtype)


class Dropout(nn.Module):
  """Dropout that draws each example's mask from that example's key and the layer's own path.

  So a mask depends on neither the batch size nor the devices, and no two layers share one.

  Attributes:
    rate: probability in [0, 1) that a number is set to zero; the others are divided by 1 - rate.
  """

  rate: float

  @nn.compact
  def __call__(self, x: Batch, keys: Keys | None) -> Batch:
    """Drops from x [B, ...] by keys [B]; without keys, or at rate 0, nothing is drawn."""
    if keys is None or self.rate == 0:
      return x
    own = streams.purpose(keys, "/".join(self.path))
    share, size = jnp.float32(1 - self.rate), math.prod(x.shape[1:])
    mask = jax.vmap(lambda key: jax.random.bernoulli(key, share, (size,)))(own)
    return jnp.where(mask.reshape(x.shape), x / (1 - self.rate), 0).astype(x.dtype)


def self_attention(
  qkv: Float[Array, "b n c3"], heads: int, bias: Float[Array, "*b h n n"] | None = None, chunk: int = 0
) -> Float[Array, "b n c"]:
  """Scaled dot-product attention (Vaswani et al. 2017, eq. 1) of every place to all, in `heads` heads side by side.

  The softmax is float32; its argument and its result are rounded to qkv's dtype, in which both products are.

  Args:
    qkv: queries, keys and values [B, N, 3C], in this order.
    heads: a divisor of C.
    bias: added to the softmax's argument, of shape [B, heads, N, N] or one that becomes it; -inf for no look. One of
      A examples, [A, heads, N, N], stands for B / A in turn each, and one of M places, [..., M, M], for N / M in turn.
    chunk: queries at a time: what the softmax sees is [B, heads, chunk, N] then and never whole, as the backward
      pass computes it again. 0: all.

  Returns:
    [B, N, C].
  """
  b, n, c = *qkv.shape[:2], qkv.shape[2] // 3
  query, key, value = (x.reshape(b, n, heads, c // heads) for x in jnp.split(qkv, 3, axis=-1))

  def attend(query, bias):
    logits = jnp.einsum("bnhc,bmhc->bhnm", query, key).astype(jnp.float32) / math.sqrt(c // heads)
    if bias is not None:
      bias = jnp.repeat(bias, n // bias.shape[-1], axis=-1)
      logits += jnp.repeat(bias, b // len(bias), axis=0) if bias.ndim == 4 else bias
    shares = nn.softmax(logits).astype(qkv.dtype)
    return jnp.einsum("bhnm,bmhc->bnhc", shares, value)

  if bias is not None:
    bias = jnp.repeat(bias, n // bias.shape[-2], axis=-2)
  if not 0 < chunk < n:
    return attend(query, bias).reshape(b, n, c)

  @jax.checkpoint
  def one(row):
    query, bias = row
    return attend(query[:, None], None if bias is None else bias[..., None, :])[:, 0]

  rows = jnp.moveaxis(query, 1, 0), None if bias is None else jnp.moveaxis(bias, -2, 0)
  return jnp.moveaxis(lax.map(one, rows, batch_size=chunk), 0, 1).reshape(b, n, c)


def sinusoids(
  time: PerExample, channels: int, shift: int = 1, cosines_first: bool = False
) -> Float[Array, "b c"]:
  """Equation (3): float32 [B, channels] of times [B] in any unit; channels even and at least 4."""
  half = channels // 2
  frequencies = np.exp(-np.log(10000.0) * np.arange(half) / (half - shift)).astype(np.float32)
  angles = time.astype(jnp.float32)[:, None] * frequencies
  waves = [jnp.sin(angles), jnp.cos(angles)]
  return jnp.concatenate(waves[::-1] if cosines_first else waves, axis=-1)


def downsample(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
  """Means of 2x2 pixels: [B, 2H, 2W, C] to [B, H, W, C]."""
  b, h, w, c = x.shape
  return x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))


def upsample(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
  """Nearest-neighbour upsampling by two: [B, H, W, C] to [B, 2H, 2W, C]."""
  b, h, w, c = x.shape
  return jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c)).reshape(b, 2 * h, 2 * w, c)
