"""How text tells a network: every token as one to attend to, and the text as a whole as a vector.

A network either reads tokens by a transformer of its own, trained along, or is given what another run's made of them.
"""

from typing import NamedTuple

import flax.linen as nn
from jaxtyping import Array, Bool, Float, Int

from diffjax.models.conditioning import Embedded, Widths
from diffjax.models.layers import Dense
from diffjax.models.text import TextTransformer


class Encoded(NamedTuple):
  """Texts that are read already.

  Attributes:
    tokens: [B, L, C].
    pooled: [B, D].
    mask: [B, L], where there is a token.
  """

  tokens: Float[Array, "b l c"]
  pooled: Float[Array, "b d"]
  mask: Bool[Array, "b l"]


class Given(nn.Module):
  """Encodings of texts from the batch, each through a dense layer.

  Attributes:
    widths: of the network.
    plain: whether the tokens are told as they are, and nothing besides.
  """

  widths: Widths
  plain: bool = False

  @nn.compact
  def __call__(self, value: Encoded) -> Embedded:
    """Encoded to Embedded."""
    if self.plain:
      return Embedded(tokens=(value.tokens, value.mask))
    tokens = Dense(self.widths.tokens, name="tokens")(value.tokens)
    return Embedded(
      vector=Dense(self.widths.vector, name="vector")(value.pooled), tokens=(tokens, value.mask)
    )


class Read(nn.Module):
  """Tokens, read by a text transformer.

  Attributes:
    widths: of the network.
    encoder: the transformer, which pools.
    plain: see Given.
  """

  widths: Widths
  encoder: TextTransformer
  plain: bool = False

  @nn.compact
  def __call__(self, value: Int[Array, "b l"]) -> Embedded:
    """Tokens [B, L] to Embedded."""
    encoding = self.encoder(value)
    return Given(self.widths, self.plain, name="given")(Encoded(encoding.tokens, encoding.pooled, value >= 0))
