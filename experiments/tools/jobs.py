"""What a sweep asks of a machine: for every run the commands of main.py, and whether they are still needed.

<workdir>/<sweep>/<run>/          the workdir of a run, as main.py writes it
<workdir>/<sweep>/<run>/launch.txt    what its commands said
"""

import dataclasses
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from diffjax.config import resolved
from diffjax.jobs import workdir as workdirs
from experiments.tools.sweeps import TRAINED, Sweep, all_runs

OUTPUT = "launch.txt"
PROGRAM = (sys.executable, "main.py")


@dataclasses.dataclass(frozen=True)
class Job:
  """A run on its way to a machine.

  Attributes:
    name: the run's.
    folder: its workdir, as text, since it may lie on another machine.
    commands: mode ("train", "eval") -> the command line.
    config: its config.
    after: the name of the job whose checkpoints it samples from, or "".
  """

  name: str
  folder: str
  commands: Mapping[str, tuple[str, ...]]
  config: ConfigDict
  after: str = ""

  @property
  def trained(self) -> bool:
    """Whether its last checkpoint is there."""
    return (Path(self.folder) / "checkpoints" / str(self.config.train.steps)).is_dir()

  def done(self, mode: str) -> bool:
    """Whether what a command makes is there."""
    return self.trained if mode == "train" else self.trained and evaluated(Path(self.folder), self.config)

  @property
  def finished(self) -> bool:
    """Whether all of it is there."""
    return all(self.done(mode) for mode in self.commands)


def flag(path: str, value: Any) -> str:
  """An override as main.py's command line has it."""
  return f"--config.{path}={value}"


def exports(variables: Sequence[tuple[str, str]]) -> list[str]:
  """The shell commands that set environment variables, (name, value) each."""
  return [shlex.join(["export", f"{name}={value}"]) for name, value in variables]


def of(
  sweep: Sweep,
  configs: Mapping[str, ConfigDict],
  folder: str,
  program: Sequence[str] = PROGRAM,
) -> tuple[Job, ...]:
  """The jobs of a sweep, one that others wait for before them.

  Args:
    sweep: the sweep.
    configs: what sweeps.check returned for it.
    folder: where its runs' workdirs lie.
    program: what runs main.py.
  """
  return tuple(_job(sweep, run, configs[run.name], folder, program) for run in all_runs(sweep))


def _job(sweep, run, config, folder, program) -> Job:
  place = f"{folder}/{run.name}"
  start = [*program, f"--config={sweep.base}", *(flag(*item) for item in run.overrides.items())]
  modes = ["train", "eval"] if config.eval.metrics else ["train"]
  if sweep.trained is not None:
    modes = ["train"] if run.name == TRAINED else ["eval"]
  commands = {mode: (*start, f"--workdir={place}", f"--mode={mode}") for mode in modes}
  return Job(run.name, place, commands, config, "" if "train" in modes else TRAINED)


def evaluated(folder: Path, config: ConfigDict) -> bool:
  """Whether a workdir holds evaluations by this config of the checkpoints that it names."""
  names = config.eval.checkpoints
  steps = [config.train.steps] if names in ("latest", "all") else names.split(",")
  return all(_same(folder / "eval" / str(step) / "metrics.json", config) for step in steps)


def _same(path: Path, config: ConfigDict) -> bool:
  try:
    report = json.loads(path.read_text())
  except (OSError, ValueError):
    return False
  settings = json.loads(json.dumps(resolved(config)["sample"]))
  return (
    report.get("sample") == settings
    and set(report.get("metrics", ())) == set(config.eval.metrics)
    and len(report.get("seeds", ())) == config.eval.seeds
    and config.eval.count in (0, report.get("samples"))
  )


def prepare(job: Job) -> None:
  """Makes a job's folder, and lends it the run that it samples from: its checkpoints and what says of what they are.

  Raises:
    ConfigError: the folder holds the run of another config.
  """
  folder = Path(job.folder)
  if workdirs.has_run(folder):
    workdirs.require_same(folder, job.config, resolved(job.config))
  folder.mkdir(parents=True, exist_ok=True)
  trained = folder.parent / job.after
  for path in [trained / "checkpoints", trained / "config.json", *trained.glob("tokenizer_*.json")]:
    if job.after and not (link := folder / path.name).is_symlink():
      link.symlink_to(Path("..") / job.after / path.name)


def tail(job: Job, count: int = 15) -> str:
  """The last lines of what a job's commands said."""
  try:
    text = (Path(job.folder) / OUTPUT).read_text(encoding="utf-8", errors="replace")
  except OSError:
    return "(it said nothing)"
  lines = [line for line in text.splitlines() if line.strip()]
  return "\n".join(lines[-count:]) or "(it said nothing)"
