"""main.py's --mode=train: the loop around the step.

The device never waits for the host: batches are read ahead, and the metrics of an interval are looked at
after the next call has been dispatched. A loss or a gradient that is not finite stops the run before anything
made from it is saved.
"""

import contextlib
import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
from clu import parameter_overview
from ml_collections import ConfigDict

from diffjax import keys
from diffjax.data.pipeline import batches
from diffjax.jobs import album, runs, workdir
from diffjax.jobs.drawing import Sampling, image_of
from diffjax.jobs.held_out import HeldOut
from diffjax.jobs.runs import Run
from diffjax.jobs.sampling import EARLY, requests
from diffjax.jobs.train_step import make_chunk, make_step
from diffjax.machine import charts, consistency, disk, memory, parallel, pictures, reporting, signals
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
  size = config.train.steps_per_call
  if not size:
    return math.gcd(STEPS_PER_CALL.get(platform, OTHERWISE), *intervals.values())
  for name, interval in intervals.items():
    if interval % size and interval == start:
      raise ConfigError(
        f"config.train.steps_per_call is {size}, but the run goes on from step {start}, which is no multiple of "
        f"it; choose {math.gcd(size, start)}, say."
      )
    if interval % size:
      raise ConfigError(
        f"config.{name} is {interval}, which is no multiple of config.train.steps_per_call = {size}; "
        f"choose {max(1, round(interval / size)) * size}, say."
      )
  return size


@contextlib.contextmanager
def stopping(devices: Parallel) -> Iterator[Callable[[], str | None]]:
  """A function that names the SIGTERM or Ctrl-C after which the run shall end, once there was one.

  It is asked after every call of the training step; see signals.asking. Of several processes JAX hears SIGTERM, and
  finds a call for all.
  """
  if devices.process_count > 1:
    calls = itertools.count(1)
    yield lambda: "SIGTERM" if devices.asked_to_stop(next(calls)) else None
    return
  with signals.asking() as signal:
    yield signal


@dataclasses.dataclass
class Interval:
  """The metrics of the steps since the last report, still on the device."""

  first: int
  parts: list = dataclasses.field(default_factory=list)

  @classmethod
  def of(cls, about: dict, start: int) -> "Interval":
    """The interval that a checkpoint was saved within, so that a stopped run reports the same means as any other."""
    record = about.get("interval") or {"first": start, "steps": {}}
    steps = {name: np.asarray(values, np.float32) for name, values in record["steps"].items()}
    return cls(record["first"], [steps] if steps else [])

  def plain(self, run: Run, last_good: int | None) -> dict:
    """What `of` takes; raises as `values` does."""
    steps = self._steps(run, last_good) if self.parts else {}
    return {"first": self.first, "steps": {name: values.tolist() for name, values in steps.items()}}

  def values(self, run: Run, last_good: int | None) -> dict[str, float]:
    """Their means (of the learning rate the last).

    Raises:
      RunError: a loss, a gradient or an update was not finite.
    """
    steps = self._steps(run, last_good)
    return {name: float(v[-1] if name == "learning_rate" else v.mean()) for name, v in steps.items()}

  def _steps(self, run: Run, last_good: int | None) -> dict[str, np.ndarray]:
    """Every number of every step, by name; raises where one is not finite."""
    fetched = jax.device_get(self.parts)
    names = [name for name in fetched[-1] if all(name in part for part in fetched)]
    steps = {name: np.concatenate([part[name] for part in fetched]) for name in names}
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
    return steps


class Pictures:
  """Grids of samples, denoising strips and held-out numbers during training, from the same noise each time."""

  def __init__(self, run: Run):
    """See Sampling for what is compiled here."""
    config, task = run.config, run.experiment.task
    self._run, self._sampling = run, None
    if task.draw:
      self._sampling = Sampling(run.experiment, run.parallel, config.log.samples, run.data)
      self._request = requests(run, np.arange(config.log.samples))
    count = min(config.log.held_out, len(run.test)) if config.log.held_out else 0
    rows = run.test.read(np.arange(count), task.fields) if count else None
    self._held_out = HeldOut(run.experiment, run.parallel, rows) if rows else lambda state: {}

  def begin(self, reporter: reporting.Reporter) -> None:
    """Shows what the network is fed in the first step."""
    with reporter.may_fail("the picture of what is fed", (ConfigError, OSError)):
      picture = album.fed(self._run)
      if self._run.writes and picture is not None:
        pictures.save_png(self._run.folder / "samples" / "fed.png", picture)
        reporter.images(0, "fed", picture)

  def report(self, state: TrainState, step: int, reporter: reporting.Reporter) -> None:
    """Draws, saves and logs them."""
    if held_out := self._held_out(state):
      reporter.metrics(step, held_out)
    with reporter.may_fail("the chart of the losses"):
      if self._run.writes:
        charts.logged(self._run.folder / "losses.png", self._run.folder / "metrics.jsonl")
    if self._sampling is None:
      return
    weights, params = self._run.experiment.weights(state)
    key = keys.seed(self._run.config.sample.seed)
    with reporter.may_fail("the grid of samples", (ConfigError, OSError)):  # not finite: so in every process
      images = image_of(self._sampling.draw(params, key, self._request))
      strip = self._sampling.strip(params, key, self._request)
      share = self._run.initial_share(weights, step)
      raw = image_of(self._sampling.draw(state.params, key, self._request)) if share > EARLY else None
      if self._run.writes and images is not None:
        sheets = {
          "grid": album.sheet(images, self._request, self._run.fields),
          "strip": album.walk(strip, self._request, self._run.fields),
        }
        if raw is not None:
          sheets["raw"] = album.sheet(raw, self._request, self._run.fields)
        for kind, picture in sheets.items():
          pictures.save_png(self._run.folder / "samples" / f"{kind}_{step:08d}.png", picture)
          reporter.images(step, {"grid": "samples"}.get(kind, kind), picture)
        early = f" ({share:.0%} still those of step 0)" if share > EARLY else ""
        reporter.line(
          f"samples of the {weights} weights{early}: {self._run.folder}/samples/grid_{step:08d}.png"
        )


