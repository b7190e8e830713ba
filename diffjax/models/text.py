"""The transformer that reads text (Radford et al. 2021, section 2.4; Radford et al. 2019 for the blocks).

  in      the row of each token in a table, plus the row of its place in another; both are learned.
  blocks  pre-norm (transformer.py), causal in CLIP: a token sees those before it.
  out     layer norm. One vector for the whole text is that of its end token, or the mean over its tokens, and
          passes a projection without bias where there is one.

The defaults are the text tower of CLIP ViT-B/32: 63,165,952 parameters, 262,144 more with its projection to 512.
ViT-L/14's, which Stable Diffusion 1 reads text with, is 768 channels and 12 heads: 123,060,480. Stable Diffusion 2
takes 1024 channels, 23 blocks, 16 heads and the exact gelu: 340,387,840.
"""

from typing import Annotated, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from diffjax.models.layers import DTYPES, initialiser
from diffjax.models.transformer import ACTIVATIONS, Block, LayerNorm
from diffjax.ranges import Count, Positive, Rate, Whole, one_of
from diffjax.types import ConfigError, Keys

POOLS = ("end", "mean", "none")


class TextFeatures(NamedTuple):
  """What a text encoder makes of a text.

  Attributes:
    tokens: [B, L, C], after the last norm.
    penultimate: [B, L, C], what the last block was given; Stable Diffusion XL reads these.
    pooled: [B, C], or [B, projection] where there is one; None with pool = "none".
  """

  tokens: Float[Array, "b l c"]
  penultimate: Float[Array, "b l c"]
  pooled: Float[Array, "b d"] | None


class TextTransformer(nn.Module):
  """The encoder; `apply({"params": p}, text, mask, keys)`.

  Attributes:
    vocabulary: number of tokens; a token beyond it gives NaN.
    length: of the longest text, in tokens.
    channels: of every token.
    blocks: number of blocks.
    heads: of every attention; a divisor of the channels.
    mlp_ratio: hidden channels of an mlp per channel.
    activation: of the mlps, one of ACTIVATIONS.
    causal: whether a token sees none after it.
    pool: one of POOLS.
    end: the end token; -1: the largest number in a text, which is how OpenAI's code finds it. A text without an
      end token is pooled at its first token.
    projection: channels of the pooled vector; 0: no projection.
    eps: of all norms.
    dropout: rate in [0, 1), in every block; CLIP has none.
    dtype: one of DTYPES, of dense layers and the tensors between them. Parameters, norms,
      softmax and the outputs are float32.
    remat: whether the inside of a block is computed again in the backward pass rather than kept.
    rows: standard deviation of the rows of a new table of tokens; of places it is half of that. CLIP's is small beside
      what a block adds, so that in a new network all tokens of a text are nearly the same: a small one that is trained
      for minutes wants more.
  """

  vocabulary: Count = 49408
  length: Count = 77
  channels: Count = 512
  blocks: Count = 12
  heads: Count = 8
  mlp_ratio: Positive = 4.0
  activation: Annotated[str, one_of(ACTIVATIONS)] = "quick_gelu"
  causal: bool = True
  pool: Annotated[str, one_of(POOLS)] = "end"
  end: int = -1
  projection: Whole = 0
  eps: Positive = 1e-5
  dropout: Rate = 0.0
  dtype: Annotated[str, one_of(DTYPES)] = "float32"
  remat: bool = False
  rows: Positive = 0.02

  @nn.compact
  def __call__(
    self, text: Int[Array, "b l"], mask: Bool[Array, "b l"] | None = None, keys: Keys | None = None
  ) -> TextFeatures:
    """Reads texts.

    Args:
      text: tokens [B, L], L at most `length`; negative where there is none.
      mask: [B, L], false where no token may look; None: where there is none. Stable Diffusion's texts are padded
        with end tokens, which are looked at.
      keys: [B] keys of the examples' dropout masks; None for no dropout.

    Raises:
      ConfigError: if the texts are too long, or an attribute is out of its range.
    """
    check(self, text.shape[1])
    mask = text >= 0 if mask is None else mask
    normal = nn.initializers.normal
    positions = self.param("positions", normal(self.rows / 2), (self.length, self.channels), jnp.float32)
    table = nn.Embed(self.vocabulary, self.channels, embedding_init=normal(self.rows), name="tokens")
    h = (table(jnp.maximum(text, 0)) + positions[: text.shape[1]]).astype(self.dtype)

    make_block = nn.remat(Block) if self.remat else Block
    hidden = int(self.mlp_ratio * self.channels)
    fields = {
      "activation": self.activation,
      "causal": self.causal,
      "eps": self.eps,
      "dropout": self.dropout,
      "dtype": self.dtype,
    }
    for i in range(self.blocks):
      before = h
      h = make_block(self.heads, hidden, **fields, name=f"block_{i}")(h, mask, keys=keys)
    h = LayerNorm(self.eps, name="norm")(h)
    return TextFeatures(h, before.astype(jnp.float32), self._pooled(h, text, mask))

  def _pooled(self, h, text, mask):
    if self.pool == "none":
      return None
    if self.pool == "mean":
      weight = mask[..., None].astype(h.dtype)
      pooled = (h * weight).sum(1) / jnp.maximum(weight.sum(1), 1)
    else:
      place = jnp.argmax(text if self.end < 0 else text == self.end, axis=1)
      pooled = jnp.take_along_axis(h, place[:, None, None], axis=1)[:, 0]
    if self.projection:
      pooled = nn.Dense(self.projection, use_bias=False, kernel_init=initialiser(), name="projection")(pooled)
    return pooled


def check(net: TextTransformer, length: int) -> None:
  """Raises ConfigError if texts of this length do not fit, or an attribute is out of its range."""
  if length > net.length:
    raise ConfigError(f"length={net.length} is that of the longest text, but these have {length} tokens.")
  if net.pool not in POOLS:
    raise ConfigError(f"pool={net.pool!r} must be one of {', '.join(POOLS)}.")
  if net.pool == "none" and net.projection:
    raise ConfigError(
      f"projection={net.projection} projects the pooled vector, which pool='none' leaves out."
    )
