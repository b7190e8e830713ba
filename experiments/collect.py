"""Gathers a sweep's numbers into results.csv, table.md and curve.png beside the sweep.

    python -m experiments.collect objectives [--workdir=runs/sweeps] [--out=FOLDER]

Of every run: its overrides, the metrics of its last evaluation, its last loss and its held-out losses. A run
that is not finished is marked with the step that it has reached, and the picture leaves it out.
"""

import argparse
import csv
import dataclasses
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffjax.config import leaves
from diffjax.jobs.report import title
from diffjax.machine import atomic
from diffjax.types import ConfigError
from experiments.tools import chart, jobs, progress, sweeps
from experiments.tools.jobs import Job
from experiments.tools.sweeps import TRAINED, Sweep

OF_REPORT = ("weights", "samples", "evaluations")
OF_SAMPLE = ("sampler", "grid", "guidance", "clip")


@dataclasses.dataclass(frozen=True)
class Row:
  """What is known of a run.

  Attributes:
    run: its name.
    finished: whether it is trained and evaluated as the sweep says.
    step: the last step that its metrics tell of.
    steps: the step it is to reach.
    overrides: path -> value, of every path that a run of the sweep overrides.
    scores: "classifier frechet" -> median, lowest and highest over the seeds.
    settings: what the scores were made with.
    loss: the last training loss.
    held_out: the last held-out losses by name, raw/logsnr_0_to_3.
  """

  run: str
  finished: bool
  step: int
  steps: int
  overrides: Mapping[str, Any]
  scores: Mapping[str, tuple[float, float, float]]
  settings: Mapping[str, Any]
  loss: float | None
  held_out: Mapping[str, float]

  @property
  def state(self) -> str:
    """In words."""
    if self.finished:
      return "finished"
    reached = "not evaluated" if self.step >= self.steps else f"step {self.step} of {self.steps}"
    return f"unfinished, {reached}"


def rows(sweep: Sweep, every: Sequence[Job]) -> list[Row]:
  """What the workdirs of a sweep's jobs hold; the run that others sample from is no row."""
  return [
    _row(sweep, job, Path(job.folder).parent / TRAINED if job.after else Path(job.folder))
    for job in every
    if sweep.trained is None or job.after
  ]


def _row(sweep: Sweep, job: Job, trained_in: Path) -> Row:
  path = trained_in / "metrics.jsonl"
  lines = progress.metrics(path.read_text(encoding="utf-8") if path.exists() else "")
  losses = [progress.number(line["loss"]) for line in lines if "loss" in line]
  held_out = {}
  for line in lines:
    current = {
      name.removeprefix("held_out/"): progress.number(v)
      for name, v in line.items()
      if name.startswith("held_out/")
    }
    held_out = current or held_out
  values = dict(leaves(job.config))
  scores, settings = _scores(last_report(Path(job.folder)))
  return Row(
    run=job.name,
    finished=job.finished,
    step=max((int(line["step"]) for line in lines if "step" in line), default=0),
    steps=job.config.train.steps,
    overrides={path: values[path] for path in sweep.paths},
    scores=scores,
    settings=settings,
    loss=losses[-1] if losses else None,
    held_out=held_out,
  )


def last_report(folder: Path) -> dict[str, Any]:
  """The metrics.json of the last step that a workdir has one of, or {}."""
  files = {int(p.parent.name): p for p in folder.glob("eval/*/metrics.json") if p.parent.name.isdigit()}
  return json.loads(files[max(files)].read_text()) if files else {}


def _scores(report: Mapping[str, Any]) -> tuple[dict[str, tuple[float, float, float]], dict[str, Any]]:
  """The scores of a report, and what they were made with."""
  scores, settings = {}, {name: report[name] for name in OF_REPORT if name in report}
  settings |= {name: report["sample"][name] for name in OF_SAMPLE if name in report.get("sample", {})}
  if "seeds" in report:
    settings["seeds"] = " ".join(map(str, report["seeds"]))
  for metric, summary in report.get("metrics", {}).items():
    for name, numbers in summary["values"].items():
      of_seeds = [progress.number(value) for value in numbers["of_seeds"]]
      scores[f"{metric} {name}"] = (progress.number(numbers["value"]), min(of_seeds), max(of_seeds))
      if numbers.get("floor") is not None:
        settings[f"{metric} {name} of real data"] = float(numbers["floor"])
      if "better" in numbers:
        settings[f"{metric} {name} is better"] = numbers["better"]
    settings |= {f"{metric} {name}": value for name, value in summary["settings"].items()}
  return scores, settings


def _union(parts: Sequence[Mapping]) -> list:
  return list(dict.fromkeys(name for part in parts for name in part))


