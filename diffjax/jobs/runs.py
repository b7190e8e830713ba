"""What training, sampling and evaluation share: devices, data, objects and the checkpoints of a workdir."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from diffjax import experiment, keys, levels
from diffjax.choices import require_declared
from diffjax.config import annotations, leaves, resolved, settled
from diffjax.data import encoded
from diffjax.data.source import Field, Source
from diffjax.experiment import Experiment
from diffjax.jobs import trained, workdir
from diffjax.machine import averages, consistency, disk, parallel, state
from diffjax.machine.byproducts import to_stderr
from diffjax.machine.checkpoint import Checkpoints
from diffjax.machine.parallel import Parallel
from diffjax.machine.reporting import Reporter
from diffjax.machine.state import TrainState
from diffjax.types import ConfigError, Params

SEEN = 64  # examples whose pixels are compared with what the config says of them


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
  """A config on these devices in this workdir.

  Attributes:
    config: the config.
    about: what belongs to the run of it, with the commit and the packages.
    folder: the workdir.
    parallel: the devices.
    experiment: the objects of the config.
    fields: of the data.
    examples: number of training examples.
    changed: what is to be told of data that are others than before.
  """

  config: FrozenConfigDict
  about: Mapping[str, Any]
  folder: Path
  parallel: Parallel
  experiment: Experiment
  fields: Mapping[str, Field]
  examples: int
  changed: tuple[str, ...] = ()

  @functools.cached_property
  def source(self) -> Source:
    """The raw training data, opened at the first use; they must be the data that the run was trained on.

    Raises:
      ConfigError: they are not there, or are others.
    """
    source = experiment.source(self.config, "train")
    if workdir.has_run(self.folder) and workdir.has_checkpoints(self.folder):
      by_text = "encode_text" in self.experiment.task.can
      for text in workdir.require_data(self.folder, source, self.config.data.changed, by_text):
        to_stderr(f"warning: {text}")
    return source

  @functools.cached_property
  def data(self) -> Source:
    """The training data with what other runs make of them; see `source`."""
    return self._encoded(self.source)

  @functools.cached_property
  def test(self) -> Source:
    """The held-out data."""
    return self._encoded(experiment.source(self.config, "test"))

  def _encoded(self, source: Source) -> Source:
    parts, encodings = self.experiment, self.experiment.task.encodings
    return encoded.normalised(encoded.encoded(source, encodings, self.parallel), encodings, parts.moments)

  def with_moments(self) -> "Run":
    """The run with the moments of its training data's latents, measured where they are not known yet."""
    parts, encodings = self.experiment, self.experiment.task.encodings
    if parts.moments or not any(each.moments for each in encodings.values()):
      return self
    moments = encoded.measure(self.data, encodings)
    run = dataclasses.replace(self, experiment=parts.with_moments(moments))
    run.__dict__.update(
      {"source": self.source, "data": encoded.normalised(self.data, encodings, moments)}
    )  # they are kept
    return run

  @property
  def writes(self) -> bool:
    """Whether this process writes files."""
    return self.parallel.process_index == 0

  def warnings(self) -> list[str]:
    """What may not be meant."""
    train, lines = self.config.train, [*self.changed, *self.experiment.task.warnings]
    if train.warmup > train.steps:
      lines.append(
        f"config.train.warmup is {train.warmup} and config.train.steps {train.steps}: the learning rate stays below "
        f"{train.learning_rate}."
      )
    if train.batch_size > self.examples:
      lines.append(
        f"config.train.batch_size is {train.batch_size}, but there are {self.examples} examples: some stand in a "
        "batch more than once."
      )
    return lines

  def warn(self, reporter: Reporter) -> None:
    """Says what may not be meant."""
    for text in self.warnings():
      reporter.line(f"warning: {text}")

  def checkpoints(self) -> Checkpoints:
    """The workdir's checkpoints."""
    settings = self.config.checkpoint
    return Checkpoints(self.folder / "checkpoints", settings.keep, settings.keep_every)

  def _make(self, params: Params | None = None) -> TrainState:
    key, parts = keys.seed(self.config.seed), self.experiment
    if params is None:
      params = parts.task.init(jax.random.fold_in(key, 2**32 - 1))  # no step has this number
    return state.create(params, parts.optimizer, parts.averages, key, parts.task.start())

  def new_state(self) -> TrainState:
    """The state before the first step: new parameters, or those of config.train.start.

    Raises:
      ConfigError: that run's parameters have other names or shapes.
    """
    place = self.config.train.start
    if not place:
      return self.parallel.init(self._make)
    target = jax.eval_shape(self.experiment.task.init, jax.random.key(0))
    params = trained.parameters(place, target, self.parallel)
    return self.parallel.init(self._make, params)

  def initial_share(self, weights: str, step: int) -> float:
    """How much of these weights is still what training began with."""
    rate = self.experiment.averages.get(weights)
    return averages.initial_share(rate, step) if rate else 0.0

  def restore(self, checkpoints: Checkpoints, step: int) -> TrainState:
    """The state of a checkpoint, where this run computes."""
    return checkpoints.restore(self.parallel.abstract(self._make), step)

  def trained(self, steps: str, field: str) -> Iterator[tuple[int, str, Params]]:
    """Checkpoints' steps and the weights that config.sample names, with their name; nothing else is read.

    Args:
      steps: "latest", "all", or steps with commas between them.
      field: the config's that says so.

    Raises:
      ConfigError: there is no such checkpoint.
    """
    if not workdir.has_checkpoints(self.folder):
      raise ConfigError(f"--workdir={self.folder} holds no checkpoint yet; train first.")
    name = self.experiment.weights_name()
    target = self.parallel.abstract(lambda: self.experiment.task.init(jax.random.key(0)))
    with self.checkpoints() as checkpoints:
      for step in steps_of(checkpoints.steps(), steps, field, self.folder):
        yield step, name, checkpoints.restore_weights(target, step, name)


