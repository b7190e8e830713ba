"""What a run tells the world: metrics, pictures, lines of text, and how far it is.

    metrics.jsonl    {"step": 100, "loss": 0.25, ...}, a line each time; for programs
    tensorboard/     the same and pictures, as event files
    log.txt          lines of text with the time; never a control character

and, if asked, Weights & Biases. On a terminal the progress is one line, redrawn in place.

JSON has no NaN and no infinities: they are null. None of these ends a run that it fails for: see `may_fail`.
"""

import contextlib
import datetime
import json
import logging
import math
import numbers
import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from jaxtyping import UInt8

from diffjax.machine import atomic
from diffjax.machine.byproducts import ByProducts, Errors
from diffjax.machine.console import Console, Meter, hours, lines_of
from diffjax.types import ConfigError


class Reporter:
  """The one that writes; made by `create`. As a context manager it closes itself."""

  def __init__(
    self,
    workdir: Path,
    batch_size: int,
    log_every: int,
    run: Any,
    console: Console,
    clock: Callable[[], float],
  ):
    self._workdir, self._batch_size, self._log_every = workdir, batch_size, log_every
    self._run, self._console, self._clock = run, console, clock
    self._meter = Meter(clock=clock)
    self._events, self._purge = None, None
    self._byproducts = ByProducts(self.line)

  def metrics(self, step: int, values: Mapping[str, float]) -> None:
    """Numbers at a step. Several calls at one step are several lines.

    Raises:
      ConfigError: a metric is called "step".
    """
    if "step" in values:
      raise ConfigError('a metric cannot be called "step": that name is the step\'s own in metrics.jsonl')
    values = {name: float(value) for name, value in values.items()}
    with self.may_fail("metrics.jsonl"):
      _append(self._workdir / "metrics.jsonl", atomic.as_json({"step": int(step)} | values))
    with self.may_fail("tensorboard", Exception):
      for name, value in values.items():
        self._board().add_scalar(name, value, step)
    with self.may_fail("Weights & Biases", Exception):
      if self._run:
        self._run.log(values, step=int(step))

  def images(self, step: int, name: str, grid: UInt8[np.ndarray, "h w c"]) -> None:
    """A picture, uint8 [H, W, C] with one channel or three, for TensorBoard and Weights & Biases.

    Raises:
      ConfigError: the picture is of another type or shape.
    """
    if grid.dtype != np.uint8 or grid.ndim != 3 or grid.shape[2] not in (1, 3):
      raise ConfigError(f"a picture must be uint8 [H, W, 1 or 3], not {grid.dtype} {list(grid.shape)}")
    with self.may_fail("tensorboard", Exception):
      self._board().add_image(name, grid, step, dataformats="HWC")
    with self.may_fail("Weights & Biases", Exception):
      if self._run:
        import wandb

        self._run.log({name: wandb.Image(grid)}, step=int(step))

  def may_fail(self, what: str, errors: Errors = OSError) -> contextlib.AbstractContextManager[None]:
    """A block of a by-product, whose failure is said once and ends nothing; see ByProducts."""
    return self._byproducts.may_fail(what, errors)

  def line(self, text: str) -> None:
    """Text, of one line or several, to the console and with the time to log.txt."""
    self._console.say(text)
    self._log(text)

  def speed(self) -> dict[str, float]:
    """images_per_second, as a metric; {} as long as it is unknown."""
    rate = self._meter.rate()
    return {} if rate is None else {"images_per_second": rate * self._batch_size}

  def progress(self, step: int, total: int, values: Mapping[str, float]) -> None:
    """How far the run is, to be called as often as one likes.

    A terminal shows it at most five times a second. log.txt, and a console that is no terminal, get a line
    where `step` is a multiple of `log_every`; all of them get the last one.
    """
    self._meter.update(step)
    last = step >= total
    logs = last or step % self._log_every == 0
    draws = not last and self._console.due()
    if not logs and not draws:
      return
    text = self._status(step, total, values)
    if logs:
      self._log(text)
    if logs and (last or not self._console.live):
      self._console.say(text)
    if draws:
      self._console.draw(text)

  def paused(self) -> contextlib.AbstractContextManager[None]:
    """A block whose time is not counted in images/s: sampling, evaluation."""
    return self._meter.paused()

  def resumed(self, step: int) -> None:
    """The run goes on after `step`: forgets the metrics beyond it, which will be written again.

    A line torn by a crash goes too. -1 forgets everything. To be called before the first progress.
    """
    self._meter = Meter(step, self._clock)
    self._close_board()
    self._purge = step + 1  # TensorBoard hides events from this step on
    path = self._workdir / "metrics.jsonl"
    if not path.exists():
      return
    with self.may_fail("metrics.jsonl"):
      lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
      with atomic.writing(path) as file:
        file.writelines(f"{line}\n".encode() for line in lines if _step_of(line) <= step)

  def close(self, failed: bool = False) -> None:
    """Writes what is still held, wipes the live line, and tells Weights & Biases how the run ended."""
    self._console.wipe()
    self._close_board()
    with self.may_fail("Weights & Biases", Exception):
      if self._run:
        self._run.finish(exit_code=int(failed))
    self._run = None

  def __enter__(self) -> "Reporter":
    return self

  def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
    self.close(failed=error is not None)

  def _status(self, step: int, total: int, values: Mapping[str, float]) -> str:
    rate, remaining = self._meter.rate(), 0.0 if step >= total else self._meter.remaining(total)
    parts = [f"step {step}/{total}", f"{100 * step // max(total, 1)}%"]
    parts += [f"{name} {float(value):.4g}" for name, value in values.items()]
    if rate is not None:
      images = rate * self._batch_size
      parts.append(f"{images:,.0f} images/s" if images >= 100 else f"{images:.3g} images/s")
    parts.append(f"ETA {'-:--:--' if remaining is None else hours(remaining)}")
    return " ".join(lines_of("  ".join(parts)))

  def _log(self, text: str) -> None:
    now = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    with self.may_fail("log.txt"):
      _append(self._workdir / "log.txt", "\n".join(f"{now}  {line}".rstrip() for line in lines_of(text)))

  def _board(self) -> Any:
    """The event file, opened when there is something to write."""
    if self._events is None:
      from tensorboardX import SummaryWriter

      logging.getLogger("tensorboardX.x2num").setLevel(logging.ERROR)  # it prints a warning at each NaN
      folder = self._workdir / "tensorboard"
      suffix = f".{len(list(folder.glob('events.*'))):04d}"  # its names have whole seconds and would collide
      self._events = SummaryWriter(str(folder), purge_step=self._purge, flush_secs=10, filename_suffix=suffix)
    return self._events

  def _close_board(self) -> None:
    events, self._events = self._events, None
    if events:
      with self.may_fail("tensorboard", Exception):
        events.close()


