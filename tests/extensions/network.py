"""A network from outside: two dense layers over an image, with the time and the conditions."""

import flax.linen as nn

from diffjax.models import MODELS
from diffjax.models.conditioning import Conditioning, Widths


class Flat(nn.Module):
  """x [B, ..., C] to [B, ..., out_channels]."""

  width: int = 16
  out_channels: int = 1
  conditions: tuple = ()
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x, time, cond=None, keys=None):
    """As every network is called."""
    widths = Widths(self.width, self.width, self.width, rows=1.0)
    embedding = Conditioning(widths, 100.0, self.conditions, name="embedding")(time, cond or {}).vector
    h = nn.swish(nn.Dense(self.width)(x.reshape(len(x), -1)) + embedding)
    size = x[0].size // x.shape[-1] * self.out_channels
    return nn.Dense(size)(h).reshape(*x.shape[:-1], self.out_channels)


MODELS["flat"] = Flat
