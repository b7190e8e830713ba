"""main.py's --mode=train: the loop around the step.

The device never waits for the host: batches are read ahead, and the metrics of an interval are looked at
after the next call has been dispatched. A loss or a gradient that is not finite stops the run before anything
made from it is saved.
"""

import contextlib
import dataclasses
import itertools
import math
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
from clu import parameter_overview
from ml_collections import ConfigDict

from diffjax import keys
from diffjax.data.pipeline import batches
from diffjax.jobs import runs, workdir
from diffjax.jobs.album import sheet
from diffjax.jobs.drawing import Sampling, image_of
from diffjax.jobs.held_out import HeldOut
from diffjax.jobs.runs import Run
from diffjax.jobs.sampling import request
from diffjax.jobs.train_step import make_chunk, make_step
from diffjax.machine import consistency, parallel, pictures, reporting
from diffjax.machine.checkpoint import Checkpoints
from diffjax.machine.consistency import Copies
from diffjax.machine.parallel import Parallel
from diffjax.machine.state import TrainState
from diffjax.types import ConfigError, RunError

STEPS_PER_CALL = {"cpu": 1}  # in a loop XLA's CPU convolutions and their gradients lose their threads
OTHERWISE = 10


def steps_per_call(config: ConfigDict, platform: str, start: int) -> int:
  """How many steps one compiled call takes; it divides every interval, and the step that a run goes on from.

  Raises:
    ConfigError: the number that the config names does not divide an interval.
  """
  intervals = {
    "train.steps done": start,
    "train.steps": config.train.steps,
    "log.every": config.log.every,
    "log.sample_every": config.log.sample_every,
    "checkpoint.every": config.checkpoint.every,
    "checkpoint.keep_every": config.checkpoint.keep_every,
    "parallel.check_every": config.parallel.check_every,
  }
  asked = config.train.steps_per_call
  if not asked:
    return math.gcd(STEPS_PER_CALL.get(platform, OTHERWISE), *intervals.values())
  for name, interval in intervals.items():
    if interval % asked and interval == start:
      raise ConfigError(
        f"config.train.steps_per_call is {asked}, but the run goes on from step {start}, which is no multiple of "
        f"it; choose {math.gcd(asked, start)}, say."
      )
    if interval % asked:
      raise ConfigError(
        f"config.{name} is {interval}, which is no multiple of config.train.steps_per_call = {asked}; "
        f"choose {max(1, round(interval / asked)) * asked}, say."
      )
  return asked


@contextlib.contextmanager
def stopping(devices: Parallel) -> Iterator[Callable[[], str | None]]:
  """A function that names the SIGTERM or Ctrl-C after which the run shall end, once there was one.

  It is asked after every call of the training step. A second signal ends the process as usual. Of several
  processes JAX hears SIGTERM, and finds a call for all.
  """
  heard, before = [], {}
  if devices.process_count > 1:
    calls = itertools.count(1)
    yield lambda: "SIGTERM" if devices.asked_to_stop(next(calls)) else None
    return

  def hear(number, frame):
    heard.append(signal.Signals(number).name)
    signal.signal(number, before[number])

  for number in (signal.SIGTERM, signal.SIGINT):
    with contextlib.suppress(ValueError):  # only the main thread may listen
      before[number] = signal.signal(number, hear)
  try:
    yield lambda: heard[0] if heard else None
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


@dataclasses.dataclass
class Interval:
  """The metrics of the steps since the last report, still on the device."""

  first: int
  parts: list = dataclasses.field(default_factory=list)

  def values(self, run: Run, last_good: int | None) -> dict[str, float]:
    """Their means (of the learning rate the last).

    Raises:
      RunError: a loss, a gradient or an update was not finite.
    """
    fetched = jax.device_get(self.parts)
    steps = {name: np.concatenate([part[name] for part in fetched]) for name in fetched[0]}
    finite = np.all([np.isfinite(steps[name]) for name in ("loss", "grad_norm", "update_norm")], axis=0)
    if not finite.all():
      at = int(np.argmin(finite))
      good = (
        f"step {last_good} is the last checkpoint from before" if last_good else "there is no checkpoint yet"
      )
      raise RunError(
        f"At step {self.first + at + 1} the loss was {steps['loss'][at]:g}, the gradient's norm "
        f"{steps['grad_norm'][at]:g} and the update's {steps['update_norm'][at]:g}. The run has stopped; {good} "
        f"(config: {run.folder}/config.json). Lower config.train.learning_rate or add config.train.warmup, or look "
        "for bad data."
      )
    return {name: float(v[-1] if name == "learning_rate" else v.mean()) for name, v in steps.items()}