def train(config: ConfigDict, folder: Path) -> None:
  """Trains a run, or goes on with it; the last checkpoint is of step config.train.steps.

  Raises:
    ConfigError: see runs.start; or batches of a part of the data, for a task that needs all in each.
    RunError: a damaged checkpoint, or a loss that is not finite.
  """
  run = start(config, folder)
  with workdir.locked(folder, run.writes):
    _train(run)


def start(config: ConfigDict, folder: Path) -> Run:
  """The run, before anything is made; ConfigError as `train`."""
  run = runs.start(config, folder, "train")
  parallel.check_batch(
    run.parallel, "config.train.batch_size", config.train.batch_size, config.train.accumulate
  )
  if run.experiment.task.whole and config.train.batch_size < run.examples:
    raise ConfigError(
      f"config.train.batch_size is {config.train.batch_size}, but there are {run.examples} examples, and "
      f"config.task.{config.task.name}.{run.experiment.task.whole}. Set one or the other."
    )
  runs.require_levels(run, run.source)
  steps_per_call(config, run.parallel.platform, 0)
  return run


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
  with reporter, run.checkpoints() as checkpoints:
    start = checkpoints.latest()
    last = checkpoints.about(start) if start is not None else {}
    consistency.require_same(run.parallel, {"the last checkpoint": start})
    chunk = steps_per_call(config, run.parallel.platform, start or 0)
    run = run.with_moments()
    if run.writes:
      workdir.save(folder, run.about, run.source, run.experiment.needs, run.experiment.moments)
    if start is not None and start >= config.train.steps:
      return reporter.line(f"{folder} is finished: step {start} of {config.train.steps}.")
    state = run.new_state() if start is None else run.restore(checkpoints, start)
    reporter.resumed(start or 0)
    reporter.line(_headline(run, state, start))
    run.warn(reporter)
    checkpoints.require_room(state, min(map(int, run.parallel.texts(str(disk.free(folder))))))
    _loop(run, state, start or 0, chunk, reporter, checkpoints, Interval.of(last, start or 0))


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
  interval: Interval,
) -> None:
  """The steps from `start` on, in calls of `chunk`."""
  config, devices = run.config, run.parallel
  total, batch_size = config.train.steps, config.train.batch_size
  take = devices.train(make_chunk(make_step(run.experiment)))
  reporter.line("preparing held-out examples and pictures")
  grids, copies = Pictures(run), Copies(devices, state)
  if not start:
    grids.begin(reporter)
  due, latest, signal = None, {}, None
  if config.parallel.check_every:
    copies.check(state, start)

  def report():
    nonlocal due, latest
    if due:
      (at, finished), due = due, None
      values = finished.values(run, checkpoints.latest())
      latest = {"loss": values["loss"]}
      reporter.metrics(at, values | reporter.speed())
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
  reporter.line("compiling the training step")
  began = time.monotonic()
  with contextlib.ExitStack() as listening, memory.given_back_after_compiling(), reading as ahead:
    for step in range(start + chunk, total + 1, chunk):
      state, metrics = take(state, run.experiment.frozen, devices.place(next(ahead), batch_size))
      if signal is None:  # until here nothing was lost by ending at once
        signal = listening.enter_context(stopping(devices))
        jax.block_until_ready(metrics)
        reporter.line(f"compiled and step {step} done in {time.monotonic() - began:.1f} s")
      interval.parts.append(metrics)
      report()
      stop = signal()
      saves = step == total or step % config.checkpoint.every == 0
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
        if saves or stop:
          within = {"interval": interval.plain(run, checkpoints.latest())}
          checkpoints.save(state, {**run.about, **within})
        if shows:
          grids.report(state, step, reporter)
      if stop:
        break
    checkpoints.wait()  # a save that failed must not be called one
  if stop:
    reporter.line(f"{stop}: step {step} is saved; the same command goes on from there.")
  else:
    reporter.line(f"finished: step {total}")
