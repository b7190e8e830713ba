"""The downward half of a U-Net, which answers with a vector: the classifier of Dhariwal & Nichol 2021, section 4.

Levels of residual blocks as the U-Net's, attention where it has it, the middle, and then the mean over the pixels of
swish(norm(h)) through a dense layer (their code pools by attention). Conditions enter as in the U-Net; the middle
attends to their tokens whatever its size.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
from flax.core import FrozenDict
from jaxtyping import Array, Float

from diffjax.models.conditioning import Conditioning, Embeds, Widths, with_planes
from diffjax.models.layers import Conv, Dense, GroupNorm, require_sides
from diffjax.models.unet import Attention, CrossAttention, ResBlock
from diffjax.ranges import Count, Positive, Rate
from diffjax.types import ConfigError, Keys, PerExample


class UNetEncoder(nn.Module):
  """The network; `apply({"params": p}, x, time, cond, keys)`, as the U-Net's.

  Attributes:
    outputs: numbers that it answers with, set by the task.
    conditions, dtype: see UNet.
    channels, multipliers, blocks, attention, heads, dropout, time_scale: see UNet.
  """

  channels: Count = 32
  multipliers: tuple[Count, ...] = (1, 2)
  blocks: Count = 1
  attention: tuple[Count, ...] = ()
  heads: Count = 1
  dropout: Rate = 0.0
  outputs: int = 1
  conditions: Embeds = ()
  dtype: str = "float32"
  time_scale: Positive = 1.0

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b *places c"],
    time: PerExample,
    cond: Mapping[str, Any] = FrozenDict(),
    keys: Keys | None = None,
  ) -> Float[Array, "b d"]:
    """Images [B, H, W, C], H and W divisible by 2^(levels - 1), to float32 [B, outputs]."""
    require_sides(x, "U-Net")
    step = 2 ** (len(self.multipliers) - 1)
    if x.shape[1] % step or x.shape[2] % step:
      raise ConfigError(
        f"multipliers={self.multipliers} need sides divisible by {step}; they are {x.shape[1:3]}."
      )
    widths = Widths(self.channels, 4 * self.channels, 4 * self.channels, rows=1.0)
    embedding = Conditioning(widths, self.time_scale, self.conditions, name="embedding")(time, cond)
    emb = nn.swish(embedding.vector)
    x = with_planes(x, embedding.planes)

    def stage(h, channels, name):
      h = ResBlock(channels, self.dropout, self.dtype, name=f"{name}_block")(h, emb, keys)
      attends = h.shape[1] in self.attention
      if attends:
        h = Attention(self.heads, self.dtype, name=f"{name}_attention")(h)
      if embedding.tokens is not None and (attends or name == "middle"):
        h = CrossAttention(self.heads, self.dtype, name=f"{name}_cross")(h, *embedding.tokens)
      return h

    h = Conv(self.channels, dtype=self.dtype, name="conv_in")(x)
    for level, multiplier in enumerate(self.multipliers):
      for i in range(self.blocks):
        h = stage(h, self.channels * multiplier, f"down_{level}_{i}")
      if level < len(self.multipliers) - 1:
        h = Conv(h.shape[-1], stride=2, dtype=self.dtype, name=f"down_{level}_sample")(h)
    h = GroupNorm(swish=True, name="norm_out")(stage(h, h.shape[-1], "middle"))
    return Dense(self.outputs, name="out")(h.mean((1, 2)))
