"""What training, sampling and evaluation share: devices, data, objects and the checkpoints of a workdir."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import jax
from ml_collections import ConfigDict

from diffjax import experiment, keys
from diffjax.config import check, leaves
from diffjax.data.source import Source
from diffjax.experiment import Experiment
from diffjax.jobs import workdir
from diffjax.machine import consistency, parallel, state
from diffjax.machine.checkpoint import Checkpoints
from diffjax.machine.parallel import Parallel
from diffjax.machine.state import TrainState
from diffjax.types import ConfigError, Params


@dataclasses.dataclass(frozen=True)
class Run:
  """A config on these devices in this workdir.

  Attributes:
    config: the config.
    folder: the workdir.
    parallel: the devices.
    experiment: the objects of the config.
    train, test: the two splits of the data.
  """

  config: ConfigDict
  folder: Path
  parallel: Parallel
  experiment: Experiment
  train: Source
  test: Source

  @property
  def writes(self) -> bool:
    """Whether this process writes files."""
    return self.parallel.process_index == 0

  def checkpoints(self) -> Checkpoints:
    """The workdir's checkpoints."""
    settings = self.config.checkpoint
    return Checkpoints(self.folder / "checkpoints", settings.keep, settings.keep_every)

  def _make(self) -> TrainState:
    key = keys.seed(self.config.seed)
    params = self.experiment.init(jax.random.fold_in(key, 2**32 - 1))  # no step has this number
    memory = self.experiment.start_memory()
    return state.create(params, self.experiment.optimizer, self.config.train.ema, key, memory)

  def new_state(self) -> TrainState:
    """The state before the first step."""
    return self.parallel.init(self._make)

  def restore(self, checkpoints: Checkpoints, step: int) -> TrainState:
    """The state of a checkpoint, where this run computes."""
    return checkpoints.restore(self.parallel.abstract(self._make), step)

  def trained(self, steps: str = "latest") -> Iterator[tuple[int, str, Params]]:
    """Checkpoints' steps and the weights that config.sample names, with their name.

    Args:
      steps: "latest", "all", or steps with commas between them.

    Raises:
      ConfigError: there is no such checkpoint.
    """
    if not workdir.has_checkpoints(self.folder):
      raise ConfigError(f"--workdir={self.folder} holds no checkpoint yet; train first.")
    with self.checkpoints() as checkpoints:
      there = checkpoints.steps()
      named = {"latest": there[-1:], "all": there}
      wanted = named[steps] if steps in named else [int(step) for step in steps.split(",")]
      if missing := set(wanted) - set(there):
        raise ConfigError(
          f"config.eval.checkpoints names step {min(missing)}, of which {self.folder} has no checkpoint; "
          f"there are {', '.join(map(str, there))}."
        )
      for step in wanted:
        name, params = self.experiment.sampling_weights(self.restore(checkpoints, step))
        yield step, name, params


def start(config: ConfigDict, folder: Path, mode: str | None = None) -> Run:
  """Checks everything that can be checked before a compile.

  Args:
    config: the config.
    folder: the workdir.
    mode: what main.py will do, the same in all processes.

  Raises:
    ConfigError: a field that cannot be right, data that are not there, or a workdir of another config.
    RunError: another process does something else.
  """
  check(config)
  if workdir.has_run(folder):
    workdir.require_same(folder, config)
  for place in (folder, *folder.parents):
    if place.exists() and not place.is_dir():
      raise ConfigError(f"--workdir={folder} cannot be made: {place} is a file; name a folder.")
  settings = config.parallel
  devices = parallel.create(settings.mode, settings.data, settings.fsdp, settings.model, settings.small)
  train = experiment.source(config, "train")
  same = workdir.about(config) | {"data": train.fingerprint}
  command = {"--workdir": str(folder.absolute()), "--mode": mode}
  consistency.require_same(devices, command | {name: same[name] for name in ("commit", "packages", "data")})
  consistency.require_same(devices, {f"config.{path}": value for path, value in leaves(same["config"])})
  if workdir.has_run(folder) and workdir.has_checkpoints(folder):
    workdir.require_data(folder, train.fingerprint)
  made = experiment.create(config, tuple(train.image_shape), train.num_classes)
  return Run(config, folder, devices, made, train, experiment.source(config, "test"))