def steps_of(there: list[int], steps: str, field: str, folder: Path) -> list[int]:
  """The steps that are named; ConfigError where one of them has no checkpoint."""
  if not there:
    raise ConfigError(f"--workdir={folder} holds no whole checkpoint yet; train first, or on.")
  groups = {"latest": there[-1:], "all": there}
  selection = groups[steps] if steps in groups else [int(step) for step in steps.split(",")]
  if missing := set(selection) - set(there):
    raise ConfigError(
      f"{field} names step {min(missing)}, of which {folder} has no checkpoint; there are "
      f"{', '.join(map(str, there))}."
    )
  return selection


def start(config: ConfigDict, folder: Path, mode: str | None = None) -> Run:
  """Checks everything that can be checked before a compile.

  Sampling and evaluation of a trained run need its workdir alone, unless something asks for the data.

  Args:
    config: the config.
    folder: the workdir.
    mode: what main.py will do, the same in all processes.

  Raises:
    ConfigError: a field that cannot be right, data that are not there, or a workdir of another config.
    RunError: another process does something else.
  """
  config = settled(config)
  if mode == "train":
    require_declared(config)
  about = workdir.about(resolved(config))
  if workdir.has_run(folder):
    workdir.require_same(folder, config, about["config"])
  elif workdir.has_checkpoints(folder):
    raise ConfigError(
      f"--workdir={folder} holds checkpoints but no config.json, so that nobody knows of what. To train from their "
      "weights put the config.json back, and name the workdir by --config.train.start in a new one."
    )
  disk.require_folder(folder, f"--workdir={folder}", writes=mode == "train")
  settings = config.parallel
  with experiment.within("parallel"):
    devices = parallel.create(settings.mode, settings.data, settings.fsdp, settings.model, settings.small)
  data = workdir.data_of(folder) if mode != "train" else None
  source = None if data else experiment.source(config, "train")
  fields, examples, fingerprint = data or (source.fields, len(source), source.fingerprint)
  same = about | {"data": fingerprint}
  command = {"--workdir": str(folder.absolute()), "--mode": mode}
  consistency.require_same(devices, command | {name: same[name] for name in ("commit", "packages", "data")})
  consistency.require_same(devices, {f"config.{path}": value for path, value in leaves(about["config"])})
  changed = []
  if source and workdir.has_run(folder) and workdir.has_checkpoints(folder):
    changed = workdir.require_data(folder, source, config.data.changed)
  find = functools.partial(trained.trained, devices=devices, seed=config.sample.seed)
  parts = experiment.create(config, fields, find, cut=devices.sequence)
  if workdir.has_run(folder) and workdir.has_checkpoints(folder):
    parts = trained.with_moments(parts, folder)
    workdir.require_uses(folder, parts.needs)
  run = Run(config, about, folder, devices, parts, fields, examples, tuple(changed))
  if source:
    run.__dict__["source"] = source  # where cached_property keeps it
  return run


def require_levels(run: Run, source: Source) -> None:
  """Raises ConfigError where the config names a number of levels, and pixels of the first examples lie between them."""
  asked = {name: source.fields[name] for name in run.experiment.task.fields if name in source.fields}
  images = [name for name, field in asked.items() if field.dtype == "uint8" and len(field.shape) > 2]
  read = source.read(np.arange(min(SEEN, len(source))), images) if images else {}
  types = annotations()
  for path, count in leaves(run.experiment.plain):
    for name, values in read.items() if types.get(path) == levels.Levels else ():
      if len(grey := levels.between(values, count)):
        raise ConfigError(
          f"config.{path} is {count}, but the data's {name!r} has values between {count} levels, {grey[0]} of 255 say; "
          f"it has {len(np.unique(values))} different ones in the first {len(values)} examples. Name the number of "
          "levels that the data have, 256 where they were not made of fewer."
        )
