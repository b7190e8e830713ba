"""CLIP: text and images in one space (Radford et al. 2021, section 2.3 and figure 3).

With unit vectors i_m of images and t_n of their texts, and a learned log-scale s,

  logits[m, n] = exp(s) i_m . t_n                                                                   (1)
  loss[n] = (cross entropy of row n + cross entropy of column n) / 2, both with target n            (2)

ViT-B/32 has 151,277,313 parameters, ViT-L/14 427,616,513.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from diffjax.models.text import TextTransformer
from diffjax.models.vit import VisionTransformer
from diffjax.types import PerExample

INITIAL_SCALE = 2.659260036932778  # log(1 / 0.07), section 2.5


class Pairs(NamedTuple):
  """Unit vectors of images and texts.

  Attributes:
    images: [B, D], or None where no images were given.
    texts: [B, D], or None where no texts were given.
    log_scale: s of equation (1).
  """

  images: Float[Array, "b d"] | None
  texts: Float[Array, "b d"] | None
  log_scale: Float[Array, ""]


class CLIP(nn.Module):
  """Both towers and the scale; `apply({"params": p}, images, text)`.

  Attributes:
    text: the text tower, with the projection of its pooled vector.
    image: the image tower, with a projection to as many channels.
  """

  text: TextTransformer
  image: VisionTransformer

  @nn.compact
  def __call__(self, images: Float[Array, "b h w c"] | None, text: Int[Array, "b l"] | None) -> Pairs:
    """Embeds images [B, H, W, C] and texts [B, L]; either may be None."""
    log_scale = self.param("log_scale", nn.initializers.constant(INITIAL_SCALE), (), jnp.float32)
    seen = None if images is None else unit(self.image(images).pooled)
    read = None if text is None else unit(self.text(text).pooled)
    return Pairs(seen, read, log_scale)


def unit(x: Float[Array, "b d"]) -> Float[Array, "b d"]:
  """[B, D] divided by its lengths."""
  return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def logits(pairs: Pairs) -> Float[Array, "b b"]:
  """Equation (1): a row an image, a column a text."""
  products = jnp.matmul(pairs.images, pairs.texts.T, precision=jax.lax.Precision.HIGHEST)
  return jnp.exp(pairs.log_scale) * products


def contrastive(scores: Float[Array, "b b"]) -> PerExample:
  """Equation (2) of logits [B, B]; an example's loss depends on its whole batch."""
  rows, columns = (jnp.diagonal(jax.nn.log_softmax(scores, axis=axis)) for axis in (1, 0))
  return -(rows + columns) / 2
