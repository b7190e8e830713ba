"""Time as one more axis of an image's network, after Video Diffusion Models (Ho et al. 2022, section 3.1).

A video [B, T, H, W, C] passes every layer of the image network frame by frame, as B T images. After each attention
over space comes one over time: every place of a frame attends to the same place in all frames,

    x += W softmax(q k^T / sqrt(d) + bias[j - i]) v,   i, j frames, bias learned for each head and distance     (1)

W starts at zero, so that a network begins as the image network that it holds, whose weights are its own by their
names. Where an example's frames are unrelated images, a frame attends to itself alone, and the network answers as it
does for each frame by itself: a network may be trained on clips and on images together.

For a transformer a video is cut into tubelets, patches of several frames.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from diffjax.models.layers import Dense, GroupNorm, self_attention

REACH = 32  # frames; those further apart share one bias


def of_frames(tree: Any, frames: int) -> Any:
  """What holds for examples, arrays [B, ...], for each of their frames: [B frames, ...]."""
  return jax.tree.map(lambda value: value[np.arange(len(value) * frames) // frames], tree)


def apart(together: Bool[Array, "b"] | None, frames: int) -> Float[Array, "b 1 t t"] | float:
  """What is added to attention's logits: -inf between the frames of examples that are not together, else 0."""
  if together is None:
    return 0.0
  mask = together[:, None, None, None] | jnp.eye(frames, dtype=bool)
  return jnp.where(mask, 0.0, -jnp.inf)


class TimeAttention(nn.Module):
  """Equation (1).

  Attributes:
    frames: T.
    heads: a divisor of the channels.
    dtype: of the computation and the output, but for the softmax.
    groups, eps: of the norm before it, frame by frame; see GroupNorm.
    chunk: see self_attention.
  """

  frames: int
  heads: int
  dtype: str
  groups: int = 0
  eps: float = 1e-6
  chunk: int = 0

  @nn.compact
  def __call__(
    self, x: Float[Array, "bt h w c"], together: Bool[Array, "b"] | None
  ) -> Float[Array, "bt h w c"]:
    """The frames x [B T, H, W, C]; `together` [B] says whether those of an example see each other, None: they do."""
    _, h, w, c = x.shape
    table = self.param("bias", nn.initializers.zeros_init(), (self.heads, 2 * REACH + 1), jnp.float32)
    place = np.arange(self.frames)
    bias = table[:, np.clip(place - place[:, None], -REACH, REACH) + REACH] + apart(together, self.frames)
    y = GroupNorm(False, self.dtype, self.groups, self.eps, name="norm")(x)
    y = Dense(3 * c, 2.0, dtype=self.dtype, name="qkv")(y).reshape(-1, self.frames, h * w, 3 * c)
    y = self_attention(y.swapaxes(1, 2).reshape(-1, self.frames, 3 * c), self.heads, bias, self.chunk)
    y = y.reshape(-1, h * w, self.frames, c).swapaxes(1, 2).reshape(x.shape)
    return x + Dense(c, 0.0, dtype=self.dtype, name="out")(y)


def layered(x: Float[Array, "b t h w c"], tubelet: int) -> Float[Array, "bt h w c2"]:
  """Videos with the frames of each tubelet as channels: [B T / tubelet, H, W, tubelet C]."""
  b, t, h, w, c = x.shape
  x = x.reshape(b * t // tubelet, tubelet, h, w, c)
  return jnp.moveaxis(x, 1, 3).reshape(-1, h, w, tubelet * c)


def unlayered(x: Float[Array, "bt h w c2"], frames: int, tubelet: int) -> Float[Array, "b t h w c"]:
  """The videos of `frames` frames that `layered` took apart."""
  _, h, w, c = x.shape
  x = jnp.moveaxis(x.reshape(-1, h, w, tubelet, c // tubelet), 3, 1)
  return x.reshape(-1, frames, h, w, c // tubelet)
