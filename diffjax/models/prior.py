"""The transformer of a prior over embeddings (Ramesh et al. 2022, section 2.2), for data of any places.

  z_0 = [the conditions' tokens; v; x E + positions; x E + queries + v]                             (1)
  z_l = block(z_(l-1)), pre-norm (transformer.py)                                                   (2)
  y   = norm(z_L at the queries) W                                                                  (3)

with v the time and the conditions' vectors, embedded and summed. An embedding [B, C] is one place with one query.
Unlike the paper's the attention is not causal, and time and text's embedding share a token, which the queries know too,
as they know x.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax.core import FrozenDict
from jaxtyping import Array, Float

from diffjax.models.conditioning import Conditioning, Embeds, Widths, with_planes
from diffjax.models.layers import DTYPES, Dense
from diffjax.models.transformer import Block, LayerNorm
from diffjax.ranges import Count, Positive, Rate, one_of
from diffjax.types import ConfigError, Keys, PerExample

TIME_CHANNELS = 256


class Prior(nn.Module):
  """The network; `apply({"params": p}, x, time, cond, keys)`.

  Attributes:
    channels: of every token.
    blocks: number of blocks.
    heads: of every attention; a divisor of the channels.
    mlp_ratio: hidden channels of an mlp per channel.
    dropout: rate in [0, 1), in every block.
    out_channels: of the output; twice x's where a variance is learned too.
    conditions: what it is told besides the time, (name, how it is embedded) of each.
    dtype: one of DTYPES, of dense layers and the tensors between them. Parameters, norms, the embedding, the last
      dense layer and the output are float32.
    remat: whether the inside of a block is computed again in the backward pass rather than kept.
    time_scale: factor on the time before the sinusoids; see the U-Net's.
  """

  channels: Count = 512
  blocks: Count = 12
  heads: Count = 8
  mlp_ratio: Positive = 4.0
  dropout: Rate = 0.0
  out_channels: int = 512
  conditions: Embeds = ()
  dtype: Annotated[str, one_of(DTYPES)] = "float32"
  remat: bool = False
  time_scale: Positive = 1.0

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b *places c"],
    time: PerExample,
    cond: Mapping[str, Any] = FrozenDict(),
    keys: Keys | None = None,
  ) -> Float[Array, "b *places d"]:
    """The network's output for noisy data; arguments as the U-Net's.

    Raises:
      ConfigError: if the heads do not divide the channels, or cond has other names than the conditions.
    """
    widths = Widths(TIME_CHANNELS, self.channels, self.channels, rows=0.02)
    embedding = Conditioning(widths, self.time_scale, self.conditions, name="embedding")(time, cond)
    if embedding.together is not None:
      raise ConfigError(
        "a prior's places see each other, whatever the condition 'moving' says; leave it out."
      )
    x = with_planes(x, embedding.planes)
    places = int(np.prod(x.shape[1:-1]))
    normal = nn.initializers.normal(0.02)
    positions, queries = (
      self.param(name, normal, (places, self.channels), jnp.float32) for name in ("positions", "queries")
    )
    noisy = Dense(self.channels, dtype=self.dtype, name="noisy")(x.reshape(len(x), places, -1))
    vector = embedding.vector[:, None]
    parts = [vector, noisy + positions, noisy + queries + vector]
    mask = jnp.ones((len(x), 1 + 2 * places), bool)
    if embedding.tokens is not None:
      parts, mask = [embedding.tokens[0], *parts], jnp.concatenate([embedding.tokens[1], mask], axis=1)
    h = jnp.concatenate([part.astype(self.dtype) for part in parts], axis=1)

    make_block = nn.remat(Block) if self.remat else Block
    for i in range(self.blocks):
      block = make_block(
        self.heads,
        int(self.mlp_ratio * self.channels),
        dropout=self.dropout,
        dtype=self.dtype,
        name=f"block_{i}",
      )
      h = block(h, mask, keys=keys)
    h = LayerNorm(name="norm")(h[:, -places:])
    return Dense(self.out_channels, 0.0, name="out")(h).reshape(*x.shape[:-1], self.out_channels)
