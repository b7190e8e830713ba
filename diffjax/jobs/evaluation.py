"""main.py's --mode=eval: samples from checkpoints, or images of any origin, judged by the config's metrics.

Samples are drawn with each of config.eval.seeds seeds, by default as many as the training split has images,
of the same classes; a value is the median over the seeds. Finished samples are kept beside the result in
shards, so that a killed evaluation goes on where it was, to the same numbers.

    <workdir>/eval/<step>/metrics.json   grid.png   samples-<hash>/       eval/curve.csv, curve_*.png
"""

import csv
import hashlib
import io
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from diffjax import keys
from diffjax.config import chosen
from diffjax.data import cache
from diffjax.data.folder import images_of
from diffjax.jobs import runs, workdir
from diffjax.jobs.runs import Run
from diffjax.jobs.sampling import GRID, Sampling, labels_of
from diffjax.likelihood import mean_and_error
from diffjax.machine import atomic, pictures, reporting
from diffjax.machine.state import fingerprint
from diffjax.metrics.metric import Metric
from diffjax.types import ConfigError, Params


def _metrics(run: Run) -> dict[str, Metric]:
  names = run.config.eval.metrics
  if not names and not run.config.eval.likelihood:
    raise ConfigError(
      "config.eval.metrics and config.eval.likelihood are empty; name one, such as --config.eval.metrics=inception."
    )
  makers = chosen(run.config, "eval", "metrics")
  return {
    name: make(run.train, run.test, run.parallel.local) for name, make in zip(names, makers, strict=True)
  }


def evaluate(config: ConfigDict, folder: Path) -> None:
  """Draws and judges samples of the checkpoints that config.eval.checkpoints names; several make a curve.

  Raises:
    ConfigError: see run.start, where nothing is trained yet, or a metric that does not fit the data.
  """
  run = runs.start(config, folder, "eval")
  together = min(run.config.eval.shard, run.config.eval.count or len(run.train))
  metrics, sampling, reports = None, Sampling(run.experiment, run.parallel, together), []
  with reporting.create(folder, run.writes, log_every=2**62) as reporter:
    for step, weights, params in run.trained(config.eval.checkpoints):
      metrics = metrics or (_metrics(run) if run.writes else {})
      reports.append(_judge(run, metrics, sampling, step, weights, params, reporter))
    if run.writes and len(reports) > 1:
      _curve(folder / "eval", reports)
      reporter.line(f"curves over {len(reports)} checkpoints: {folder / 'eval'}/curve.csv, curve_*.png")


def _judge(run, metrics, sampling, step, weights, params, reporter) -> dict:
  """Judges one checkpoint, writes its folder and returns the report."""
  settings, place = run.config.eval, run.folder / "eval" / str(step)
  index, labels = _asked(run)
  seeds = [run.config.sample.seed + k for k in range(settings.seeds)]
  shards = place / f"samples-{_digest(run.config, params)}"
  total, begun, found, drawing = len(index) * len(seeds), time.monotonic(), [], []
  for k, seed in enumerate(seeds):
    show = lambda count, k=k: reporter.progress(k * len(index) + count, total, {})
    images, drawn, spent = _samples(run, sampling, params, seed, index, labels, shards, show)
    drawing.append((drawn, spent))
    asked = labels if run.experiment.num_classes else None
    found.append({name: metric.score(images, asked) for name, metric in metrics.items()})
  likelihood = _likelihood(run, params, lambda done, of: reporter.progress(done, of, {}))
  seconds = time.monotonic() - begun
  report = {
    "step": step,
    "weights": weights,
    "samples": len(index),
    "seeds": seeds,
    "sample": workdir.about(run.config)["config"]["sample"],
    "evaluations": run.experiment.evaluations,
    "seconds": round(seconds, 1),
    "images_per_second": _rate(drawing),
    "metrics": {name: _summary(metric, [seed[name] for seed in found]) for name, metric in metrics.items()},
    "likelihood": likelihood,
  }
  head = (
    f"step {step}, {weights} weights, {len(index)} samples x {len(seeds)} seeds, "
    f"{report['sample']['sampler']}, {report['evaluations'] or 'adaptive'} evaluations, "
    f"guidance {report['sample']['guidance']:g}"
  )
  if run.writes:
    _write(place, report, images, head, reporter)
  return report


def _asked(run: Run) -> tuple[np.ndarray, np.ndarray]:
  """Numbers and classes of the samples."""
  count = run.config.eval.count
  index = np.arange(count or len(run.train))
  return index, labels_of(run.experiment, index) if count else run.train.read(index)["label"]


