"""CLIP: text and images in one space (Radford et al. 2021, section 2.3 and figure 3).

With unit vectors i_m of images and t_n of their texts, and a learned log-scale s and bias b,

  logits[m, n] = exp(s) i_m . t_n + b                                                               (1)

  softmax  loss[n] = (cross entropy of row n + cross entropy of column n) / 2, both with target n   (2)
  sigmoid  loss[n] = sum over m of log(1 + exp(-z logits[n, m])), z = 1 where m = n, else -1        (3)

(2) is CLIP's, without a bias; (3) is SigLIP's (Zhai et al. 2023, algorithm 1). Both couple the batch. If m texts of a
batch are the same nobody can tell their images apart, and the loss of each has a floor:

  softmax  log m                                                                                    (4)
  sigmoid  log m + (m - 1) log(m / (m - 1))                                                         (5)

ViT-B/32 has 151,277,313 parameters, ViT-L/14 427,616,513.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from diffjax.models.text import TextFeatures
from diffjax.types import ConfigError, Keys, PerExample

INITIAL_SCALE = 2.659260036932778  # log(1 / 0.07), section 2.5
Rows = Callable[[Callable, Array], Array]  # a function of rows [c, D] -> [c], applied to all rows [B, D]


class Pairs(NamedTuple):
  """Unit vectors of images and texts.

  Attributes:
    images: [B, D], or None where no images were given.
    texts: [B, D], or None where no texts were given.
    log_scale: s of equation (1).
    bias: b.
  """

  images: Float[Array, "b d"] | None
  texts: Float[Array, "b d"] | None
  log_scale: Float[Array, ""]
  bias: Float[Array, ""] | float = 0.0


class CLIP(nn.Module):
  """Both towers and the scale; `apply({"params": p}, images, text)`.

  Attributes:
    text: the text tower, with the projection of its pooled vector.
    image: the image tower, with a projection to as many channels.
    scale: s at the start.
    bias: b at the start; None: there is none.
  """

  text: nn.Module
  image: nn.Module
  scale: float = INITIAL_SCALE
  bias: float | None = None

  @nn.compact
  def __call__(
    self, images: Float[Array, "b h w c"] | None, text: Int[Array, "b l"] | None, keys: Keys | None = None
  ) -> Pairs:
    """Embeds images [B, H, W, C] and texts [B, L], either of which may be None; keys [B] of dropout, or None."""
    log_scale = self.param("log_scale", nn.initializers.constant(self.scale), (), jnp.float32)
    constant = nn.initializers.constant
    bias = 0.0 if self.bias is None else self.param("bias", constant(self.bias), (), jnp.float32)
    image_features = None if images is None else unit(self.image(images, keys).pooled)
    text_features = None if text is None else unit(self.text(text, None, keys).pooled)
    return Pairs(image_features, text_features, log_scale, bias)

  def read(self, text: Int[Array, "b l"]) -> TextFeatures:
    """All that the text tower makes of texts [B, L]; its pooled vectors are no unit vectors yet."""
    return self.text(text)


def unit(x: Float[Array, "b d"]) -> Float[Array, "b d"]:
  """[B, D] divided by its lengths."""
  return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def logits(pairs: Pairs) -> Float[Array, "b b"]:
  """Equation (1): a row an image, a column a text."""
  return _products(pairs, pairs.images, pairs.texts)


def _products(pairs: Pairs, some: Float[Array, "c d"], others: Float[Array, "b d"]) -> Float[Array, "c b"]:
  products = jnp.matmul(some, others.T, precision=jax.lax.Precision.HIGHEST)
  return jnp.exp(pairs.log_scale) * products + pairs.bias


def at_once(function: Callable, rows: Array) -> Array:
  """All rows together: the logits are one array [B, B]."""
  return function(rows)


def in_chunks(size: int) -> Rows:
  """So many rows at a time, in the backward pass again: no array is larger than [size, B]. It must divide B."""

  def apply(function, rows):
    if len(rows) % size:
      raise ConfigError(f"chunk is {size}, which does not divide the batch of {len(rows)}.")
    return jax.lax.map(jax.checkpoint(function), rows.reshape(-1, size, *rows.shape[1:])).reshape(-1)

  return apply


def _matched(pairs: Pairs) -> PerExample:
  return jnp.exp(pairs.log_scale) * jnp.sum(pairs.images * pairs.texts, axis=-1) + pairs.bias


def softmax(pairs: Pairs, rows: Rows = at_once) -> PerExample:
  """Equation (2)."""

  def normaliser(some, others):
    return rows(lambda part: jax.nn.logsumexp(_products(pairs, part, others), axis=1), some)

  both = normaliser(pairs.images, pairs.texts) + normaliser(pairs.texts, pairs.images)
  return both / 2 - _matched(pairs)


def sigmoid(pairs: Pairs, rows: Rows = at_once) -> PerExample:
  """Equation (3): softplus(-x) - softplus(x) = -x makes the pair itself one of the others, less its logit."""
  others = rows(
    lambda part: jnp.sum(jax.nn.softplus(_products(pairs, part, pairs.texts)), axis=1), pairs.images
  )
  return others - _matched(pairs)


def copies(text: Int[Array, "b l"], rows: Rows = at_once) -> PerExample:
  """How often each text [B, L] is in the batch."""

  def count(part):
    return jnp.sum((part[:, None] == text[None]).all(-1), axis=1).astype(jnp.float32)

  return rows(count, text)


def _sigmoid_floor(m: PerExample) -> PerExample:
  others = jnp.maximum(m - 1, 1)
  return jnp.where(m > 1, jnp.log(m) + (m - 1) * jnp.log(m / others), 0)


@dataclasses.dataclass(frozen=True)
class Contrast:
  """A loss of pairs.

  Attributes:
    each: pairs -> [B].
    floor: how often a text is in the batch [B] -> the least that its loss can be, [B].
    scale, bias: s and b at the start.
  """

  each: Callable[..., PerExample]
  floor: Callable[[PerExample], PerExample]
  scale: float
  bias: float | None


CONTRASTS = {
  "softmax": Contrast(softmax, jnp.log, INITIAL_SCALE, None),
  "sigmoid": Contrast(sigmoid, _sigmoid_floor, 2.302585092994046, -10.0),  # Zhai et al. 2023, section 3.2
}
