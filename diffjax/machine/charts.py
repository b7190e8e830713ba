"""Line charts as PNG files, and the chart of what a run has logged.

matplotlib takes half a second to import, so nothing here does before a chart is drawn.
"""

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffjax.machine import atomic

SPAN = 15  # an axis is logarithmic where its largest value is so many times its smallest
WIDTH, HEIGHT, DPI = 4.8, 3.6, 150  # of a panel in inches
SMOOTHED = 200  # points of a logged line; of longer ones as many means are drawn


@dataclasses.dataclass(frozen=True)
class Line:
  """A line of a panel.

  Attributes:
    x: where its points are.
    y: their values.
    low: the lower end of a band about it, over seeds say.
    high: the upper end.
  """

  x: Sequence[float]
  y: Sequence[float]
  low: Sequence[float] | None = None
  high: Sequence[float] | None = None


@dataclasses.dataclass(frozen=True)
class Panel:
  """One pair of axes.

  Attributes:
    lines: by what they are called.
    xlabel: what is to the right.
    ylabel: what is upwards; with which way is better, where one is.
    levels: values to compare with, by what they are called: dashed lines from side to side.
    title: above it.
  """

  lines: Mapping[str, Line]
  xlabel: str
  ylabel: str
  levels: Mapping[str, float] = dataclasses.field(default_factory=dict)
  title: str = ""


def draw(path: str | os.PathLike, *panels: Panel) -> None:
  """Writes panels beside each other; a reader sees the whole file or none."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(figsize=(WIDTH * len(panels), HEIGHT), layout="constrained")
  FigureCanvasAgg(figure)
  for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
    _panel(axes, panel)
  with atomic.writing(path) as file:
    figure.savefig(file, format="png", dpi=DPI)


def _panel(axes: Any, panel: Panel) -> None:
  for name, line in panel.lines.items():
    (curve,) = axes.plot(line.x, line.y, label=name, marker="o" if len(line.x) <= 30 else "", markersize=4)
    if line.low is not None and line.high is not None:
      axes.fill_between(line.x, line.low, line.high, color=curve.get_color(), alpha=0.2, linewidth=0)
  for name, level in panel.levels.items():
    axes.axhline(level, color="gray", linestyle="--", label=name)
  values = [v for line in panel.lines.values() for v in (*line.y, *(line.low or ()), *(line.high or ()))]
  if spread_out([*values, *panel.levels.values()]):
    axes.set_yscale("log")
  if panel.xlabel == "step":
    axes.locator_params(axis="x", integer=True)
  axes.set(xlabel=panel.xlabel, ylabel=panel.ylabel, title=panel.title)
  axes.grid(alpha=0.3)
  if len(panel.lines) + len(panel.levels) > 1:
    axes.legend(fontsize="small")


def spread_out(values: Sequence[float]) -> bool:
  """Whether positive values are seen better on a logarithmic axis."""
  finite = [value for value in values if math.isfinite(value)]
  return bool(finite) and min(finite) > 0 and max(finite) >= SPAN * min(finite)


def logged(path: str | os.PathLike, metrics: Path) -> bool:
  """Draws the loss and the held-out numbers of a metrics.jsonl over the steps; False where there are none.

  Held-out numbers of one name, "loss" say, make a panel: a line for each set of weights, the mean over the cases.
  """
  lines: dict[str, dict[str, dict[int, list[float]]]] = {}
  for text in metrics.read_text(encoding="utf-8").splitlines():
    row = json.loads(text)
    for name, value in row.items():
      kind, _, rest = name.partition("/")
      if name == "loss":
        place = ("loss", "training")
      elif kind == "held_out":
        weights, *case = rest.split("/")
        quantity = case[-1] if case and not case[-1].startswith("logsnr") else "loss"
        place = (f"held-out {quantity}", weights)
      else:
        continue
      panel, label = place
      lines.setdefault(panel, {}).setdefault(label, {}).setdefault(row["step"], []).append(float(value))
  panels = [
    Panel({label: _means(points) for label, points in each.items()}, "step", _better(panel), title=panel)
    for panel, each in lines.items()
  ]
  if panels:
    draw(path, *panels)
  return bool(panels)


def _better(panel: str) -> str:
  return f"{panel} (lower is better)" if panel.endswith("loss") else panel


def _means(points: Mapping[int, list[float]]) -> Line:
  """Means of what was logged at a step, and over neighbouring steps where there are many."""
  steps = sorted(points)
  each = -(-len(steps) // SMOOTHED)
  groups = [steps[k : k + each] for k in range(0, len(steps), each)]
  mean = lambda values: sum(values) / len(values)
  return Line([mean(g) for g in groups], [mean([v for step in g for v in points[step]]) for g in groups])
