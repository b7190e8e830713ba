"""main.py's --mode=eval: samples from the newest checkpoint, judged by the metrics that the config lists.

As many samples as the training split has images, of the same classes, are drawn with each of
config.eval.seeds seeds; a value is the median over the seeds, beside the floor that real held-out images get.
"""

import json
import time
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from diffjax import atomic, keys, pictures, reporting, workdir
from diffjax import run as runs
from diffjax.config import chosen
from diffjax.sampling import GRID, Sampling


def evaluate(config: ConfigDict, folder: Path) -> None:
  """Writes <workdir>/eval/<step>/metrics.json and prints a table.

  Raises:
    ConfigError: see run.start, where nothing is trained yet, or a metric that does not fit the data.
  """
  run = runs.start(config, folder)
  step, weights, params = run.trained()
  metrics = {
    name: make(run.train, run.test)
    for name, make in zip(config.eval.metrics, chosen(config, "eval", "metrics"), strict=True)
  }
  sampling = Sampling(run.experiment, run.parallel)
  index = np.arange(len(run.train))
  labels = run.train.read(index)["label"]
  asked = labels if run.experiment.num_classes else None
  total = len(index) * config.eval.seeds
  begun, found = time.monotonic(), []
  with reporting.create(folder, run.writes, log_every=total) as reporter:
    for k in range(config.eval.seeds):
      show = lambda count, k=k: reporter.progress(k * len(index) + count, total, {})  # noqa: E731
      images = sampling.draw(params, keys.seed(config.sample.seed + k), index, labels, show)
      found.append({name: metric.score(images, asked) for name, metric in metrics.items()})
    seconds = time.monotonic() - begun
    if not run.writes:
      return
    report = {
      "step": step,
      "weights": weights,
      "samples": len(index),
      "seeds": [config.sample.seed + k for k in range(config.eval.seeds)],
      "sampler": workdir.about(config)["config"]["sample"],
      "evaluations": len(run.experiment.grid),
      "seconds": round(seconds, 1),
      "images_per_second": round(total / seconds, 1),
      "metrics": {name: _summary(metric, [seed[name] for seed in found]) for name, metric in metrics.items()},
    }
    place = folder / "eval" / str(step)
    with atomic.writing(place / "metrics.json") as file:
      file.write(json.dumps(report, indent=2).encode() + b"\n")
    pictures.save_png(place / "grid.png", pictures.grid(images[:GRID]))
    reporter.line(_table(report))
    reporter.line(f"written: {place / 'metrics.json'}, {place / 'grid.png'}")


def _summary(metric, seeds: list[dict[str, float]]) -> dict:
  values = {
    name: {
      "value": float(np.median([seed[name] for seed in seeds])),
      "of_seeds": [seed[name] for seed in seeds],
      "floor": metric.floor.get(name),
    }
    for name in seeds[0]
  }
  return {"settings": metric.settings, "values": values}


def _table(report: dict) -> str:
  rows = []
  for name, summary in report["metrics"].items():
    for value, numbers in summary["values"].items():
      spread = f"{min(numbers['of_seeds']):.4g} to {max(numbers['of_seeds']):.4g}"
      floor = "" if numbers["floor"] is None else f"{numbers['floor']:.4g}"
      rows.append((f"{name} {value}", numbers["value"], spread, floor))
  head = (
    f"step {report['step']}, {report['weights']} weights, {report['samples']} samples x "
    f"{len(report['seeds'])} seeds, {report['sampler']['sampler']}, {report['evaluations']} evaluations, "
    f"guidance {report['sampler']['guidance']:g}"
  )
  return f"{head}\n{reporting.table(rows, ('metric', 'median', 'over the seeds', 'real data'))}"
