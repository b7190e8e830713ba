"""What an evaluation writes: metrics.json, a grid, a table on the terminal, and curves over checkpoints."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from diffjax.machine import atomic, pictures, reporting
from diffjax.metrics.metric import Metric
from diffjax.metrics.probe import Probed


def summary(metric: Metric, seeds: list[Mapping[str, float]]) -> dict:
  values = {
    name: {
      "value": float(np.median([seed[name] for seed in seeds])),
      "of_seeds": [seed[name] for seed in seeds],
      "floor": metric.floor.get(name),
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


def save(place: Path, report: dict, grid: np.ndarray | None = None, name: str = "") -> None:
  """Writes a report and, where there are any, its first pictures side by side.

  Args:
    place: the folder, in which metrics.json and grid.png are the last ones.
    report: plain data.
    grid: uint8 [H, W, C].
    name: of what the report was made by, under which it stays when others follow.
  """
  for ending in ("", f"-{name}") if name else ("",):
    if grid is not None:
      pictures.save_png(place / f"grid{ending}.png", grid)
    atomic.write_json(place / f"metrics{ending}.json", report)


def scores(report: dict) -> dict[str, float]:
  """The numbers of a report as metrics, "eval/classifier/frechet"."""
  found = {
    f"eval/{name.replace(' ', '/', 1)}": numbers["value"] for name, numbers in values_of(report).items()
  }
  bits = {f"eval/{name}/bits_per_dim": each["bits_per_dim"] for name, each in report["likelihood"].items()}
  return found | bits


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


def probed(name: str, found: Probed) -> str:
  """What a probe found as text."""
  return f"{name}: {', '.join(f'{value} {number:.4g}' for value, number in found.values.items())}"


def curve(place: Path, reports: list[dict]) -> None:
  """Every value over the checkpoints, as CSV and a picture each."""
  steps, names = [report["step"] for report in reports], list(values_of(reports[0]))
  lines = {name: [values_of(report)[name]["value"] for report in reports] for name in names}
  text = io.StringIO()
  writer = csv.writer(text)
  writer.writerow(["step", *names])
  writer.writerows(zip(steps, *lines.values(), strict=True))
  with atomic.writing(place / "curve.csv") as file:
    file.write(text.getvalue().encode())
  for name, y in lines.items():
    pictures.curve(place / f"curve_{name.replace(' ', '_')}.png", steps, {name: y}, "step", name)
