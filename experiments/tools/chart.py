"""The picture of a sweep: a panel a metric, the swept value to the right, a line for every other choice."""

import numbers
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffjax.jobs.report import title
from diffjax.machine import atomic
from experiments.tools.sweeps import Sweep

LOG = 15  # a logarithmic axis where the largest value is so many times the smallest


def lines(sweep: Sweep, rows: Sequence[Any], metric: str) -> dict[str, list[tuple[Any, tuple[float, ...]]]]:
  """A label -> the points (x, (median, lowest, highest)) of the finished rows."""
  axis = axis_of(sweep, rows)
  found: dict[str, list] = {}
  for row in rows:
    if row.finished and metric in row.scores:
      label = ", ".join(str(value) for path, value in row.overrides.items() if path != axis)
      found.setdefault(label, []).append((row.overrides.get(axis, row.run), row.scores[metric]))
  return found


def axis_of(sweep: Sweep, rows: Sequence[Any]) -> str:
  """The path to the right: the sweep's, or the one with the most values."""
  values = {path: {str(row.overrides[path]) for row in rows} for path in sweep.paths}
  return sweep.x or max(values, key=lambda path: len(values[path]), default="")


def draw(path: Path, sweep: Sweep, rows: Sequence[Any]) -> bool:
  """Writes the picture as PNG; False where no run is finished."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  every = dict.fromkeys(name for row in rows if row.finished for name in row.scores)
  metrics = [name for name in sweep.metrics or every if name in every]
  if not metrics:
    return False
  figure = Figure(figsize=(4.5 * len(metrics), 3.8), layout="constrained")
  FigureCanvasAgg(figure)
  for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
    axis = axis_of(sweep, rows)
    _panel(axes, lines(sweep, rows, metric), axis, ", ".join(p for p in sweep.paths if p != axis))
    said = next(row.settings for row in rows if row.finished and metric in row.scores)
    if f"{metric} of real data" in said:
      axes.axhline(said[f"{metric} of real data"], color="gray", linestyle="--", label="real data")
    better = said.get(f"{metric} is better")
    axes.set_ylabel(f"{title(metric)} ({better} is better)" if better else title(metric))
    if axes.get_legend_handles_labels()[0]:
      axes.legend(title=axes.get_label(), fontsize="small", title_fontsize="small")
  if unfinished := sum(not row.finished for row in rows):
    figure.suptitle(f"{unfinished} of {len(rows)} runs unfinished and left out", fontsize="small")
  with atomic.writing(path) as file:
    figure.savefig(file, format="png", dpi=150)
  return True


def _panel(axes: Any, found: Mapping[str, list], axis: str, legend: str) -> None:
  """Median, lowest and highest of every value; joined where the values are numbers, beside each other where names."""
  x = list(dict.fromkeys(value for points in found.values() for value, _ in points))
  numeric = all(isinstance(value, numbers.Real) and not isinstance(value, bool) for value in x)
  place = {value: value if numeric else k for k, value in enumerate(x)}
  for label, points in found.items():
    points = sorted(points, key=lambda point: place[point[0]])
    middle = [score[0] for _, score in points]
    below = [score[0] - score[1] for _, score in points]
    above = [score[2] - score[0] for _, score in points]
    at = [place[value] for value, _ in points]
    axes.errorbar(at, middle, (below, above), fmt="o-" if numeric else "o", label=label or None, capsize=3)
  if numeric and min(x) > 0 and max(x) >= LOG * min(x):
    axes.set_xscale("log")
  if not numeric or len(x) <= 8:
    axes.set_xticks(list(place.values()), [f"{value:g}" if numeric else str(value) for value in x])
    axes.minorticks_off()
  low, high = (end(score[0] for points in found.values() for _, score in points) for end in (min, max))
  if low > 0 and high >= LOG * low:
    axes.set_yscale("log")
  axes.set(xlabel=axis, label=legend)
  axes.grid(alpha=0.3)
