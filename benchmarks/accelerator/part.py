"""What every part shares: its arguments, and results that are on disk as soon as they are known."""

import argparse
import os
import signal
import subprocess
import time
from pathlib import Path

from diffjax.machine.atomic import as_json, write_json


def arguments(name: str, about: str) -> argparse.Namespace:
  """--out, --seconds and --tiny."""
  parser = argparse.ArgumentParser(f"python -m benchmarks.accelerator.{name}", description=about)
  parser.add_argument("--out", type=Path, required=True)
  parser.add_argument("--seconds", type=float, default=600.0)
  parser.add_argument("--tiny", action="store_true")
  args = parser.parse_args()
  args.out.mkdir(parents=True, exist_ok=True)
  return args


GRACE = 3  # seconds between asking a process to end and making it


def end(process: subprocess.Popen) -> None:
  """Ends a process that leads a session, and all that it started."""
  for number, wait in ((signal.SIGTERM, GRACE), (signal.SIGKILL, None)):
    try:
      os.killpg(process.pid, number)
      process.wait(wait)
    except ProcessLookupError:
      return
    except subprocess.TimeoutExpired:
      continue


class Results:
  """<out>/<name>.json, written anew with every addition."""

  def __init__(self, out: Path, name: str, seconds: float = float("inf")):
    """The time begins."""
    self._path, self._began, self._seconds, self.entries = out / f"{name}.json", time.monotonic(), seconds, {}

  @property
  def left(self) -> float:
    """Seconds."""
    return self._seconds - (time.monotonic() - self._began)

  def add(self, **entries) -> None:
    """Adds, writes and prints."""
    self.entries |= entries
    write_json(self._path, self.entries)
    print(f"[{time.monotonic() - self._began:6.1f} s] {as_json(entries)[:1000]}", flush=True)


def cached() -> None:
  """Compiled functions are kept between parts, as main.py keeps them."""
  from diffjax import config
  from diffjax.jobs import commandline

  commandline.prepare(config.base())
