"""How far a run is, read from the files of its workdir."""

import dataclasses
import json
import math
import re
from pathlib import Path

from diffjax.machine.reporting import table
from experiments.tools.jobs import Job

LINE = re.compile(r"step (\d+)/(\d+)  (?:\S+%)(?:  loss (\S+))?(?:  (\S+) images/s)?  ETA (\S+)")
READ = 65536  # bytes at the end of a file that are looked at
HEADER = ("run", "state", "step", "loss", "images/s", "ETA")


@dataclasses.dataclass(frozen=True)
class Progress:
  """The last that a run told; "" where it did not.

  Attributes:
    step: "300/1200"; while it is evaluated, samples.
    loss: the mean of the last interval.
    rate: images per second.
    eta: time to go.
  """

  step: str = ""
  loss: str = ""
  rate: str = ""
  eta: str = ""


def size(folder: Path) -> int:
  """The length of a workdir's log, for `read` to start from."""
  path = folder / "log.txt"
  return path.stat().st_size if path.exists() else 0


def read(folder: Path, since: int = 0) -> Progress:
  """The last progress in a workdir's log behind its first `since` bytes; the loss is metrics.jsonl's."""
  matches = list(LINE.finditer(_end(folder / "log.txt", since)))
  match = matches[-1] if matches else None
  loss = last_loss(folder)
  text = "" if loss is None else f"{loss:.4g}"
  return Progress(f"{match[1]}/{match[2]}", text, match[4] or "", match[5]) if match else Progress(loss=text)


def last_loss(folder: Path) -> float | None:
  """The last training loss of a workdir."""
  losses = [line["loss"] for line in metrics(_end(folder / "metrics.jsonl")) if "loss" in line]
  return number(losses[-1]) if losses else None


def number(value: float | None) -> float:
  """A number of a JSON file, where null is one that was not finite."""
  return math.nan if value is None else float(value)


def metrics(text: str) -> list[dict]:
  """The whole lines of a metrics.jsonl."""
  rows = []
  for line in text.splitlines():
    try:
      rows.append(json.loads(line))
    except ValueError:  # torn by a crash, or cut by reading the end alone
      continue
  return [line for line in rows if isinstance(line, dict)]


def _end(path: Path, since: int = 0) -> str:
  try:
    with path.open("rb") as file:
      length = file.seek(0, 2)
      file.seek(max(since, length - READ) if since <= length else 0)
      return file.read().decode(errors="replace")
  except FileNotFoundError:
    return ""


def row(job: Job, state: str, since: int = 0) -> tuple[str, ...]:
  """A job's line of the table."""
  now = read(Path(job.folder), since)
  if state not in ("training", "evaluating"):
    now = dataclasses.replace(now, rate="", eta="")
  return job.name, state, now.step, now.loss, now.rate, now.eta


def board(rows: list[tuple[str, ...]]) -> str:
  """The table of all runs."""
  return table(rows, HEADER)
