"""A class."""

import functools
from collections.abc import Mapping, Sequence
from typing import Annotated

import jax.numpy as jnp
import numpy as np

from diffjax.conditions.condition import DEFAULT, NAMED, Condition
from diffjax.data.source import Field
from diffjax.models.conditioning import Table
from diffjax.ranges import FREE, Rate, one_of
from diffjax.spaces import field_of
from diffjax.types import ConfigError

SHARES = ("even", "training")
GOLDEN = (5**0.5 - 1) / 2


def label(
  fields: Mapping[str, Field],
  field: str = "label",
  dropout: Rate = 0.0,
  request: Annotated[str, FREE] = "",
  shares: Annotated[str, one_of(SHARES), FREE] = "even",
) -> Condition:
  """A class.

  Args:
    fields: of the data.
    field: an int32 one with classes.
    dropout: share of the training labels replaced by the null class, for guidance.
    request: the class of every sample, by its name or its number; "": of every class, as `shares` says.
    shares: "even", all classes in turn; "training", each as often as in the training data.
  """
  labels = field_of(fields, field, "int32")
  classes = labels.classes
  if not classes:
    raise ConfigError(f"field is {field!r}, which holds no classes.")
  if labels.shape:
    raise ConfigError(
      f"field is {field!r}, of which an example holds classes of shape {labels.shape}; a label is one class an example."
    )
  one = labels.number("request", request) if request else None
  if shares == "training" and not any(labels.counts):
    raise ConfigError(
      "shares is 'training', but how often a class comes is not known of data that are read image by image; set it to "
      "'even'."
    )

  def requests(index, source):
    if one is not None:
      each = np.full(len(index), one)
    elif shares == "even":
      each = index % classes
    else:
      each = in_shares(index, labels.counts)
    return {field: each.astype(np.int32)}

  return Condition(
    value=lambda data, draws: data[field],
    null=lambda value: jnp.full_like(value, classes),
    embed=functools.partial(Table, classes + 1, name="classes"),
    request=requests,
    fields=(field,),
    dropout=dropout,
    classes=classes,
    word=NAMED if request else DEFAULT,
  )


def in_shares(index: np.ndarray, counts: Sequence[int]) -> np.ndarray:
  """Classes [n] of the samples of these numbers, of the first N of which each has its share but for about log N.

  Sample i has the class in whose part of [0, 1) the fraction of (i + 1) times the golden ratio lies (Weyl's sequence),
  whatever other samples are drawn.
  """
  ends = np.cumsum(counts) / np.sum(counts)
  return np.searchsorted(ends[:-1], (index + 1) * GOLDEN % 1, side="right")
