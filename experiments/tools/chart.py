"""The picture of a sweep: a panel a metric, the swept value to the right, a line for every other choice."""

import numbers
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffjax.jobs.report import title
from diffjax.machine import atomic
from experiments.tools.sweeps import Sweep

LETTER = 0.025  # width of a letter of a tick's label, of a panel's
ABOVE = 3  # labels beside each other in a legend
LOG = 15  # a logarithmic axis where the largest value is so many times the smallest


def lines(sweep: Sweep, rows: Sequence[Any], metric: str) -> dict[str, list[tuple[Any, tuple[float, ...]]]]:
  """A label -> the points (x, (median, lowest, highest)) of the finished rows."""
  axis = axis_of(sweep, rows)
  curves: dict[str, list] = {}
  for row in rows:
    if row.finished and metric in row.scores:
      label = ", ".join(str(value) for path, value in row.overrides.items() if path != axis)
      curves.setdefault(label, []).append((row.overrides.get(axis, row.run), row.scores[metric]))
  return curves


def pairs(sweep: Sweep, rows: Sequence[Any]) -> dict[str, list[tuple[Any, float, float]]]:
  """A label -> (x of `lines`, medians of the two scores of the sweep's plane) of the finished rows, by x."""
  first, second = (lines(sweep, rows, score) for score in sweep.plane)
  curves = {}
  for label in first.keys() & second.keys():
    other = {x: score[0] for x, score in second[label]}
    there = [(x, score[0], other[x]) for x, score in first[label] if x in other]
    curves[label] = sorted(there, key=lambda point: (str(type(point[0])), point[0]))
  return dict(sorted(curves.items()))


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
  plane = sweep.plane if set(sweep.plane) <= set(every) else ()
  panels = len(metrics) + bool(plane)
  figure = Figure(figsize=(4.5 * panels, 3.8), layout="constrained")
  FigureCanvasAgg(figure)
  every_axes = figure.subplots(1, panels, squeeze=False)[0]
  if plane:
    _plane(every_axes[-1], pairs(sweep, rows), plane)
  for axes, metric in zip(every_axes[: len(metrics)], metrics, strict=True):
    axis = axis_of(sweep, rows)
    _panel(axes, lines(sweep, rows, metric), axis, ", ".join(p for p in sweep.paths if p != axis))
    settings = next(row.settings for row in rows if row.finished and metric in row.scores)
    if f"{metric} of real data" in settings:
      axes.axhline(settings[f"{metric} of real data"], color="gray", linestyle="--", label="real data")
    better = settings.get(f"{metric} is better")
    axes.set_ylabel(f"{title(metric)} ({better} is better)" if better else title(metric))
    if axes.get_legend_handles_labels()[0]:
      place = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "ncols": ABOVE}  # off the lines
      axes.legend(title=axes.get_label(), fontsize="small", title_fontsize="small", **place)
  if unfinished := sum(not row.finished for row in rows):
    figure.suptitle(f"{unfinished} of {len(rows)} runs unfinished and left out", fontsize="small")
  with atomic.writing(path) as file:
    figure.savefig(file, format="png", dpi=150)
  return True


def _plane(axes: Any, curves: Mapping[str, list], scores: tuple[str, str]) -> None:
  """One score against the other, every point named by the swept value."""
  for label, points in curves.items():
    _, first, second = zip(*points, strict=True)
    axes.plot(first, second, "o-", label=label or None)
    for value, x, y in points:
      axes.annotate(f" {value:g}" if isinstance(value, float) else f" {value}", (x, y), fontsize="small")
  axes.set(xlabel=title(scores[0]), ylabel=title(scores[1]))
  axes.grid(alpha=0.3)
  if axes.get_legend_handles_labels()[0]:
    axes.legend(fontsize="small")


def _panel(axes: Any, curves: Mapping[str, list], axis: str, legend: str) -> None:
  """Median, lowest and highest of every value; joined where the values are numbers, beside each other where names."""
  x = list(dict.fromkeys(value for points in curves.values() for value, _ in points))
  numeric = all(isinstance(value, numbers.Real) and not isinstance(value, bool) for value in x)
  place = {value: value if numeric else k for k, value in enumerate(x)}
  for label, points in curves.items():
    points = sorted(points, key=lambda point: place[point[0]])
    middle = [score[0] for _, score in points]
    below = [score[0] - score[1] for _, score in points]
    above = [score[2] - score[0] for _, score in points]
    at = [place[value] for value, _ in points]
    axes.errorbar(at, middle, (below, above), fmt="o-" if numeric else "o", label=label or None, capsize=3)
  if numeric and min(x) > 0 and max(x) >= LOG * min(x):
    axes.set_xscale("log")
  if not numeric or len(x) <= 8:
    axes.set_xticks(list(place.values()), _apart(axes, x) if numeric else [str(value) for value in x])
    axes.minorticks_off()
  low, high = (end(score[0] for points in curves.values() for _, score in points) for end in (min, max))
  if low > 0 and high >= LOG * low:
    axes.set_yscale("log")
  axes.set(xlabel=axis, label=legend)
  axes.grid(alpha=0.3)


def _apart(axes: Any, x: Sequence[float]) -> list[str]:
  """The values of an axis as text, "" for one that would lie on the one before it that is written."""
  axes.set_xlim(axes.get_xlim())
  at = axes.transAxes.inverted().transform(axes.transData.transform([(value, 1) for value in sorted(x)]))[
    :, 0
  ]
  labels, end = {}, float("-inf")
  for value, middle in zip(sorted(x), at, strict=True):
    half = LETTER * (len(f"{value:g}") + 1) / 2
    labels[value] = f"{value:g}" if middle - half >= end else ""
    end = middle + half if labels[value] else end
  return [labels[value] for value in x]
