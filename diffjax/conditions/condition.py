"""What a condition is, and several of them together."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from diffjax import keys
from diffjax.data.encoded import Encodings
from diffjax.data.source import Source
from diffjax.keys import Draws
from diffjax.models.conditioning import Embed
from diffjax.types import Data

DROP = "label"  # the name of the draw that drops
DEFAULT, ROWS, NAMED, STAGE = range(4)  # whose word counts more where conditions ask for one field


@dataclasses.dataclass(frozen=True)
class Condition:
  """An input, besides x_t and the time, that a network is conditioned on.

  Attributes:
    value: (fields, draws, or None outside training) -> a pytree [B, ...].
    null: value -> the value that says nothing, of the same shapes; None: it is never left out.
    embed: a network's widths -> the module from values to Embedded.
    request: (numbers [n] of the samples, the training data or None) -> the fields that samples ask for.
    fields: of the data that it needs.
    encodings: fields that a trained run makes of the data's own; those among `fields` are made once, at the data's
      edge, and the others in the step.
    dropout: share of the training examples for which it is left out.
    often_null: whether it is null in training by itself.
    classes: that its value is one of; 0 where it is no class.
    word: how much its samples' request counts beside others' that ask for the same field: DEFAULT, that of ROWS of the
      data or of a STAGE before, which say what other conditions are told as well, or NAMED, by its option.
    guess: fields -> an x0 that sampling begins from, and `begin`, the time at which it does; None: from noise alone.
  """

  value: Callable[[Data, Draws | None], Any]
  null: Callable[[Any], Any] | None
  embed: Embed
  request: Callable[[np.ndarray, Source | None], dict[str, np.ndarray]]
  fields: tuple[str, ...] = ()
  encodings: Encodings = dataclasses.field(default_factory=dict)
  dropout: float = 0.0
  often_null: bool = False
  classes: int = 0
  word: int = DEFAULT
  guess: Callable[[Data], Array] | None = None
  begin: float = 1.0

  @property
  def leads(self) -> bool:
    """Whether its samples' request says what other conditions are told as well."""
    return self.word in (ROWS, STAGE)


Conditions = Mapping[str, Condition]


def values(conditions: Conditions, data: Data, draws: Draws | None = None) -> dict[str, Any]:
  """The value of every condition, in training some of them dropped.

  Args:
    conditions: the conditions.
    data: the fields of a batch.
    draws: of a training step; None for sampling and held-out data, where nothing is dropped.
  """
  cond = {name: condition.value(data, draws) for name, condition in conditions.items()}
  rates = {name: condition.dropout for name, condition in conditions.items() if condition.dropout}
  if draws is None or not rates:
    return cond
  u = keys.uniform(draws.keys(DROP))
  for name, rate in rates.items():
    cond[name] = replaced(cond[name], conditions[name].null(cond[name]), u < rate)
  return cond


def replaced(value: Any, null: Any, dropped: Array) -> Any:
  """The value, and where `dropped` [B] the null."""
  each = lambda v, n: jnp.where(dropped.reshape(-1, *[1] * (v.ndim - 1)), n, v)
  return jax.tree.map(each, value, null)


def nulls(conditions: Conditions, cond: Mapping[str, Any]) -> dict[str, Any] | None:
  """The null of every condition, or None where one is never left out."""
  if any(condition.null is None for condition in conditions.values()):
    return None
  return {name: condition.null(cond[name]) for name, condition in conditions.items()}


def requests(conditions: Conditions, index: np.ndarray, source: Source | None) -> dict[str, np.ndarray]:
  """What the samples of these numbers [n] ask for, by field."""
  request = {}
  for condition in sorted(conditions.values(), key=lambda condition: condition.word):
    request |= condition.request(index, source)
  return request
