"""Numbers: an embedding, of the data, of a run's encoder or of a prior's samples; and what an augmentation did."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.conditions.condition import ROWS, STAGE, Condition
from diffjax.conditions.stages import require_stage, rows, stage
from diffjax.conditions.text import require_tokenizer
from diffjax.data.augment import places
from diffjax.data.encoded import fields_of
from diffjax.data.source import Field
from diffjax.models.conditioning import OnTime, Planes, Projected
from diffjax.ranges import FREE, Rate, Run, Whole, closed
from diffjax.spaces import embedding, field_of
from diffjax.types import ConfigError, Trained


def vector(
  fields: Mapping[str, Field],
  field: str = "embedding",
  run: Run("encode", optional=True) = "",
  of: str = "image",
  scale: float = 1.0,
  tokens: Whole = 0,
  dropout: Rate = 0.0,
  prior: Run("sample", optional=True) = "",
  request: Annotated[str, FREE] = "",
  best: Annotated[int, FREE, closed(1, 16)] = 1,
) -> Condition:
  """An embedding.

  Args:
    fields: of the data.
    field: a float32 one of shape [n], or what `run` makes is called.
    run: of a task that encodes pictures as vectors, CLIP say; by default the data have the field themselves.
    of: the field that `run` encodes.
    scale: factor on it.
    tokens: tokens that it enters as, besides the vector.
    dropout: share of the training examples that are given zeros in its place.
    prior: a run whose samples have the field: sample i is told that of its sample i. By default rows of the data,
      and the other conditions are told those rows' too, unless they have a request.
    request: the texts that the prior is told, as condition.text.request; "": as it says itself.
    best: of so many samples of the prior the one is taken whose product with the text, as `run` reads it, is the
      largest; 2 is DALL-E 2's (Ramesh et al. 2022, section 2.2).

  Raises:
    ConfigError: a field that is no vector, or more samples than one without a prior, or a run that reads no text.
  """
  encodings = embedding(fields, field, run, of)
  shape = field_of({**fields, **fields_of(fields, encodings)}, field, "float32").shape
  if len(shape) != 1:
    raise ConfigError(f"field is {field!r} of shape {shape}; it must be a vector.")
  require_stage(prior, field, shape, fields)
  words = [name for name, other in fields.items() if other.tokenizer]
  if best > 1:
    if not prior or not words or "encode_text" not in getattr(run, "can", ()):
      raise ConfigError(
        f"best is {best}, which needs a prior that is told texts and a run that reads them, of the task 'clip'; set "
        "prior and run, or let it be 1."
      )
    require_tokenizer(run, fields[words[0]].tokenizer)

  def requests(index, source):
    if prior:
      every = [stage(prior, field, fields, index, source, request, again) for again in range(best)]
      return every[0] if best == 1 else nearest(run, every, field, words[0])
    return rows(field, fields, index, source)

  return Condition(
    value=lambda data, draws: data[field] * scale,
    null=jnp.zeros_like,
    embed=lambda widths: Projected(widths, tokens, name=field),
    request=requests,
    fields=(field,),
    encodings=encodings,
    dropout=dropout,
    word=STAGE if prior else ROWS,
  )


def nearest(
  run: Trained, every: Sequence[Mapping[str, np.ndarray]], field: str, text: str
) -> dict[str, np.ndarray]:
  """The first of several requests, [n, ...] each, with that of their vectors which is nearest to a sample's text."""
  if text not in every[0]:
    raise ConfigError(f"best is {len(every)}, but the prior is told no {text!r}; let it be 1.")
  read = jax.jit(run.can["encode_text"])(run.params, jnp.asarray(every[0][text]))["pooled"]
  vectors = np.stack([sample[field] for sample in every])
  first = np.argmax(np.einsum("knd,nd->kn", vectors, np.asarray(read)), axis=0)
  return {**every[0], field: vectors[first, np.arange(len(first))]}


def augment(labels: int) -> Condition:
  """What an augmentation did, as this many numbers in the field "augment"; where it is missing zeros, nothing."""

  def value(data, draws):
    return data["augment"] if "augment" in data else jnp.zeros((len(data["index"]), labels))

  return Condition(
    value=value,
    null=jnp.zeros_like,
    embed=lambda widths: OnTime(widths, name="augment"),
    request=lambda index, source: {},
    often_null=True,
  )


def located(shape: tuple[int, ...]) -> Condition:
  """Where in an image each pixel lies, as planes, in the field "augment"; where it is missing, of all of x0's shape."""

  def value(data, draws):
    whole = (len(data["index"]), *shape[:-1], 2)
    return data["augment"] if "augment" in data else jnp.broadcast_to(places(*shape[-3:-1]), whole)

  return Condition(
    value=value,
    null=lambda value: value,
    embed=lambda widths: Planes(name="augment"),
    request=lambda index, source: {},
    often_null=True,
  )
