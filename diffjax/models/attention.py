"""Attention of several heads (Vaswani et al. 2017, eq. 1 and section 3.2.2).

Queries come from x and keys and values from x too (self-attention) or from a context (cross-attention); head h of
width d has its own columns of the three projections:

  head_h = softmax(Q_h K_h^T / sqrt(d)) V_h,   out = [head_1, ..., head_H] W_out + b_out            (1)

A key that is masked takes no weight. The softmax is float32 whatever the dtype.
"""

import flax.linen as nn
import jax
from jaxtyping import Array, Bool, Float

from diffjax.models.layers import Dense, initialiser
from diffjax.types import ConfigError


class MultiHeadAttention(nn.Module):
  """Equation (1).

  Attributes:
    heads: a divisor of the channels of x.
    bias: whether the projections to queries, keys and values have one; the last always does.
    causal: whether position n sees positions up to n alone.
    init_scale: variance scale of the last projection's initialisation; 0 for zeros.
    dtype: of the computation and the output, but for the softmax.
  """

  heads: int
  bias: bool = True
  causal: bool = False
  init_scale: float = 1.0
  dtype: str = "float32"

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b n c"],
    context: Float[Array, "b m d"] | None = None,
    mask: Bool[Array, "b m"] | None = None,
  ) -> Float[Array, "b n c"]:
    """Attends from x.

    Args:
      x: [B, N, C].
      context: [B, M, D], what is attended to; None for x itself.
      mask: [B, M], false where nobody may look; None for everywhere. A position that may look nowhere sees the
        mean over all keys.

    Returns:
      [B, N, C].

    Raises:
      ConfigError: if the heads do not divide the channels.
    """
    b, n, c = x.shape
    if self.heads < 1 or c % self.heads:
      raise ConfigError(f"heads={self.heads} must divide the channels, which are {c}.")
    context = x if context is None else context

    def project(name, source):
      y = nn.Dense(c, self.bias, self.dtype, kernel_init=initialiser(), name=name)(source)
      return y.reshape(b, -1, self.heads, c // self.heads)

    query, key, value = project("query", x), project("key", context), project("value", context)
    allowed = None if mask is None else mask[:, None, None]
    out = jax.nn.dot_product_attention(query, key, value, mask=allowed, is_causal=self.causal)
    return Dense(c, self.init_scale, self.dtype, name="out")(out.reshape(b, n, c))
