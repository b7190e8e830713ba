"""A trained run in Python: `diffjax.load("runs/digits")`."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from diffjax import keys
from diffjax.data.source import Field, Source
from diffjax.jobs import workdir
from diffjax.jobs.sampling import Sampling
from diffjax.jobs.trained import parse, restored
from diffjax.machine import parallel
from diffjax.machine.parallel import Parallel
from diffjax.ranges import at_least, check
from diffjax.tasks.task import require
from diffjax.types import ConfigError


class Loaded:
  """A trained run in Python; made by `load`.

  Attributes:
    config: its config.
    experiment: its objects.
    params: its weights.
    step: their step.
    weights: their name.
    fields: of the data that it was trained on.
  """

  def __init__(self, place: str, devices: Parallel):
    """Restores the weights of a place."""
    self.experiment, self.params, self.step, self.weights = restored(place, devices)
    self.config, self._devices = self.experiment.config, devices
    self.fields = workdir.data_of(parse(place).folder)[0]

  def sample(
    self, count: int, seed: int = 0, source: Source | None = None, **request
  ) -> dict[str, np.ndarray]:
    """Samples by field, each [count, ...].

    Args:
      count: how many.
      seed: sample i of a seed is the same in every call.
      source: the training data, where the samples ask for rows of them.
      request: fields that they ask for, each [count, ...] or one for all, in place of the config's.

    Raises:
      ConfigError: a count below 1, a field that samples do not ask for, or a value that it cannot have.
    """
    check("count", count, at_least(1))
    index = np.arange(count)
    asked = {"index": index.astype(np.int32)} | self.experiment.task.request(index, source)
    for name, value in request.items():
      if name not in asked or name == "index":
        known = ", ".join(field for field in asked if field != "index") or "nothing"
        raise ConfigError(f"samples of this run cannot ask for {name!r}; they ask for {known}.")
      asked[name] = _checked(name, value, asked[name], self.fields.get(name))
    drawing = Sampling(self.experiment, self._devices, count)
    return drawing.draw(self.params, keys.seed(seed), asked)

  def denoiser(self, cond: Mapping[str, Any] = {}):  # noqa: B006 (never changed)
    """(x_t, t, schedule) -> Estimate under these conditions, of any schedule."""
    require(self.experiment.task.can, "denoise", "this run")
    return self.experiment.task.can["denoise"](self.params, dict(cond))


def _checked(name: str, value: Any, like: np.ndarray, field: Field | None) -> np.ndarray:
  """What is asked for, of the dtype and the shape of `like`; ConfigError where it cannot be."""
  given, classes = np.asarray(value), field.classes if field else 0
  if np.issubdtype(like.dtype, np.integer) and not np.issubdtype(given.dtype, np.integer):
    raise ConfigError(f"{name} is {value!r}; it must be of whole numbers.")
  if classes and not np.all((given >= 0) & (given < classes)):
    raise ConfigError(f"{name} is {value!r}; the classes are 0 to {classes - 1}.")
  try:
    return np.broadcast_to(given.astype(like.dtype), like.shape)
  except ValueError:
    raise ConfigError(f"{name} is of shape {given.shape}; it must be {like.shape}, or one for all.") from None


def load(place: str | os.PathLike) -> Loaded:
  """The run of a place, on this process's devices; sampled from as --mode=sample does.

  Raises:
    ConfigError: there is no such run or checkpoint.
  """
  return Loaded(str(place), parallel.create())