class Pictures:
  """Grids of samples, denoising strips and held-out numbers during training, from the same noise each time."""

  def __init__(self, run: Run):
    """See Sampling for what is compiled here."""
    config, task = run.config, run.experiment.task
    self._run, self._sampling = run, None
    if task.draw:
      self._sampling = Sampling(run.experiment, run.parallel, config.log.samples, run.data)
      self._asked = request(run, np.arange(config.log.samples))
    count = min(config.log.held_out, len(run.test)) if config.log.held_out else 0
    rows = run.test.read(np.arange(count), task.fields) if count else None
    self._held_out = HeldOut(run.experiment, run.parallel, rows) if rows else lambda state: {}

  def report(self, state: TrainState, step: int, reporter: reporting.Reporter) -> None:
    """Draws, saves and logs them."""
    if held_out := self._held_out(state):
      reporter.metrics(step, held_out)
    if self._sampling is None:
      return
    weights, params = self._run.experiment.weights(state)
    key = keys.seed(self._run.config.sample.seed)
    images = image_of(self._sampling.draw(params, key, self._asked))
    strip = self._sampling.strip(params, key, self._asked)
    if self._run.writes and images is not None:
      samples, strip = sheet(images, self._asked, self._run.fields), pictures.walk(*strip)
      folder = self._run.folder / "samples"
      pictures.save_png(folder / f"grid_{step:08d}.png", samples)
      pictures.save_png(folder / f"strip_{step:08d}.png", strip)
      reporter.images(step, "samples", samples)
      reporter.line(f"samples of the {weights} weights: {folder}/grid_{step:08d}.png")


def train(config: ConfigDict, folder: Path) -> None:
  """Trains a run, or goes on with it; the last checkpoint is of step config.train.steps.

  Raises:
    ConfigError: see run.start.
    RunError: a damaged checkpoint, or a loss that is not finite.
  """
  run = runs.start(config, folder, "train")
  parallel.check_batch(
    run.parallel, "config.train.batch_size", config.train.batch_size, config.train.accumulate
  )
  steps_per_call(config, run.parallel.platform, 0)
  with workdir.locked(folder, run.writes):
    _train(run)


def _train(run: Run) -> None:
  """The run, in a workdir that no other process changes."""
  config, folder = run.config, run.folder
  reporter = reporting.create(
    folder,
    run.writes,
    batch_size=config.train.batch_size,
    log_every=config.log.every,
    wandb_project=config.log.wandb,
    config=run.about,
  )
  with reporter, run.checkpoints() as checkpoints, stopping(run.parallel) as heard:
    start = checkpoints.latest()
    consistency.require_same(run.parallel, {"the last checkpoint": start})
    chunk = steps_per_call(config, run.parallel.platform, start or 0)
    if run.writes:
      workdir.save(folder, run.about, run.source, run.experiment.needs)
    if start is not None and start >= config.train.steps:
      return reporter.line(f"{folder} is finished: step {start} of {config.train.steps}.")
    state = run.new_state() if start is None else run.restore(checkpoints, start)
    reporter.resumed(start or 0)
    reporter.line(_headline(run, state, start))
    _loop(run, state, start or 0, chunk, reporter, checkpoints, heard)


def _headline(run: Run, state: TrainState, start: int | None) -> str:
  count = int(parameter_overview.count_parameters(state.params))  # of scalars alone it is a float
  devices = f"{run.parallel.device_count} x {run.parallel.platform}, {run.parallel.mode}"
  verb = "training" if start is None else f"going on from step {start}"
  return f"{verb}: {count:,} parameters, {len(run.data):,} examples, {devices}, workdir {run.folder}"


def _loop(
  run: Run,
  state: TrainState,
  start: int,
  chunk: int,
  reporter: reporting.Reporter,
  checkpoints: Checkpoints,
  heard: Callable[[], str | None],
) -> None:
  """The steps from `start` on, in calls of `chunk`."""
  config, devices = run.config, run.parallel
  total, batch_size = config.train.steps, config.train.batch_size
  take = devices.train(make_chunk(make_step(run.experiment)))
  pictured, copies = Pictures(run), Copies(devices, state)
  interval, due, latest = Interval(start), None, {}
  if config.parallel.check_every:
    copies.check(state, start)

  def report():
    nonlocal due, latest
    if due:
      (at, finished), due = due, None
      values = finished.values(run, checkpoints.latest())
      latest = {"loss": values["loss"]}
      reporter.metrics(at, values)
      reporter.progress(at, total, latest)

  reading = batches(
    run.data,
    run.experiment.task.fields,
    seed=config.seed,
    start_step=start,
    batch_size=batch_size,
    rows=devices.rows(batch_size),
    chunk=chunk,
  )
  with reading as ahead:
    for step in range(start + chunk, total + 1, chunk):
      state, metrics = take(state, run.experiment.frozen, devices.place(next(ahead), batch_size))
      interval.parts.append(metrics)
      report()
      stop = heard()
      last = step == total or stop
      saves = last or step % config.checkpoint.every == 0
      shows = step == total or (config.log.sample_every and step % config.log.sample_every == 0)
      if step % config.log.every == 0 or saves or shows:
        due, interval = (step, interval), Interval(step)
      else:
        reporter.progress(step, total, latest)
      if saves or shows:
        report()
      if config.parallel.check_every and step % config.parallel.check_every == 0:
        copies.check(state, step)
      with reporter.paused():
        if saves:
          checkpoints.save(state, run.about)
        if shows:
          pictured.report(state, step, reporter)
      if stop:
        break
  checkpoints.wait()  # a save that failed must not be called one
  if stop:
    reporter.line(f"{stop}: step {step} is saved; the same command goes on from there.")
  else:
    reporter.line(f"finished: step {total}")
