"""Training until a moment in time."""

import dataclasses
import time
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Array

from diffjax import keys
from diffjax.data.pipeline import batches
from diffjax.data.source import Source
from diffjax.experiment import Experiment
from diffjax.jobs.train_step import make_chunk, make_step
from diffjax.machine import state
from diffjax.machine.parallel import Parallel
from diffjax.types import Params, RunError
from experiments.cifar10_minutes import clock

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Trained:
  """What came of it.

  Attributes:
    params: the moving average.
    steps: taken, the first call's included.
    start: seconds to the end of the first call, which compiles.
    seconds: of the others together.
    losses: (step, share of the time, learning rate, mean loss, mean norm of the gradient) of each call.
  """

  params: Params
  steps: int
  start: float
  seconds: float
  losses: list[tuple[int, float, float, float, float]]


def _new_state(experiment: Experiment):
  key, task = keys.seed(experiment.config.seed), experiment.task
  params = task.init(jax.random.fold_in(key, 2**32 - 1))
  return state.create(params, experiment.optimizer, experiment.averages, key, task.start())


def untrained(experiment: Experiment, devices: Parallel) -> Params:
  """The moving average before the first step, placed as `train` leaves it."""
  _, average = experiment.weights(devices.init(lambda: _new_state(experiment)))
  return average


def _record(row: list, metrics: dict[str, Array]) -> tuple:
  loss, norm = (np.asarray(metrics[name]) for name in ("loss", "grad_norm"))
  if not (np.isfinite(loss).all() and np.isfinite(norm).all()):
    raise RunError(
      f"by step {row[0]} the loss was {loss}, the gradient's norm {norm}; lower the learning rate."
    )
  return (*row, float(loss.mean()), float(norm.mean()))


def train(
  experiment: Experiment, devices: Parallel, source: Source, until: float, calls: int, say: Say
) -> Trained:
  """Trains on the clock's learning rate (clock.py).

  Args:
    experiment: of `by_the_clock`.
    devices: where.
    source: the training images.
    until: the moment by time.monotonic at which the last call shall be done.
    calls: at most so many after the first; 0 for any number.
    say: hears of the progress.

  Raises:
    RunError: a loss or a gradient that is not finite.
  """
  config, began = experiment.config.train, time.monotonic()
  chunk = config.steps_per_call
  take = devices.train(make_chunk(make_step(experiment)))
  now = devices.init(lambda: _new_state(experiment))
  reading = batches(
    source,
    experiment.task.fields,
    seed=experiment.config.seed,
    start_step=0,
    batch_size=config.batch_size,
    rows=devices.rows(config.batch_size),
    chunk=chunk,
  )
  losses, pending, step = [], None, 0
  with reading as ahead:

    def call(rate):
      nonlocal now
      now = clock.with_rate(now, devices.replicate(np.float32(rate)))
      now, metrics = take(now, experiment.frozen, devices.place(next(ahead), config.batch_size))
      return metrics

    jax.block_until_ready(call(0.0))
    step, start = chunk, time.monotonic()
    say(f"first {chunk} steps after {start - began:.1f} s; {until - start:.0f} s are left for the others")
    while (moment := time.monotonic()) < until and not (calls and step >= chunk * (calls + 1)):
      share = (moment - start) / (until - start)
      rate = clock.rate(share, config.learning_rate)
      metrics, step = call(rate), step + chunk
      if pending:  # the device works on the next call meanwhile
        losses.append(_record(*pending))
        if len(losses) % 50 == 0:
          say(
            f"step {losses[-1][0]}: loss {losses[-1][3]:.4f}, "
            f"{losses[-1][0] / (time.monotonic() - start):.1f} steps/s"
          )
      pending = [step, share, rate], metrics
    if pending:
      losses.append(_record(*pending))
    jax.block_until_ready(now)
  _, average = experiment.weights(now)
  return Trained(average, step, start - began, time.monotonic() - start, losses)
