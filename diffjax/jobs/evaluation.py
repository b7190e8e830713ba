"""main.py's --mode=eval: samples from checkpoints, or images of any origin, judged by the config's metrics.

Samples are drawn with each of config.eval.seeds seeds, by default as many as the training split has examples,
asking for the same as these; a value is the median over the seeds. Finished samples and their features are kept
beside the result in shards, so that a killed evaluation goes on where it was, to the same numbers, and what is done
is written before the next is begun.

    <workdir>/eval/<step>/metrics.json   grid.png   nearest.png   samples-<hash>/     eval/curve.csv, curve_*.png

metrics.json is the last evaluation of a step; each stays as metrics-<hash>.json, by all that decides its numbers, and
so do the samples of the last few (results.KEPT).
"""

import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from diffjax import keys
from diffjax.data.folder import images_of
from diffjax.data.source import Field, fingerprint
from diffjax.experiment import makers
from diffjax.jobs import album, report, results, runs, scoring, trained
from diffjax.jobs.drawing import Samples, image_of
from diffjax.jobs.runs import Run
from diffjax.jobs.sampling import Loaded, Unopened, loaded
from diffjax.likelihood import mean_and_error
from diffjax.machine import disk, reporting
from diffjax.machine.byproducts import to_stderr
from diffjax.metrics import METRICS
from diffjax.metrics.metric import Metric, fewest
from diffjax.types import ConfigError, Params, Trained


def _metrics(run: Run, reporter: reporting.Reporter, own: Trained | None = None) -> dict[str, Metric]:
  """The config's metrics; one that needs a run, and names none, takes `own`, the run that is evaluated."""
  find = functools.partial(trained.trained, devices=run.parallel)
  entries = makers(run.config, "eval", "metrics", find, own)
  if entries:
    reporter.line(f"preparing {', '.join(entries)}: what real data give")
  metrics = {name: make(run.data, run.test, run.parallel.local) for name, make in entries.items()}
  for name, metric in metrics.items():
    if metric.stranger and metric.stranger in run.experiment.uses.values():
      raise ConfigError(
        f"config.eval.{name}.run is a run that these samples were made with, and would praise itself; name another."
      )
  return metrics


def _require_something(run: Run, model: bool) -> None:
  if run.config.eval.metrics or (model and (run.config.eval.probes or run.experiment.task.likelihoods)):
    return
  also = ", config.eval.probes, config.eval.likelihood and config.eval.bound" if model else ""
  raise ConfigError(
    f"config.eval.metrics{also} {'are' if also else 'is'} empty; name one, such as --config.eval.metrics=inception."
  )


def _require_enough(run: Run, count: int, what: str) -> None:
  """Raises ConfigError, which begins with `what`, where a metric of the config needs more samples."""
  for name in run.config.eval.metrics:
    least = fewest(METRICS[name], run.config.eval.get(name, {}))
    if count < least:
      raise ConfigError(
        f"{what}, but config.eval.metrics names {name!r}, which needs at least {least} samples."
      )


def evaluate(config: ConfigDict, folder: Path, out: Path | None = None) -> None:
  """Draws and judges samples of the checkpoints that config.eval.checkpoints names; several make a curve.

  Args:
    config: the config.
    folder: the workdir.
    out: where the results go; by default <workdir>/eval.

  Raises:
    ConfigError: see runs.start, where nothing is trained yet, or a metric that does not fit the data.
  """
  run = runs.start(config, folder, "eval")
  _require_something(run, model=True)
  if count := run.config.eval.count:
    _require_enough(run, count, f"config.eval.count is {count}")
  metrics, reports, place = None, [], out or folder / "eval"
  disk.require_folder(place, f"--out={out}" if out else str(place), run.writes)
  tracker = {"wandb_project": config.log.wandb, "config": run.about}
  with reporting.create(folder, run.writes, log_every=2**62, **tracker) as reporter:
    run.warn(reporter)
    for checkpoint in loaded(run, config.eval.checkpoints, "config.eval.checkpoints"):
      if metrics is None or run.experiment.task.draw is None:
        own = Trained(
          str(folder),
          run.experiment.task.can,
          checkpoint.params,
          trained.fingerprint(run.experiment, checkpoint.params),
        )
        metrics = _metrics(run, reporter, own) if run.writes else {}
      checkpoint.warn_early(reporter)
      reports.append(_judge(checkpoint, metrics, place / str(checkpoint.step), reporter))
      reporter.metrics(checkpoint.step, report.scores(reports[-1]))
    if run.writes and len(reports) > 1:
      report.curve(place, reports)
      reporter.line(f"curves over {len(reports)} checkpoints: {place}/curve.csv, curve_*.png")


