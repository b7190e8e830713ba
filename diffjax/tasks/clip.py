"""The task "clip": images and their texts in one space, so that what belongs together is near (Radford et al. 2021).

The losses are in models/clip.py. An example's loss depends on its batch, so the whole of it is compared, whatever the
devices. Trained, it can encode images and encode text: a text for a whole as a unit vector, and every token of it.
"""

from collections.abc import Callable, Mapping
from typing import Annotated

import flax.linen as nn
import jax.numpy as jnp

from diffjax.data.augment import Augmentation
from diffjax.data.source import Field
from diffjax.models.clip import CLIP, CONTRASTS, at_once, copies, in_chunks, logits, unit
from diffjax.ranges import Count, Positive, Whole, one_of
from diffjax.spaces import Space, field_of, of_pixels
from diffjax.tasks.images import require_images
from diffjax.tasks.task import Loss, Task
from diffjax.types import ConfigError, Unsuitable


def clip(
  space: Callable[..., Space],
  augmentation: Callable[..., Augmentation],
  text_encoder: Callable[..., nn.Module],
  image_encoder: Callable[..., nn.Module],
  dtype: str,
  fields: Mapping[str, Field],
  field: str = "text",
  width: Count = 64,
  loss: Annotated[str, one_of(CONTRASTS)] = "softmax",
  cap: Positive = 100.0,
  chunk: Whole = 0,
) -> Task:
  """The task, of makers of its parts, and of the fields of the data.

  Args:
    space: of the images.
    augmentation: one that tells nothing.
    text_encoder, image_encoder: the towers.
    dtype: of their computation.
    fields: of the data.
    field: the one that holds the text.
    width: of the space that both are in.
    loss: one of CONTRASTS.
    cap: of the scale exp(s); at it the loss sees the cap itself.
    chunk: rows of the logits that are made at a time; 0: all at once.

  Raises:
    ConfigError: parts that do not go together, or data without text.
  """
  space, change, contrast = space(fields=fields), augmentation(), CONTRASTS[loss]
  if change.labels:
    raise Unsuitable("augmentation", "which tells a network what was done; choose 'flip' or 'none'")
  require_images(space)
  tokenizer = field_of(fields, field, "int32").tokenizer
  if tokenizer is None:
    raise ConfigError(f"field is {field!r}, which holds no text.")
  network = CLIP(
    text_encoder(
      vocabulary=tokenizer.vocabulary,
      length=tokenizer.length,
      end=tokenizer.end,
      projection=width,
      dtype=dtype,
    ),
    image_encoder(projection=width, dtype=dtype),
    contrast.scale,
    contrast.bias,
  )
  rows = in_chunks(chunk) if chunk else at_once

  def apply(params, *arguments, method=None):
    return network.apply({"params": params["model"]}, *arguments, method=method)

  def init(key):
    text = jnp.zeros((1, tokenizer.length), jnp.int32)
    return {"model": network.init(key, jnp.zeros((1, *space.shape)), text)["params"]}

  def pairs_of(params, x0, text, dropout_keys=None):
    pairs = apply(params, x0, text, dropout_keys)
    return pairs._replace(log_scale=jnp.minimum(pairs.log_scale, jnp.log(cap)))

  def loss_of(params, frozen, data, draws, memory):
    x0, _ = change.apply(space.encode(data, draws), draws)
    pairs, count = pairs_of(params, x0, data[field], draws.keys("dropout")), copies(data[field], rows)
    each = contrast.each(pairs, rows)
    logs = {
      "duplicates": (count > 1).astype(jnp.float32),
      "floor": contrast.floor(count),
      "scale": jnp.broadcast_to(jnp.exp(pairs.log_scale), each.shape),
    }
    return Loss(each, logs=logs)

  def held_out(params, frozen, data, case):
    pairs = pairs_of(params, space.encode(data, None), data[field])
    scores, same = logits(pairs), (data[field][:, None] == data[field][None]).all(-1)
    first = lambda scores: jnp.take_along_axis(same, scores.argmax(1)[:, None], 1)[:, 0].astype(jnp.float32)
    return {
      "loss": contrast.each(pairs),
      "text_of_image": first(scores),
      "image_of_text": first(scores.T),
    }

  def encode_text(params, text):
    encoding = apply(params, text, method="read")
    return {"tokens": encoding.tokens, "pooled": unit(encoding.pooled)}

  return Task(
    init=init,
    loss=loss_of,
    held_out=held_out,
    fields=(*space.fields, field),
    can={
      "encode": lambda params, images: apply(params, of_pixels(images), None).images,
      "encode_text": encode_text,
      "tokenizer": lambda params: tokenizer,
    },
    couples=True,
  )
