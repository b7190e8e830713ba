"""Blocks of the pre-norm transformer (Xiong et al. 2020), which text, vision and Stable Diffusion's U-Net share.

With layer norms of their own,

  h += attention(norm(h))                                                                          (1)
  h += attention(norm(h), context)        where there is a context                                 (2)
  h += W_1 act(W_0 norm(h) + b_0) + b_1                                                            (3)

and in a gated mlp (GEGLU: Shazeer 2020, eq. 5) W_0 has twice the outputs, values a before gates g, and a act(g)
stands in the place of act.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from diffjax.models.attention import MultiHeadAttention
from diffjax.models.layers import Dense, Dropout, GroupNorm
from diffjax.types import ConfigError, Keys


def quick_gelu(x: Float[Array, "*b"]) -> Float[Array, "*b"]:
  """x sigmoid(1.702 x), the approximation that OpenAI's CLIP was trained with (Hendrycks & Gimpel 2016, sec. 2)."""
  return x * jax.nn.sigmoid(1.702 * x)


def gelu(x: Float[Array, "*b"]) -> Float[Array, "*b"]:
  """x Phi(x), exactly (Hendrycks & Gimpel 2016, eq. 1)."""
  return jax.nn.gelu(x, approximate=False)


def gelu_tanh(x: Float[Array, "*b"]) -> Float[Array, "*b"]:
  """Its approximation by tanh (Hendrycks & Gimpel 2016, eq. 2)."""
  return jax.nn.gelu(x, approximate=True)


ACTIVATIONS: dict[str, Callable] = {"gelu": gelu, "quick_gelu": quick_gelu, "gelu_tanh": gelu_tanh}


class LayerNorm(nn.Module):
  """Layer norm over the channels with scale and bias (Ba et al. 2016, eq. 3), in float32.

  Attributes:
    eps: added to the variance, which is taken about the mean.
    dtype: of the output.
  """

  eps: float = 1e-5
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
    scale = self.param("scale", nn.initializers.ones_init(), (x.shape[-1],), jnp.float32)
    bias = self.param("bias", nn.initializers.zeros_init(), (x.shape[-1],), jnp.float32)
    x = x.astype(jnp.float32)
    x -= x.mean(-1, keepdims=True)
    unit = x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + self.eps)
    return (unit * scale + bias).astype(self.dtype)


class Block(nn.Module):
  """Equations (1) to (3).

  Attributes:
    heads: of every attention; a divisor of the channels.
    hidden: width of the mlp.
    activation: one of ACTIVATIONS.
    gated: whether the mlp is.
    causal: whether a position sees none after it.
    bias: whether the projections to queries, keys and values have one.
    eps: of the norms.
    dropout: rate in [0, 1), after each attention and the mlp.
    dtype: of the computation and the output.
  """

  heads: int
  hidden: int
  activation: str = "gelu"
  gated: bool = False
  causal: bool = False
  bias: bool = True
  eps: float = 1e-5
  dropout: float = 0.0
  dtype: str = "float32"

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b n c"],
    mask: Bool[Array, "b n"] | None = None,
    context: Float[Array, "b m d"] | None = None,
    context_mask: Bool[Array, "b m"] | None = None,
    keys: Keys | None = None,
  ) -> Float[Array, "b n c"]:
    """x [B, N, C] to [B, N, C].

    Args:
      x: [B, N, C].
      mask: [B, N], false where no position may look; None for everywhere.
      context: [B, M, D] of equation (2); None leaves it out.
      context_mask: [B, M], the same for the context.
      keys: [B] keys of the examples' dropout masks; None for no dropout.

    Raises:
      ConfigError: if an attribute is none of its range, or the heads do not divide the channels.
    """
    if self.activation not in ACTIVATIONS:
      raise ConfigError(f"activation={self.activation!r} must be one of {', '.join(ACTIVATIONS)}.")

    def norm(h, name):
      return LayerNorm(self.eps, self.dtype, name=name)(h)

    def add(x, h, name):
      return x + Dropout(self.dropout, name=name)(h, keys)

    def attention(causal, name):
      return MultiHeadAttention(self.heads, self.bias, causal, dtype=self.dtype, name=name)

    x = add(x, attention(self.causal, "attention")(norm(x, "norm_0"), mask=mask), "dropout_0")
    if context is not None:
      h = attention(False, "cross")(norm(x, "norm_cross"), context, context_mask)
      x = add(x, h, "dropout_cross")
    return add(x, self._mlp(norm(x, "norm_1")), "dropout_1")

  def _mlp(self, x):
    act = ACTIVATIONS[self.activation]
    h = Dense(self.hidden * (1 + self.gated), dtype=self.dtype, name="mlp_0")(x)
    if self.gated:
      value, gate = jnp.split(h, 2, axis=-1)
      h = value * act(gate)
    else:
      h = act(h)
    return Dense(x.shape[-1], dtype=self.dtype, name="mlp_1")(h)


class SpatialTransformer(nn.Module):
  """Stable Diffusion's transformer over pixels, which reads a context (Rombach et al. 2022, section 3.3, app. E.2.1).

  Group norm, a dense layer in, blocks with cross-attention and a gated mlp of 4 C, a dense layer out, which starts
  at zero; added to the input.

  Attributes:
    heads: of every attention; a divisor of the channels.
    blocks: how many.
    groups: of the group norm; 0: `group_count`'s.
    dropout: rate in [0, 1), as in a block.
    dtype: of the computation and the output.
    scale: factor on the sum.
  """

  heads: int
  blocks: int = 1
  groups: int = 0
  dropout: float = 0.0
  dtype: str = "float32"
  scale: float = 1.0

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b h w c"],
    context: Float[Array, "b m d"] | None = None,
    context_mask: Bool[Array, "b m"] | None = None,
    keys: Keys | None = None,
  ) -> Float[Array, "b h w c"]:
    """x [B, H, W, C] to [B, H, W, C], told context [B, M, D] where context_mask [B, M] is true; keys as a block's.

    Without a context it attends to its own pixels alone.
    """
    b, h, w, c = x.shape
    y = GroupNorm(dtype=self.dtype, groups=self.groups, eps=1e-6, name="norm")(x)
    y = Dense(c, dtype=self.dtype, name="in")(y.reshape(b, h * w, c))
    for i in range(self.blocks):
      block = Block(
        self.heads, 4 * c, gated=True, bias=False, dropout=self.dropout, dtype=self.dtype, name=f"block_{i}"
      )
      y = block(y, None, context, context_mask, keys)
    return (x + Dense(c, 0.0, self.dtype, name="out")(y).reshape(x.shape)) * self.scale