class Silent:
  """What every process but the first gets: a Reporter that does nothing."""

  def metrics(self, step: int, values: Mapping[str, float]) -> None:
    pass

  def images(self, step: int, name: str, grid: UInt8[np.ndarray, "h w c"]) -> None:
    pass

  def may_fail(self, what: str, errors: Errors = OSError) -> contextlib.AbstractContextManager[None]:
    return ByProducts(lambda text: None).may_fail(what, errors)

  def line(self, text: str) -> None:
    pass

  def speed(self) -> dict[str, float]:
    return {}

  def progress(self, step: int, total: int, values: Mapping[str, float]) -> None:
    pass

  def paused(self) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()

  def resumed(self, step: int) -> None:
    pass

  def close(self, failed: bool = False) -> None:
    pass

  def __enter__(self) -> "Silent":
    return self

  def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
    pass


def create(
  workdir: str | os.PathLike,
  active: bool = True,
  *,
  batch_size: int = 1,
  log_every: int = 100,
  wandb_project: str = "",
  config: Mapping[str, Any] | None = None,
  stream: TextIO | None = None,
  clock: Callable[[], float] = time.monotonic,
) -> Reporter | Silent:
  """A Reporter where `active`, else one that does nothing.

  Args:
    workdir: where the files lie; made if missing.
    active: true in process 0 alone.
    batch_size: images in a step, over all devices and processes.
    log_every: steps between two lines of `progress` in log.txt.
    wandb_project: the Weights & Biases project, "" for none. A resumed run goes on under its own id.
    config: what Weights & Biases shows as the run's configuration.
    stream: the console, standard error by default.
    clock: seconds, from any origin.

  Raises:
    ConfigError: Weights & Biases is asked for and not installed, or `log_every` is not positive.
  """
  if log_every < 1:
    raise ConfigError(f"log_every is {log_every}; it must be at least 1")
  if not active:
    return Silent()
  workdir = Path(workdir)
  workdir.mkdir(parents=True, exist_ok=True)
  console, run = Console(stream or sys.stderr, clock), None
  wandb = _wandb(wandb_project) if wandb_project else None
  with ByProducts(console.say).may_fail("Weights & Biases", Exception):
    run = _tracked(wandb, workdir, wandb_project, config) if wandb else None
  return Reporter(workdir, batch_size, log_every, run, console, clock)


def table(rows: Sequence[Sequence[object]], header: Sequence[str]) -> str:
  """A table in plain text: columns of numbers to the right, floats to four digits, all else to the left."""
  columns = [_column(name, cells) for name, *cells in zip(header, *rows, strict=True)]
  return "\n".join("  ".join(row).rstrip() for row in zip(*columns, strict=True))


def _column(name: str, cells: Sequence[object]) -> list[str]:
  """A column of a table, its cells equally wide."""
  text = [_cell(cell) for cell in cells]
  width = max(map(len, [name, *text]))
  numeric = bool(cells) and all(isinstance(cell, numbers.Real) for cell in cells)
  return [f"{cell:{'>' if numeric else '<'}{width}}" for cell in [name, "-" * width, *text]]


def _cell(cell: object) -> str:
  fraction = isinstance(cell, numbers.Real) and not isinstance(cell, numbers.Integral)
  return f"{cell:.4g}" if fraction else str(cell)


def _append(path: Path, text: str) -> None:
  """Lines at the end of a file, there for all to read when this returns."""
  with path.open("ab") as file:
    file.write(f"{text}\n".encode(errors="backslashreplace"))


def _step_of(line: str) -> float:
  """The step of a line of metrics.jsonl; beyond every step if the line is not whole."""
  try:
    return float(json.loads(line)["step"])
  except (ValueError, KeyError, TypeError):
    return math.inf


def _wandb(project: str) -> Any:
  """The package, that a config asks for."""
  try:
    import wandb
  except ImportError as error:
    raise ConfigError(
      f'config.log.wandb is "{project}", and Weights & Biases is not installed: '
      'pip install -e .[wandb], or set it to ""'
    ) from error
  return wandb


def _tracked(wandb: Any, workdir: Path, project: str, config: Mapping[str, Any] | None) -> Any:
  """The W&B run whose id the workdir holds, or a new one."""
  path = workdir / "wandb_id.txt"
  if not path.exists():
    with atomic.writing(path) as file:
      file.write(secrets.token_hex(8).encode())
  return wandb.init(
    project=project, dir=str(workdir), id=path.read_text(), resume="allow", config=dict(config or {})
  )