def _judge(checkpoint: Loaded, metrics: dict[str, Metric], place: Path, reporter: reporting.Reporter) -> dict:
  """Judges one checkpoint, writes its folder after every part, and returns the report."""
  run, settings = checkpoint.run, checkpoint.config.eval
  draws = bool(settings.metrics and run.experiment.task.draw)
  request = scoring.request_of(run) if draws else {}
  name = results.name_of_evaluation(run.experiment, checkpoint.params, request)
  seeds, start = [run.config.sample.seed + k for k in range(settings.seeds)], time.monotonic()
  record = {
    "step": checkpoint.step,
    "weights": checkpoint.weights,
    "initial_share": run.initial_share(checkpoint.weights, checkpoint.step),
    "samples": (settings.count or len(Unopened(run, settings.split))) if draws else 0,
    "seeds": seeds,
    "sample": run.experiment.plain["sample"],
    "condition": run.experiment.plain.get("condition", {}),
    "asked": "what the condition says"
    if settings.count
    else f"what the {settings.split} split holds, one by one",
    "evaluations": run.experiment.task.draw.evaluations if draws else None,
    "metrics": {},
    "probes": {},
    "likelihood": {},
  }
  head = f"step {checkpoint.step}, {checkpoint.weights} weights"
  if metrics and not draws:
    record["metrics"] = scoring.of_data(run, metrics)
    record["samples"] = settings.count or len(Unopened(run, settings.split))
    head = f"{head}, {record['samples']} examples of the {settings.split} split"
    reporter.line(report.table(record, head))
    report.save(place, record, name=name)
  if draws:
    first = scoring.score(checkpoint, metrics, request, place, record, reporter)
    record["seconds"] = round(time.monotonic() - start, 1)
    how = record["sample"]  # which names what the task takes
    sampler = f"{how['sampler']}, " if "sampler" in how else ""
    guides = f", guides {', '.join(how['guides']) or 'none'}" if "guides" in how else ""
    head = (
      f"{head}, {record['samples']} samples x {len(seeds)} seed{'s' * (len(seeds) > 1)}, {sampler}"
      f"{record['evaluations'] or 'adaptive'} evaluations{guides}"
    )
    if run.writes:
      reporter.line(report.table(record, head))
      report.save(place, record, _pictures(run, first, request, reporter), name)
  for kind, result in _probes(checkpoint):
    record["probes"][kind] = result._asdict()
    record["seconds"] = round(time.monotonic() - start, 1)
    if run.writes:
      reporter.line(report.probed(kind, result))
      report.save(place, record, name=name)
  if run.experiment.task.likelihoods:
    for kind, bits in _likelihoods(run, checkpoint.params, lambda done, of: reporter.progress(done, of, {})):
      record["likelihood"][kind] = bits
      record["seconds"] = round(time.monotonic() - start, 1)
      if run.writes:
        reporter.line(report.line(kind, bits))
        report.save(place, record, name=name)
  if run.writes:
    reporter.line(f"written: {place / 'metrics.json'}")
  return record


def _pictures(
  run: Run, first: Samples, request: Samples, reporter: reporting.Reporter
) -> dict[str, np.ndarray]:
  """The pictures of an evaluation, by name."""
  images, sheets = image_of(first), {}
  if images is None:
    return sheets
  sheets["grid"] = album.sheet(images, request, run.fields)
  with reporter.may_fail("the nearest training images", (ConfigError, OSError)):
    sheets["nearest"] = album.nearest(images, run.source)
  return {name: picture for name, picture in sheets.items() if picture is not None}


def _probes(checkpoint: Loaded):
  """(name, result) of every probe of the config."""
  run = checkpoint.run
  model = Trained(str(run.folder), run.experiment.task.can, checkpoint.params, "")
  for name, probe in makers(checkpoint.config, "eval", "probes").items():
    yield name, probe(model, run.data, run.test, run.parallel)