def _digest(config: ConfigDict, params: Params) -> str:
  """A hash of all that samples depend on."""
  settings = {
    name: value for name, value in workdir.about(config)["config"]["sample"].items() if name != "count"
  }
  sums = {name: int(value) for name, value in jax.device_get(fingerprint(params)).items()}
  text = json.dumps([settings, sums, config.eval.count, config.eval.shard], sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def _rate(drawing: list[tuple[int, float]]) -> float | None:
  """Samples drawn in a second, or None where all were there already."""
  drawn, spent = map(sum, zip(*drawing, strict=True))
  return round(drawn / spent, 2) if drawn else None


def _samples(run, sampling, params, seed, index, labels, shards: Path, show) -> tuple[np.ndarray, int, float]:
  """The samples of one seed, uint8 [N, H, W, C]: shards that are there are read, others drawn and kept.

  Returns:
    The samples; how many of them were drawn now; and the seconds that these took.
  """
  parts, drawn, spent = [], 0, 0.0
  for start in range(0, len(index), run.config.eval.shard):
    rows = index[start : start + run.config.eval.shard]
    place = shards / f"seed{seed}_{start:07d}.npy"
    part = cache.load(place, len(rows))
    if not run.parallel.agree(part is not None):
      done = lambda count, start=start: show(start + count)
      begun = time.monotonic()
      part = sampling.draw(params, keys.seed(seed), rows, labels[rows], done)
      drawn, spent = drawn + len(rows), spent + time.monotonic() - begun
      if run.writes:
        cache.save(place, part)
    else:
      show(start + len(rows))
    parts.append(part)
  images = np.concatenate(parts) if run.writes else np.zeros((0, *run.experiment.image_shape), np.uint8)
  return images, drawn, spent


def _likelihood(run: Run, params: Params, show: Callable[[int, int], None]) -> dict[str, dict]:
  """Bits/dim of held-out images by every likelihood that the config names, in batches of sample.batch_size."""
  settings, made = run.config.eval, run.experiment
  count, found = min(settings.likelihood_images, len(run.test)), {}
  size = run.parallel.padded(min(run.config.sample.batch_size, count))
  for name, measure in zip(settings.likelihood, chosen(run.config, "eval", "likelihood"), strict=True):

    def bits(params, batch, measure=measure):
      denoiser = made.sampling_denoiser(params, batch["label"], guided=False)
      sample_keys = keys.of_examples(keys.seed(0), batch["index"])
      result = measure(denoiser, made.schedule_of(params), batch["image"], sample_keys)
      return {"bits": result.total, "nfe": jnp.broadcast_to(result.nfe, result.total.shape)}

    compiled, parts = run.parallel.batched(bits), []
    for start in range(0, count, size):
      rows = np.minimum(np.arange(start, start + size), count - 1)
      data = run.test.read(rows) | {"index": rows.astype(np.int32)}
      parts.append(run.parallel.fetch(compiled(params, data)))
      show(min(start + size, count), count)
    values = {key: np.concatenate([part[key] for part in parts])[:count] for key in ("bits", "nfe")}
    mean, error = mean_and_error(values["bits"])
    found[name] = {
      "bits_per_dim": mean,
      "standard_error": error,
      "images": count,
      "clipped": run.config.sample.clip,
      "evaluations": float(values["nfe"].mean()),
      "of_images": values["bits"].tolist(),
    }
  return found


def score(config: ConfigDict, folder: Path, images: Path) -> None:
  """Judges the images of a folder against the config's data; writes <workdir>/eval/images-<folder>.

  Raises:
    ConfigError: see run.start; no images, images that are none, or of several sizes.
  """
  found, labels, classes = images_of(images)
  run = runs.start(config, folder, f"eval --images={images}")
  asked = labels if classes and classes == run.train.num_classes else None
  begun = time.monotonic()
  metrics = _metrics(run)
  values = {name: _summary(metric, [metric.score(found, asked)]) for name, metric in metrics.items()}
  seconds = time.monotonic() - begun
  report = {
    "images": str(images),
    "samples": len(found),
    "seconds": round(seconds, 1),
    "images_per_second": round(len(found) / seconds, 2),
    "metrics": values,
  }
  with reporting.create(folder, run.writes) as reporter:
    if run.writes:
      place = folder / "eval" / f"images-{images.resolve().name}"
      _write(place, report, found, f"{len(found)} images of {images}", reporter)


def _summary(metric: Metric, seeds: list[Mapping[str, float]]) -> dict:
  values = {
    name: {
      "value": float(np.median([seed[name] for seed in seeds])),
      "of_seeds": [seed[name] for seed in seeds],
      "floor": metric.floor.get(name),
    }
    for name in seeds[0]
  }
  return {"settings": metric.settings, "values": values}


def _values(report: dict) -> dict[str, dict]:
  """The values of a report by full name, "classifier frechet"."""
  return {
    f"{metric} {name}": numbers
    for metric, summary in report["metrics"].items()
    for name, numbers in summary["values"].items()
  }


def _write(place: Path, report: dict, images: np.ndarray, head: str, reporter: reporting.Reporter) -> None:
  with atomic.writing(place / "metrics.json") as file:
    file.write(json.dumps(report, indent=2).encode() + b"\n")
  pictures.save_png(place / "grid.png", pictures.grid(images[:GRID]))
  rows = []
  for name, numbers in _values(report).items():
    spread = f"{min(numbers['of_seeds']):.4g} to {max(numbers['of_seeds']):.4g}"
    floor = "" if numbers["floor"] is None else f"{numbers['floor']:.4g}"
    rows.append((name, numbers["value"], spread, floor))
  if rows:
    reporter.line(f"{head}\n{reporting.table(rows, ('metric', 'median', 'over the seeds', 'real data'))}")
  for name, found in report.get("likelihood", {}).items():
    reporter.line(
      f"{name}: {found['bits_per_dim']:.4f} +- {found['standard_error']:.4f} bits/dim on {found['images']} held-out "
      f"images, {found['evaluations']:.0f} evaluations each"
    )
  reporter.line(f"written: {place / 'metrics.json'}, {place / 'grid.png'}")


def _curve(place: Path, reports: list[dict]) -> None:
  """Every value over the checkpoints, as CSV and a picture each."""
  steps, names = [report["step"] for report in reports], list(_values(reports[0]))
  lines = {name: [_values(report)[name]["value"] for report in reports] for name in names}
  text = io.StringIO()
  writer = csv.writer(text)
  writer.writerow(["step", *names])
  writer.writerows(zip(steps, *lines.values(), strict=True))
  with atomic.writing(place / "curve.csv") as file:
    file.write(text.getvalue().encode())
  for name, y in lines.items():
    pictures.curve(place / f"curve_{name.replace(' ', '_')}.png", steps, {name: y}, "step", name)
