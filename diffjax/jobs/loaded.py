"""A trained run in Python: `diffjax.load("runs/digits")`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from diffjax import keys
from diffjax.data.source import Source
from diffjax.jobs.sampling import Sampling
from diffjax.jobs.trained import restored
from diffjax.machine import parallel
from diffjax.machine.parallel import Parallel
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
  """

  def __init__(self, place: str, devices: Parallel):
    """Restores the weights of a place."""
    self.experiment, self.params, self.step, self.weights = restored(place, devices)
    self.config, self._devices = self.experiment.config, devices

  def sample(
    self, count: int, seed: int = 0, source: Source | None = None, **request
  ) -> dict[str, np.ndarray]:
    """Samples by field, each [count, ...].

    Args:
      count: how many.
      seed: sample i of a seed is the same in every call.
      source: the training data, where the samples ask for rows of them.
      request: fields that they ask for, each [count, ...] or one for all, in place of the config's.
    """
    index = np.arange(count)
    asked = {"index": index.astype(np.int32)} | self.experiment.task.request(index, source)
    for name, value in request.items():
      if name not in asked:
        known = ", ".join(field for field in asked if field != "index") or "nothing"
        raise ConfigError(f"samples of this run cannot ask for {name!r}; they ask for {known}.")
      asked[name] = np.broadcast_to(np.asarray(value, asked[name].dtype), asked[name].shape)
    drawing = Sampling(self.experiment, self._devices, count)
    return drawing.draw(self.params, keys.seed(seed), asked)

  def denoiser(self, cond: Mapping[str, Any] = {}):  # noqa: B006 (never changed)
    """(x_t, t, schedule) -> Estimate under these conditions, of any schedule."""
    require(self.experiment.task.can, "denoise", "this run")
    return self.experiment.task.can["denoise"](self.params, dict(cond))


def load(place: str) -> Loaded:
  """The run of a place, on this process's devices; sampled from as --mode=sample does.

  Raises:
    ConfigError: there is no such run or checkpoint.
  """
  return Loaded(place, parallel.create())
