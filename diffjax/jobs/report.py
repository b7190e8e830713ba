"""What an evaluation writes: metrics.json, a grid, a table on the terminal, and curves over checkpoints."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from diffjax.machine import atomic, charts, pictures, reporting
from diffjax.metrics.metric import Metric
from diffjax.metrics.probe import Probed

REAL = "nearer real"  # is better


def summary(metric: Metric, seeds: list[Mapping[str, float]], count: int) -> dict:
  """What a report says of the values [seeds] of a metric of `count` samples."""
  floor = metric.floor | metric.floor_at(count)
  values = {
    name: {
      "value": float(np.median([seed[name] for seed in seeds])),
      "of_seeds": [seed[name] for seed in seeds],
      "floor": floor.get(name),
      "better": "higher" if name in metric.higher else REAL if name in metric.near else "lower",
    }
    for name in seeds[0]
  }
  return {"settings": metric.settings, "values": values}


def values_of(report: dict) -> dict[str, dict]:
  """The values of a report by full name, "classifier frechet"."""
  return {
    f"{metric} {name}": numbers
    for metric, summary in report["metrics"].items()
    for name, numbers in summary["values"].items()
  }


def title(name: str) -> str:
  """The name of a score as people write it; keys are ASCII."""
  return name.replace("frechet", "Fréchet")


def save(place: Path, report: dict, images: Mapping[str, np.ndarray] = {}, name: str = "") -> None:  # noqa: B006
  """Writes a report and its pictures.

  Args:
    place: the folder, in which metrics.json, grid.png and the like are the last ones.
    report: plain data.
    images: pictures by their name, uint8 [H, W, C].
    name: of what the report was made by, under which it stays when others follow.
  """
  for ending in ("", f"-{name}") if name else ("",):
    for kind, picture in images.items():
      pictures.save_png(place / f"{kind}{ending}.png", picture)
    atomic.write_json(place / f"metrics{ending}.json", report)


def scores(report: dict) -> dict[str, float]:
  """The numbers of a report as metrics, "eval/classifier/frechet"."""
  metrics = {
    f"eval/{name.replace(' ', '/', 1)}": numbers["value"] for name, numbers in values_of(report).items()
  }
  bits = {f"eval/{name}/bits_per_dim": each["bits_per_dim"] for name, each in report["likelihood"].items()}
  probes = {
    f"eval/{probe}/{name}": value
    for probe, each in report["probes"].items()
    for name, value in each["values"].items()
  }
  return metrics | bits | probes


def table(report: dict, head: str) -> str:
  """The values of a report as text."""
  rows = []
  for name, numbers in values_of(report).items():
    spread = f"{min(numbers['of_seeds']):.4g} to {max(numbers['of_seeds']):.4g}"
    floor = "" if numbers["floor"] is None else f"{numbers['floor']:.4g}"
    rows.append((name, numbers["value"], spread, floor))
  return f"{head}\n{reporting.table(rows, ('metric', 'median', 'over the seeds', 'real data'))}"


def line(name: str, likelihood: dict) -> str:
  """A likelihood as text."""
  nats = f" ({likelihood['nats']:.2f} nats each)" if "nats" in likelihood else ""
  return (
    f"{name}: {likelihood['bits_per_dim']:.4f} +- {likelihood['standard_error']:.4f} bits/dim on "
    f"{likelihood['images']} held-out images{nats}, {likelihood['evaluations']:.0f} evaluations each"
  )


def probed(name: str, probe: Probed) -> str:
  """What a probe found as text."""
  return f"{name}: {', '.join(f'{value} {number:.4g}' for value, number in probe.values.items())}"


def curve(place: Path, reports: list[dict]) -> None:
  """Every value over the checkpoints, as CSV and a picture each."""
  steps, names = [report["step"] for report in reports], list(values_of(reports[0]))
  columns = {name: [values_of(report)[name] for report in reports] for name in names}
  text = io.StringIO()
  writer = csv.writer(text)
  writer.writerow(["step", *names])
  writer.writerows(zip(steps, *([each["value"] for each in of] for of in columns.values()), strict=True))
  with atomic.writing(place / "curve.csv") as file:
    file.write(text.getvalue().encode())
  for name, of in columns.items():
    low, high = ([end(each["of_seeds"]) for each in of] for end in (min, max))
    line, floor = charts.Line(steps, [each["value"] for each in of], low, high), of[-1]["floor"]
    levels = {} if floor is None else {"real data": floor}
    panel = charts.Panel({name: line}, "step", f"{title(name)} ({of[-1]['better']} is better)", levels)
    charts.draw(place / f"curve_{name.replace(' ', '_')}.png", panel)
