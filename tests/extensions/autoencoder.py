"""An autoencoder from outside, of one number: the mean of 2x2 pixels, and these again."""

import flax.linen as nn
import jax.numpy as jnp

from diffjax.models import AUTOENCODERS
from diffjax.models.autoencoder import Moments


class Halves(nn.Module):
  """x [B, H, W, C] to Moments [B, H/2, W/2, C] and back."""

  out_channels: int = 1
  dtype: str = "float32"

  def setup(self):
    """The one number."""
    self.gain = self.param("gain", nn.initializers.ones, ())

  def encode(self, x):
    """Means, with a little noise."""
    mean = self.gain * nn.avg_pool(x, (2, 2), (2, 2))
    return Moments(mean, jnp.full_like(mean, -5.0))

  def decode(self, z):
    """Every pixel four times."""
    return self.gain * z.repeat(2, axis=1).repeat(2, axis=2)

  def __call__(self, x):
    """Both."""
    return self.decode(self.encode(x).mean)


AUTOENCODERS["halves"] = Halves
