"""All processes of a run do the same: what they do is compared, and a run in which one differs ends everywhere.

What they run (workdir, mode, config, commit, packages, data, the step they go on from) is compared before
anything is compiled; what they have become, the copies of every array of the state on all devices, before the
first step and every config.parallel.check_every steps, bit for bit. All processes see all that is compared, so
that all of them raise the same error.
"""

import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from diffjax.machine.parallel import Parallel
from diffjax.machine.state import TrainState, checksum
from diffjax.types import RunError


def require_same(parallel: Parallel, what: Mapping[str, Any]) -> None:
  """Raises RunError in every process if `what`, JSON with names, is not the same in all of them."""
  copies = [json.loads(text) for text in parallel.texts(json.dumps(what, sort_keys=True))]
  for process, other in enumerate(copies):
    names = [name for name in sorted(what) if copies[0].get(name) != other.get(name)]
    if names:
      differences = "; ".join(
        f"{name} is {other.get(name)!r} there and {copies[0].get(name)!r} in process 0" for name in names[:5]
      )
      raise RunError(
        f"Process {process} of {len(copies)} runs something else: {differences}. Start all processes with the same "
        "command, code and packages."
      )


class Copies:
  """The copies of a state that devices hold; compiles once."""

  def __init__(self, parallel: Parallel, state: TrainState):
    """Takes shapes, types and places of a state."""
    leaves = jax.tree_util.tree_leaves_with_path(_plain(state))
    self._names = [jax.tree_util.keystr(path) for path, _ in leaves]
    shapes = [leaf.shape for _, leaf in leaves]
    self._places = [parallel.owners(shape) for shape in shapes]
    self._parallel, self._sums = parallel, parallel.each_device(checksum, shapes)

  def check(self, state: TrainState, step: int) -> None:
    """Raises RunError in every process if two copies of the same numbers differ in a bit."""
    if self._parallel.device_count == 1:
      return
    sums = self._parallel.fetch(self._sums(*jax.tree.leaves(_plain(state))))
    for name, places, column in zip(self._names, self._places, sums.T, strict=True):
      if one := _differing(places, column):
        raise RunError(
          f"At step {step} process {one[1]} does not hold the numbers that process {one[0]} holds of {name}: a "
          "device or its memory is at fault, or the processes did not compute the same. Start again, from the "
          "last checkpoint from before, and if it happens again without that machine."
        )


def _plain(state: TrainState) -> TrainState:
  """The state with its key as numbers."""
  plain = lambda x: jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x
  return jax.tree.map(plain, state)


def _differing(places: list[tuple[int, Any]], sums: np.ndarray) -> tuple[int, int] | None:
  """Two processes, the second odd, whose checksums of the same part differ; places: (process, part) by device."""
  first = {}
  for (process, part), value in zip(places, sums, strict=True):
    other, expected = first.setdefault(part, (process, value))
    if value != expected:
      return other, process
  return None
