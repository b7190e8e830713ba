"""Text on a console: plain lines, one live line that is redrawn in place, and the time that is left."""

import contextlib
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import TextIO

REDRAW = 0.2  # seconds between two drawings of the live line
CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x1f\x7f-\x9f]")  # terminal sequences, single characters


class Meter:
  """Speed and time to go. The first interval, up to the first step past `start`, compiles and is left out.

  Args:
    start: the step before the first.
    clock: seconds, from any origin.
  """

  def __init__(self, start: int = 0, clock: Callable[[], float] = time.monotonic):
    self._start, self._clock, self._paused = start, clock, 0.0
    self._first = self._latest = None  # (step, time, paused so far)

  def update(self, step: int) -> None:
    """Says that `step` is done; one before the last begins anew."""
    if step > self._start:
      now = (step, self._clock(), self._paused)
      if self._first is None or step < self._latest[0]:
        self._first = now
      self._latest = now

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """A block of work that is no training: `rate` leaves its time out, `remaining` does not."""
    begin = self._clock()
    try:
      yield
    finally:
      self._paused += self._clock() - begin

  def rate(self) -> float | None:
    """Steps per second, None as long as there is nothing to measure."""
    steps, seconds, paused = self._elapsed()
    return steps / (seconds - paused) if steps and seconds > paused else None

  def remaining(self, total: int) -> float | None:
    """Seconds until step `total` at the pace so far, None as long as there is nothing to measure."""
    steps, seconds, _ = self._elapsed()
    return (total - self._latest[0]) * seconds / steps if steps else None

  def _elapsed(self) -> tuple[float, ...]:
    if self._first is None:
      return 0, 0.0, 0.0
    return tuple(now - then for now, then in zip(self._latest, self._first, strict=True))


class Console:
  """A stream of plain lines, with a live line below them where it is a terminal.

  Args:
    stream: where the text goes.
    clock: seconds, from any origin.
  """

  def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic):
    self._stream, self._clock = stream, clock
    self._shown, self._drawn_at = False, -math.inf
    self.live = stream.isatty() and os.environ.get("TERM") != "dumb"

  def due(self) -> bool:
    """Whether there is a live line and it may be drawn again."""
    return self.live and self._clock() - self._drawn_at >= REDRAW

  def draw(self, text: str) -> None:
    """Makes `text`, cut to the width of the terminal, the live line."""
    self._write(f"\r{text[: self._columns() - 1]}\x1b[K")
    self._shown, self._drawn_at = True, self._clock()

  def say(self, text: str) -> None:
    """Plain lines, in the place of the live line."""
    self.wipe()
    self._write("".join(f"{line}\n" for line in lines_of(text)))

  def wipe(self) -> None:
    """Takes the live line away."""
    if self._shown:
      self._write("\r\x1b[K")
      self._shown = False

  def _write(self, text: str) -> None:
    self._stream.write(text)
    self._stream.flush()

  def _columns(self) -> int:
    """The width of the terminal; 80 where it does not say."""
    try:
      return os.get_terminal_size(self._stream.fileno()).columns or 80
    except (OSError, ValueError):
      return 80


def lines_of(text: str) -> list[str]:
  """The lines of a text, at least one, without what would move a terminal's cursor."""
  return [CONTROL.sub("", line.expandtabs()) for line in text.splitlines()] or [""]


def hours(seconds: float) -> str:
  """Seconds as h:mm:ss, rounded; the hours run on past 24."""
  minutes, seconds = divmod(round(seconds), 60)
  return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
