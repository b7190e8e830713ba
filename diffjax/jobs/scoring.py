"""The metrics of a checkpoint's samples; shards of samples and features are kept beside the result.

An evaluation that was killed goes on where it was, to the same numbers; 50,000 samples are never one array.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffjax import keys
from diffjax.data import cache
from diffjax.jobs import report, results
from diffjax.jobs.drawing import Samples
from diffjax.jobs.runs import Run
from diffjax.jobs.sampling import Loaded, Unopened, requests
from diffjax.machine import reporting
from diffjax.metrics.metric import Metric
from diffjax.types import ConfigError


def request_of(run: Run) -> Samples:
  """Numbers of the samples and the fields that they ask for: those of a split of the data, or as at sampling."""
  count, source = run.config.eval.count, Unopened(run, run.config.eval.split)
  index = np.arange(count or len(source))
  request = requests(run, index, run.config.eval.split)
  theirs = [name for name in request if name in run.fields]
  if not count and theirs and not run.experiment.task.leads:
    request |= source.read(index, theirs)
  return request


def score(
  checkpoint: Loaded,
  metrics: Mapping[str, Metric],
  request: Samples,
  place: Path,
  record: dict[str, Any],
  reporter: reporting.Reporter,
) -> Samples:
  """Draws and judges the samples of all seeds into the report `record`; returns the last seed's first shard.

  Args:
    checkpoint: the run and its weights.
    metrics: what judges them; none in processes that do not write.
    request: what the samples ask for.
    place: the folder of the evaluation.
    record: the report; its seeds are drawn, its metrics and rate are set.
    reporter: hears how far it is.
  """
  shards = results.folder_of_shards(checkpoint.experiment, checkpoint.params, request, place)
  count = len(request["index"])
  total, scores, drawing, first = count * len(record["seeds"]), [], [], {}
  for k, seed in enumerate(record["seeds"]):
    show = lambda done, k=k: reporter.progress(k * count + done, total, {})
    features, first, fresh, seconds = _features(checkpoint, metrics, seed, request, shards, show, reporter)
    drawing.append((fresh, seconds))
    scores.append({name: metric.score(features[name]) for name, metric in metrics.items()})
  record["images_per_second"] = _rate(drawing)
  record["metrics"] = {
    name: report.summary(metric, [seed[name] for seed in scores], count) for name, metric in metrics.items()
  }
  if checkpoint.run.writes:
    results.bound(place, shards)
  return first


def of_data(run: Run, metrics: Mapping[str, Metric]) -> dict[str, dict]:
  """The metrics of real examples, for tasks without samples, whose metrics judge the trained network itself."""
  settings, source = run.config.eval, Unopened(run, run.config.eval.split)
  count, parts = settings.count or len(source), {name: [] for name in metrics}
  for start in range(0, count, settings.shard):
    data = source.read(np.arange(start, min(start + settings.shard, count)) % len(source))
    for name, metric in metrics.items():
      parts[name].append(metric.features(data, data))
  features = {
    name: {kind: np.concatenate([part[kind] for part in each]) for kind in each[0]}
    for name, each in parts.items()
  }
  return {
    name: report.summary(metric, [metric.score(features[name])], count) for name, metric in metrics.items()
  }


def _rate(drawing: list[tuple[int, float]]) -> float | None:
  """Samples drawn in a second, or None where all were there already."""
  fresh, seconds = map(sum, zip(*drawing, strict=True))
  return round(fresh / seconds, 2) if fresh else None


def _features(
  checkpoint: Loaded, metrics, seed: int, request: Samples, shards: Path, show, reporter
) -> tuple[dict[str, Samples], Samples, int, float]:
  """The features of one seed's samples, by metric: shards on disk are read, others are drawn and written.

  Returns:
    Those; the first shard; how many samples were drawn now; and the seconds that these took.
  """
  run, parts, first, fresh, seconds = checkpoint.run, {name: [] for name in metrics}, {}, 0, 0.0
  sampling = checkpoint.drawing(min(run.config.eval.shard, len(request["index"])))
  for start in range(0, len(request["index"]), run.config.eval.shard):
    rows = slice(start, start + run.config.eval.shard)
    piece = {name: values[rows] for name, values in request.items()}
    size, place = len(piece["index"]), shards / f"seed{seed}_{start:07d}.npz"
    part = cache.load_fields(place, size)
    if not run.parallel.agree(part is not None):
      begin = time.monotonic()
      part = sampling.draw(
        checkpoint.params, keys.seed(seed), piece, lambda count, start=start: show(start + count)
      )
      fresh, seconds = fresh + size, seconds + time.monotonic() - begin
      if run.writes:
        with reporter.may_fail("keeping samples"):
          cache.save_fields(place, part)
    else:
      show(start + size)
    first = part if start == 0 else first
    if run.writes:
      for name, metric in metrics.items():
        parts[name].append(_of_shard(metric, name, place, part, piece, size, reporter))
  features = {
    name: {kind: np.concatenate([part[kind] for part in each]) for kind in each[0]}
    for name, each in parts.items()
  }
  return features, first, fresh, seconds


def _of_shard(
  metric: Metric, name: str, place: Path, part: Samples, request: Samples, size: int, reporter
) -> Samples:
  """A shard's features for a metric, kept beside it."""
  file = place.with_suffix(f".{name}-{results.digest(metric.settings)}.npz")
  features = cache.load_fields(file, size)
  if features is None:
    missing = [field for field in metric.fields if field not in part]
    if missing:
      raise ConfigError(
        f"config.eval.metrics names {name!r}, which needs {missing[0]!r}; samples have {list(part)}."
      )
    features = metric.features(part, request)
    with reporter.may_fail("keeping features"):
      cache.save_fields(file, features)
  return features
