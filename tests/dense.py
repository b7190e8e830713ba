"""A small network that meshes can cut."""

import flax.linen as nn


class Network(nn.Module):
  """Dense layers with all inputs, large enough to be cut, whose last starts away from zero."""

  out_channels: int = 1
  conditions: tuple = ()
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x, time, cond=None, keys=None):
    h = nn.swish(nn.Dense(64)(x.reshape(len(x), -1)) + nn.Dense(64)(time[:, None] / 1000))
    h = nn.swish(nn.Dense(64)(h) + nn.Embed(11, 64)(cond["label"]))
    return nn.Dense(64)(h).reshape(x.shape)
