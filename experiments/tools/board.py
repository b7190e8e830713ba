"""What the local pool shows: on a terminal a table that is redrawn in place, elsewhere a line per change."""

import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from diffjax.machine.console import lines_of
from experiments.tools import progress
from experiments.tools.pool import Task

REDRAW = 1.0  # seconds between two tables
REMIND = 60.0  # seconds between two lines of a run where there is no terminal


class Board:
  """Called with the tasks as often as one likes.

  Args:
    stream: where the text goes.
    clock: seconds, from any origin.
  """

  def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic):
    self._stream, self._clock = stream, clock
    self._live = stream.isatty() and os.environ.get("TERM") != "dumb"
    self._drawn_at, self._height = -math.inf, 0
    self._said: dict[str, tuple[str, float]] = {}  # job -> (state, when)

  def __call__(self, tasks: Sequence[Task]) -> None:
    """Shows them if there is something new."""
    if not self._live:
      self._say(tasks)
    elif self._clock() - self._drawn_at >= REDRAW:
      self.draw(tasks)

  def draw(self, tasks: Sequence[Task]) -> None:
    """The table, in the place of the last one."""
    columns, height = shutil.get_terminal_size()
    lines = progress.board(_rows(tasks)).splitlines()
    if len(lines) > height - 1:  # what runs is worth seeing before what waits
      active = [task for task in tasks if task.active]
      lines = [*progress.board(_rows(active or tasks)).splitlines()[: height - 2], f"of {len(tasks)} runs"]
    up = f"\x1b[{self._height}F" if self._height else ""
    self._stream.write(f"{up}\x1b[J" + "".join(f"{line[: columns - 1]}\n" for line in lines))
    self._stream.flush()
    self._drawn_at, self._height = self._clock(), len(lines)

  def close(self, tasks: Sequence[Task]) -> None:
    """Leaves the last table behind."""
    if self._live:
      self.draw(tasks)
    else:
      self._say(tasks)
      self._stream.write(f"\n{progress.board(_rows(tasks))}\n")
      self._stream.flush()

  def _say(self, tasks: Sequence[Task]) -> None:
    now = self._clock()
    for task in tasks:
      state, at = self._said.get(task.job.name, ("waiting", now))
      if task.state != state or (task.active and now - at >= REMIND):
        cells = zip(progress.HEADER[2:], progress.row(task.job, task.state, task.since)[2:], strict=True)
        details = [f"{name} {cell}" for name, cell in cells if cell and task.state not in ("not started",)]
        text = "  ".join([f"{task.job.name}: {task.state}", *details, *([task.why] if task.why else [])])
        self._stream.write("".join(f"{line}\n" for line in lines_of(text)))
        self._stream.flush()
        self._said[task.job.name] = (task.state, now)


def _rows(tasks: Sequence[Task]) -> list[tuple[str, ...]]:
  return [progress.row(task.job, task.state, task.since) for task in tasks]


def failures(tasks: Sequence[Task], tail: Callable) -> str:
  """Every failed job with the end of what it said."""
  return "\n".join(
    f"\n{task.job.name} failed: {task.why}; the end of {Path(task.job.folder) / 'launch.txt'}:\n"
    + "\n".join(f"  | {line}" for line in tail(task.job).splitlines())
    for task in tasks
    if task.state == "failed"
  )