def _likelihoods(run: Run, params: Params, show: Callable[[int, int], Any]):
  """(name, bits/dim of held-out examples) of every likelihood of the config, in batches of sample.batch_size."""
  settings, task = run.config.eval, run.experiment.task
  runs.require_levels(run, run.test)
  count = min(settings.likelihood_images, len(run.test))
  size = run.parallel.padded(min(run.config.sample.batch_size, count))
  for name, measure in task.likelihoods.items():

    def bits(shared, batch, measure=measure):
      return measure(*shared, batch, keys.of_examples(keys.seed(0), batch["index"]))

    compiled, parts = run.parallel.batched(bits), []
    for start in range(0, count, size):
      rows = np.minimum(np.arange(start, start + size), count - 1)
      data = run.test.read(rows, task.fields) | {"index": rows.astype(np.int32)}
      parts.append(run.parallel.fetch(compiled((params, run.experiment.frozen), data)))
      show(min(start + size, count), count)
    values = {key: np.concatenate([part[key] for part in parts])[:count] for key in parts[0]}
    mean, error = mean_and_error(values["bits"])
    yield (
      name,
      {
        "bits_per_dim": mean,
        "standard_error": float(np.hypot(error, np.mean(values.get("tolerance", 0.0)))),
        "images": count,
        "clipped": "clip" in run.experiment.plain["sample"].get("guides", ()),
        "evaluations": float(values["nfe"].mean()),
        "of_images": values["bits"].tolist(),
        **({"nats": float(values["nats"].mean())} if "nats" in values else {}),
      },
    )


def _request_of(images: Path, label: Field | None, labels: np.ndarray, names: Sequence[str]) -> Samples:
  """The classes that the sub-folders of --images are called by, by name or number, if they are the data's."""
  if not label or not names:
    return {}
  try:
    numbers = [label.number(f"a sub-folder of --images={images}", name) for name in names]
  except ConfigError as error:
    to_stderr(f"{error} No image is taken to be of a class.")
    return {}
  return {"label": np.asarray(numbers, np.int32)[labels]}


def score(config: ConfigDict, folder: Path, images: Path) -> None:
  """Judges the images of a folder against the config's data; writes <workdir>/eval/images-<folder>.

  Raises:
    ConfigError: see runs.start; no images, or some that are none, of several sizes, or of one that a metric lacks.
  """
  run = runs.start(config, folder, f"eval --images={images}")
  shape = run.fields["image"].shape if "image" in run.fields else (None,)
  pixels, labels, names = images_of(images, shape[-1])
  others = pixels.shape[1:] != shape != (None,)
  exact = [name for name in run.config.eval.metrics if not hasattr(METRICS[name], "any_size")]
  if others and (exact or len(shape) != 3):
    raise ConfigError(
      f"--images={images} holds images of shape {list(pixels.shape[1:])}, and the data's are {list(shape)}, which "
      f"config.eval.metrics = {run.config.eval.metrics} needs; resize them to that."
    )
  _require_something(run, model=False)
  _require_enough(run, len(pixels), f"--images={images} holds {len(pixels)}")
  request = _request_of(images, run.fields.get("label"), labels, names)
  start = time.monotonic()
  with reporting.create(folder, run.writes) as reporter:
    metrics = _metrics(run, reporter)
  values = {
    name: report.summary(metric, [metric.judge({"image": pixels}, request)], len(pixels))
    for name, metric in metrics.items()
  }
  seconds = time.monotonic() - start
  record = {
    "images": str(images),
    "shape": list(pixels.shape[1:]),
    "shape_of_data": list(shape) if shape != (None,) else None,
    "samples": len(pixels),
    "seconds": round(seconds, 1),
    "images_per_second": round(len(pixels) / seconds, 2),
    "metrics": values,
  }
  with reporting.create(folder, run.writes) as reporter:
    if run.writes:
      place = folder / "eval" / f"images-{images.resolve().name}"
      name = results.digest(str(images.resolve()), fingerprint(pixels), run.experiment.plain["eval"])
      report.save(place, record, {"grid": album.sheet(pixels, {}, {})}, name)
      reporter.line(report.table(record, f"{len(pixels)} images of {images}"))
      if others:
        reporter.line(
          f"warning: the images of {images} are {record['shape']} and the data's {record['shape_of_data']}: a distance "
          "between them is of their sizes too."
        )
      reporter.line(f"written: {place / 'metrics.json'}")
