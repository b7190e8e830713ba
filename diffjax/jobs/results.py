"""Names of results: hashes of all that decides them, so that results of other settings are not overwritten."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import jax

from diffjax.data.source import fingerprint as content
from diffjax.experiment import Experiment
from diffjax.jobs.drawing import Samples
from diffjax.machine.state import fingerprint
from diffjax.types import Params

KEPT = 3  # sets of samples of one checkpoint that evaluations keep


def digest(*what: Any) -> str:
  """A hash of plain data, 8 hexadecimal digits."""
  return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:8]


def of_samples(experiment: Experiment, params: Params, request: Samples, *besides: Any) -> str:
  """A hash of all that samples depend on: weights, sampling, conditions and what is requested of them, runs in use.

  Args:
    experiment: the objects of the run.
    params: the weights.
    request: the fields that the samples ask for.
    besides: what else decides them.
  """
  sums = {name: int(value) for name, value in jax.device_get(fingerprint(params)).items()}
  settings = experiment.plain.get("sample", {})
  how = {name: value for name, value in settings.items() if name not in ("count", "checkpoint")}
  fields = {name: content(values.shape, values) for name, values in request.items()}
  conditions = experiment.plain.get("condition", {})  # the level of noise on a small image, which is no field
  return digest(how, conditions, fields, dict(experiment.uses), sums, *besides)


def name_of_samples(experiment: Experiment, step: int, weights: str, params: Params, request: Samples) -> str:
  """The name of a draw: step, weights, seed, and a hash of all that decides it."""
  return f"{step:08d}_{weights}_seed{experiment.config.sample.seed}_{of_samples(experiment, params, request)}"


def name_of_evaluation(experiment: Experiment, params: Params, request: Samples) -> str:
  """A hash of all that decides the numbers of an evaluation, the data aside, which are the run's."""
  settings = {name: value for name, value in experiment.plain["eval"].items() if name != "checkpoints"}
  return of_samples(experiment, params, request, settings)


def folder_of_shards(experiment: Experiment, params: Params, request: Samples, place: Path) -> Path:
  """The folder of an evaluation's samples, from which it goes on and a later one of the same samples reads."""
  return place / f"samples-{of_samples(experiment, params, request, experiment.config.eval.shard)}"


def bound(place: Path, last: Path) -> None:
  """Removes all but the newest KEPT sets of samples at a place; `last` is the newest."""
  if last.exists():
    last.touch()
  folders = sorted(place.glob("samples-*"), key=lambda path: path.stat().st_mtime, reverse=True)
  for old in folders[KEPT:]:
    shutil.rmtree(old, ignore_errors=True)