def as_csv(table: Sequence[Row]) -> str:
  """Everything, a line a run."""
  paths, scores, settings, held_out = (
    _union([getattr(row, name) for row in table]) for name in ("overrides", "scores", "settings", "held_out")
  )
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  spread = [f"{name}{end}" for name in scores for end in ("", " low", " high")]
  losses = [f"held_out/{name}" for name in held_out]
  writer.writerow(["run", "state", "step", *paths, *spread, "loss", *losses, *settings])
  for row in table:
    numbers = [number for name in scores for number in row.scores.get(name, ("", "", ""))]
    writer.writerow(
      [row.run, "finished" if row.finished else "unfinished", row.step]
      + [row.overrides[path] for path in paths]
      + numbers
      + ["" if row.loss is None else row.loss]
      + [row.held_out.get(name, "") for name in held_out]
      + [row.settings.get(name, "") for name in settings]
    )
  return text.getvalue()


def heading(path: str) -> str:
  """Of the column of a field: its name, or for the name of an entry what it is the name of."""
  return path.removesuffix(".name").split(".", 1)[-1]


def as_markdown(name: str, table: Sequence[Row]) -> str:
  """The overrides and the scores, what the scores were made with, and the held-out losses."""
  paths, scores = _union([row.overrides for row in table]), _union([row.scores for row in table])
  same, differing = _settings([row.settings for row in table if row.settings])
  differing = [one for one in differing if not any(path.endswith(f".{one}") for path in paths)]
  header = ["run", *map(heading, paths), *map(title, scores), "loss", *map(title, differing), "state"]
  lines = [
    [row.run, *(row.overrides[path] for path in paths)]
    + [_spread(row.scores[score]) if score in row.scores else "" for score in scores]
    + ["" if row.loss is None else f"{row.loss:.4g}"]
    + [row.settings.get(one, "") for one in differing]
    + [row.state]
    for row in table
  ]
  unfinished = sum(not row.finished for row in table)
  parts = [f"# {name}", _table(header, lines)]
  if unfinished:
    parts.append(f"**Unfinished: {unfinished} of {len(table)} runs.**")
  if same:
    parts.append(
      "Scores are medians over the sampling seeds, in brackets the lowest and the highest. All: "
      + "; ".join(f"{title(key)} {_text(value)}" for key, value in same.items())
      + "."
    )
  if held_out := _held_out(table):
    parts += ["## Held-out losses", "In the kind and the weight of each run's own objective.", held_out]
  return "\n\n".join(parts) + "\n"


def _settings(every: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], list[str]]:
  """The settings that all have in common, and the names of the others."""
  names = _union(every)
  same = {
    name: every[0].get(name) for name in names if all(one.get(name) == every[0].get(name) for one in every)
  }
  return same, [name for name in names if name not in same]


def _held_out(table: Sequence[Row]) -> str:
  """The table of held-out losses: the moving average's where there is one."""
  names = _union([row.held_out for row in table])
  averaged = [name for name in names if name.split("/")[0] != "raw"]
  names = [name for name in averaged if name.split("/")[0] == averaged[0].split("/")[0]] or names
  lines = [
    [row.run, *(f"{row.held_out[name]:.4g}" if name in row.held_out else "" for name in names)]
    for row in table
  ]
  return _table(["run", *names], lines) if names else ""


def _spread(score: tuple[float, float, float]) -> str:
  middle, low, high = score
  return f"{middle:.4g}" if low == high else f"{middle:.4g} ({low:.4g} to {high:.4g})"


def _text(value: Any) -> str:
  return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(header: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
  """Markdown's."""
  cells = [[_text(cell).replace("|", "\\|") for cell in line] for line in lines]
  return "\n".join(f"| {' | '.join(line)} |" for line in [header, ["---"] * len(header), *cells])


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command line; returns the exit status."""
  parser = argparse.ArgumentParser(
    "python -m experiments.collect",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  parser.add_argument("name", help="a sweep of experiments/, or the path of a sweep's folder")
  parser.add_argument("--workdir", default="runs/sweeps", help="where launch had it (%(default)s)")
  parser.add_argument("--out", help="where the files go, by default the sweep's folder")
  args = parser.parse_args(argv)
  try:
    sweep = sweeps.load(args.name)
    name, out = Path(args.name).name, Path(args.out or sweeps.folder_of(args.name))
    table = rows(sweep, jobs.of(sweep, sweeps.check(sweep), f"{args.workdir}/{name}"))
  except ConfigError as error:
    print(f"\nerror: {error}", file=sys.stderr)
    return 2
  if not any(row.step or row.scores for row in table):
    print(f"\nerror: {args.workdir}/{name} holds no run yet; launch the sweep first.", file=sys.stderr)
    return 2
  text = as_markdown(name, table)
  for file_name, content in (("results.csv", as_csv(table)), ("table.md", text)):
    with atomic.writing(out / file_name) as file:
      file.write(content.encode())
  drawn = chart.draw(out / "curve.png", sweep, table)
  print(text)
  scores = dict.fromkeys(name for row in table for name in row.scores)
  if absent := [name for name in dict.fromkeys((*sweep.metrics, *sweep.plane)) if name not in scores]:
    print(f"curve.png is without {', '.join(absent)}: the runs have {', '.join(scores)}.", file=sys.stderr)
  print(
    f"written: {', '.join(str(out / one) for one in ['results.csv', 'table.md', *(['curve.png'] * drawn)])}"
  )
  return 0


if __name__ == "__main__":
  sys.exit(main())
