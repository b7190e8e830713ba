"""What a metric of samples is."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from diffjax.data.source import Field

Fields = Mapping[str, np.ndarray]  # each [n, ...]


@dataclasses.dataclass(frozen=True)
class Metric:
  """A way to judge samples, made once from the data.

  Samples come shard by shard, and only their features are kept: `score(features(...))` of all shards, each array
  joined along its first axis, so that many samples are never one array.

  Attributes:
    fields: of the samples that it needs.
    features: (samples, what they asked for) -> arrays [n, ...] by name.
    score: features of all samples -> values by name.
    floor: for some of the names, the value that real held-out data get.
    floor_at: number of samples -> the same for names that hang on it.
    settings: what the values depend on besides the samples.
    stranger: the fingerprint of a run that must have had no part in making the samples; "": there is none.
    higher: the names of which a higher value is the better one; of those that neither name a lower one is.
    near: the names of which the best value is that of real data.
  """

  fields: tuple[str, ...]
  features: Callable[[Fields, Fields], dict[str, np.ndarray]]
  score: Callable[[Fields], dict[str, float]]
  floor: dict[str, float]
  settings: dict[str, object]
  stranger: str = ""
  higher: tuple[str, ...] = ()
  near: tuple[str, ...] = ()
  floor_at: Callable[[int], dict[str, float]] = lambda count: {}

  def judge(self, samples: Fields, request: Fields) -> dict[str, float]:
    """The values of samples that are at hand as a whole."""
    return self.score(self.features(samples, request))


def needs(samples: int | Callable[..., int]) -> Callable[[Callable], Callable]:
  """Says of a metric's maker how many samples it needs at least: a number, or its options -> one."""

  def mark(make):
    make.fewest = samples
    return make

  return mark


def fewest(make: Callable, options: Mapping[str, Any]) -> int:
  """How many samples a maker called with these options says that it needs."""
  samples = getattr(make, "fewest", 1)
  return samples(**options) if callable(samples) else samples


def of_data(require: Callable[[Mapping[str, Field]], None]) -> Callable[[Callable], Callable]:
  """Says of a metric's maker what raises ConfigError at fields of data that it is not for."""

  def mark(make):
    make.require = require
    return make

  return mark


def require_data(make: Callable, fields: Mapping[str, Field]) -> None:
  """Raises ConfigError where a maker says that it is not for data of these fields."""
  getattr(make, "require", lambda fields: None)(fields)


def of_any_size(make: Callable) -> Callable:
  """Says of a metric's maker that its samples may have another height and width than the data."""
  make.any_size = True
  return make
