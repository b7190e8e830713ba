"""The loss on held-out images at fixed (t, eps), per band of log-SNR.

In a band every image has its own time, the times evenly spaced in log-SNR, and its own noise; both are the
same at every step, for every set of weights. There is no dropout, no flip and no dropped label. The loss has
the objective's weight and kind; on a table the times are rows.
"""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import keys
from diffjax.experiment import Experiment
from diffjax.jobs.train_step import to_x0
from diffjax.machine.parallel import Parallel
from diffjax.machine.state import TrainState
from diffjax.schedules import Schedule

EDGES = np.array([-9.0, -6.0, -3.0, 0.0, 3.0, 6.0, 9.0])


def bands(schedule: Schedule, count: int) -> Mapping[str, np.ndarray]:
  """Times [count] of every band that the schedule reaches, by name."""
  high, low = schedule.ends
  times_of = jax.jit(lambda logsnr: schedule.t_of(logsnr))
  found = {}
  for start, end in zip(EDGES[:-1], EDGES[1:], strict=True):
    inside = np.clip([start, end], low, high)
    if inside[0] < inside[1]:
      logsnr = inside[0] + (inside[1] - inside[0]) * (np.arange(count) + 0.5) / count
      t = np.asarray(times_of(logsnr.astype(np.float32)))
      if schedule.steps is not None:
        t = np.round(t * schedule.steps) / schedule.steps
      found[f"logsnr_{start:g}_to_{end:g}"] = t.astype(np.float32)
  return found


class HeldOut:
  """The held-out loss of an experiment; compiles once."""

  def __init__(self, experiment: Experiment, parallel: Parallel, images: np.ndarray, labels: np.ndarray):
    """Takes images uint8 [n, H, W, C] and labels int32 [n] that training does not see."""
    self._parallel, self._count = parallel, len(images)
    self._schedule = experiment.schedule
    rows = np.minimum(np.arange(parallel.padded(len(images))), len(images) - 1)
    self._batch = {
      "image": images[rows],
      "label": labels[rows],
      "index": np.arange(len(rows), dtype=np.int32),
    }
    size = len(rows)

    def loss(params, batch):
      draws = keys.Draws(keys.seed(0), batch["index"], size)
      cond = batch["label"] if experiment.num_classes else None
      network = experiment.apply(params)
      quiet = lambda x, time, cond, dropout_keys: network(x, time, cond, None)
      objective = experiment.objective_at(batch["t"])
      x0 = to_x0(batch["image"], draws, flip=False)
      return objective(quiet, experiment.schedule_of(params), x0, cond, draws)

    self._loss = parallel.batched(loss)

  @functools.cached_property
  def _bands(self) -> Mapping[str, np.ndarray]:
    return bands(self._schedule, self._count)

  def __call__(self, state: TrainState) -> dict[str, float]:
    """Mean losses, held_out/<weights>/<band>, of the raw weights and every moving average."""
    weights = {"raw": state.params} | {f"ema_{rate}": params for rate, params in state.ema.items()}
    values = {}
    for name, params in weights.items():
      for band, t in self._bands.items():
        t = np.concatenate([t, np.repeat(t[-1:], len(self._batch["index"]) - len(t))])
        found = self._loss(params, self._batch | {"t": jnp.asarray(t)})
        values[f"held_out/{name}/{band}"] = float(np.mean(self._parallel.fetch(found)[: self._count]))
    return values
