"""The page of a recipe: FID against images seen, as a table, a CSV and a picture."""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffjax.machine import atomic
from experiments.tools import progress
from experiments.tools.jobs import Job

FID = re.compile(r"s?fid(_\d+k?)?")  # not its interval
Published = Mapping[str, Sequence[tuple[float, float]]]
COLUMNS = (
  "sampling",
  "step",
  "images seen",
  "samples",
  "score",
  "value",
  "evaluations",
  "weights",
  "samples/s",
)


def points(ways: Sequence[Job]) -> list[dict[str, Any]]:
  """Every score of every judged checkpoint, by COLUMNS; the value is the median over the sampling seeds."""
  rows = []
  for job in ways:
    places = [p for p in Path(job.folder).glob("eval/*/metrics.json") if p.parent.name.isdigit()]
    for place in sorted(places, key=lambda p: int(p.parent.name)):
      report = json.loads(place.read_text())
      values = report["metrics"].get("inception", {"values": {}})["values"]
      for score, numbers in values.items():
        rows.append(
          {
            "sampling": job.name,
            "step": report["step"],
            "images seen": report["step"] * job.config.train.batch_size,
            "samples": report["samples"],
            "score": score,
            "value": numbers["value"],
            "evaluations": report["evaluations"],
            "weights": report["weights"],
            "samples/s": report["images_per_second"],
          }
        )
  return rows


def write(folder: Path, trained: Job, ways: Sequence[Job], published: Published) -> str:
  """Writes table.md, curve.csv and, where anything is judged, curve.png; returns the table."""
  rows = points(ways)
  text = io.StringIO()
  writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
  writer.writeheader()
  writer.writerows(rows)
  page = _page(trained, ways, rows, published)
  for name, content in (("curve.csv", text.getvalue()), ("table.md", page)):
    with atomic.writing(folder / name) as file:
      file.write(content.encode())
  if lines := fids(rows):
    draw(folder / "curve.png", lines, published)
  return f"{page}\nwritten: {folder}/table.md, curve.csv{', curve.png' * bool(lines)}"


def fids(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
  """The label of a curve -> its points (images seen, FID)."""
  curves: dict[str, list] = {}
  for row in rows:
    if FID.fullmatch(row["score"]):
      label = f"{row['sampling']}, {row['score']}"
      curves.setdefault(label, []).append((row["images seen"], row["value"]))
  return curves


def _page(trained: Job, ways: Sequence[Job], points: Sequence[Mapping], published: Published) -> str:
  """Markdown: how far the training is, a row a judged checkpoint, what it was judged by, what others got."""
  parts = [_training(trained)]
  if points:
    scores = list(dict.fromkeys(row["score"] for row in points))
    header = ["sampling", "step", "images seen", *scores, "samples", "evaluations", "weights", "samples/s"]
    rows = {}
    for row in points:
      rows.setdefault((row["sampling"], row["step"]), {}).update({**row, row["score"]: row["value"]})
    parts.append(_table(header, [[row.get(name) for name in header] for row in rows.values()]))
    folders = {job.name: job.folder for job in ways}
    grids = ", ".join(f"`{folders[name]}/eval/{step}/grid.png`" for name, step in rows)
    parts += [_settings(ways), f"Samples: {grids}."]
  others = [[name, images, fid] for name, line in published.items() for images, fid in line]
  parts.append(_table(["published", "images seen", "FID"], others))
  return "\n\n".join(parts) + "\n"


def _training(trained: Job) -> str:
  """The run's headline and how far it is, from its log."""
  folder, batch = Path(trained.folder), trained.config.train.batch_size
  log = (folder / "log.txt").read_text(encoding="utf-8") if (folder / "log.txt").exists() else ""
  about = re.findall(r"(?:training|going on from step \d+): (.*), workdir", log)
  now = progress.read(folder)
  step, of = (int(n) for n in now.step.split("/")) if now.step else (0, trained.config.train.steps)
  sentence = f"Step {step:,} of {of:,}, batch {batch}: {step * batch:,} images seen"
  rate = f"; {now.rate} images/s at last" if now.rate else ""
  return f"{sentence}{rate}. {about[-1] if about else ''}".strip()


def _settings(ways: Sequence[Job]) -> str:
  """What the scores were judged by, where all agree, else of each way of sampling."""
  groups = {}
  for job in ways:
    for place in sorted(Path(job.folder).glob("eval/*/metrics.json")):
      report = json.loads(place.read_text())
      judged = report["metrics"].get("inception", {}).get("settings", {})
      reference = judged.get("reference", {}).get("pool3", {})
      size = f" of {reference['count']} images" if reference.get("count") else ""
      groups[
        f"resize {judged.get('resize')}, Inception weights {judged.get('weights')}, reference "
        f"{reference.get('hash')}{size}, sampling seeds {report['seeds']}"
      ] = None
  return "Judged with " + "; or ".join(groups) + "."


def _table(header: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
  def text(cell):
    if isinstance(cell, int | float):
      return f"{cell:,.0f}" if cell >= 1e4 else f"{cell:.4g}"
    return "" if cell is None else str(cell)

  cells = [[text(cell) for cell in line] for line in lines]
  return "\n".join(f"| {' | '.join(line)} |" for line in [list(header), ["---"] * len(header), *cells])


def draw(path: Path, curves: Mapping[str, Sequence[tuple[float, float]]], published: Published) -> None:
  """The curves, and what others got as open circles, both axes logarithmic."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(figsize=(6, 4), layout="constrained")
  FigureCanvasAgg(figure)
  axes = figure.subplots()
  for label, line in curves.items():
    axes.plot(*zip(*line, strict=True), label=label, marker="o")
  for label, line in published.items():
    axes.plot(*zip(*line, strict=True), label=label, marker="o", fillstyle="none", linestyle=":")
  axes.set(xlabel="images seen", ylabel="FID (lower is better)", xscale="log", yscale="log")
  axes.grid(alpha=0.3, which="both")
  axes.legend(fontsize="small")
  with atomic.writing(path) as file:
    figure.savefig(file, format="png", dpi=150)
