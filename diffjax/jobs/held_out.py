"""What the task measures on held-out examples, under each of its cases, for every set of weights.

Times, noise and whatever else is drawn are the same at every step; there is no dropout, no augmentation and no
condition is dropped.
"""

import functools
from collections.abc import Mapping

import jax
import numpy as np

from diffjax.experiment import Experiment
from diffjax.machine.parallel import Parallel
from diffjax.machine.state import TrainState


class HeldOut:
  """The held-out numbers of an experiment; compiles once."""

  def __init__(self, experiment: Experiment, parallel: Parallel, data: Mapping[str, np.ndarray]):
    """Takes fields [n, ...] of examples that training does not see."""
    self._parallel, self._task, self._frozen = parallel, experiment.task, experiment.frozen
    self._count = len(next(iter(data.values())))
    rows = np.minimum(np.arange(parallel.padded(self._count)), self._count - 1)
    self._batch = {name: values[rows] for name, values in data.items()}
    self._batch["index"] = np.arange(len(rows), dtype=np.int32)
    self._rows = rows

    def measure(shared, batch):
      params, frozen = shared
      return experiment.task.held_out(params, frozen, batch["data"], batch["case"])

    self._measure = parallel.batched(measure)

  @functools.cached_property
  def _cases(self) -> Mapping[str, object]:
    cases = self._task.cases(self._count)
    return {name: jax.tree.map(lambda values: values[self._rows], case) for name, case in cases.items()}

  def __call__(self, state: TrainState) -> dict[str, float]:
    """Means, held_out/<weights>/<case>/<name>, of the raw weights and every moving average."""
    values = {}
    for weights, params in ({"raw": state.params} | state.ema).items():
      for case, settings in self._cases.items():
        losses = self._measure((params, self._frozen), {"data": self._batch, "case": settings})
        for name, each in self._parallel.fetch(losses).items():
          path = "/".join(part for part in ("held_out", weights, case, name) if part)
          values[path] = float(np.mean(each[: self._count]))
    return values
