"""Workdirs that no run has made: for tests of what is read from them."""

import json
import sys
from pathlib import Path

from diffjax.config import resolved
from experiments.tools import jobs, sweeps
from experiments.tools.jobs import Job
from experiments.tools.sweeps import Sweep, product

STUB = (sys.executable, str(Path(__file__).with_name("stub.py")))
SHARED = {"train.steps": 40, "eval.seeds": 2, "eval.count": 30}


def small(names: tuple[str, ...] = ("eps", "x0", "v"), **settings) -> Sweep:
  """Three runs that a stub can do."""
  return product("configs/digits.py", {"objective.predict": names}, shared=SHARED, **settings)


def jobs_of(sweep: Sweep, folder: Path) -> tuple[Job, ...]:
  """The jobs of a sweep, the stub in main.py's place."""
  return jobs.of(sweep, sweeps.check(sweep), str(folder), STUB)


def report(job: Job, frechet: list[float] = (1.0, 3.0), **changes) -> dict:
  """What main.py's evaluation of a job would write, with values put there by hand."""
  config = job.config
  values = {"frechet": {"value": sum(frechet) / len(frechet), "of_seeds": list(frechet), "floor": 0.5}}
  return {
    "step": config.train.steps,
    "weights": "ema 0.995",
    "samples": 30,
    "seeds": [0, 1],
    "sample": resolved(config)["sample"],
    "evaluations": config.sample.steps,
    "metrics": {"classifier": {"settings": {"reference": "test split"}, "values": values}},
  } | changes


def train(job: Job, step: int | None = None) -> None:
  """Gives a workdir the checkpoint of a step, by default the last."""
  (Path(job.folder) / "checkpoints" / str(step or job.config.train.steps)).mkdir(parents=True, exist_ok=True)


def evaluate(job: Job, report: dict, step: int | None = None) -> None:
  """Gives a workdir an evaluation."""
  place = Path(job.folder) / "eval" / str(step or job.config.train.steps) / "metrics.json"
  place.parent.mkdir(parents=True, exist_ok=True)
  place.write_text(json.dumps(report))


def template(job: Job) -> None:
  """What the stub will write as an evaluation."""
  Path(job.folder).mkdir(parents=True, exist_ok=True)
  (Path(job.folder) / "template.json").write_text(json.dumps(report(job)))


def metrics(job: Job, *lines: dict) -> None:
  """A workdir's metrics.jsonl."""
  Path(job.folder).mkdir(parents=True, exist_ok=True)
  (Path(job.folder) / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
