"""Processes of peers, which compile and work when they are asked to, and wait otherwise."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path

from ml_collections import ConfigDict


class Peer:
  """One process of peer_turns.py; it answers in the order it was asked."""

  LATE = "no answer in time"

  def __init__(self, config: ConfigDict, mode: str, log: Path):
    """Starts it.

    Args:
      config: what it builds.
      mode: torch.compile's, "" for eager.
      log: gets what it says besides.
    """
    self.name, self._lines = mode or "eager", queue.Queue()
    parts = {"model": {"unet": config.model.unet}, "train": config.train, "schedule": config.schedule}
    self._process = subprocess.Popen(
      [
        *(sys.executable, "-m", "benchmarks.accelerator.peer_turns"),
        *(f"--config={ConfigDict(parts).to_json()}", f"--compiled={mode}"),
      ],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=log.open("w"),
      text=True,
      start_new_session=True,
    )
    threading.Thread(target=self._listen, daemon=True).start()

  def _listen(self):
    for line in self._process.stdout:
      if line.startswith("{"):
        self._lines.put(json.loads(line))
    self._lines.put({"error": f"it ended with status {self._process.wait()}"})

  def ask(self, do: str, batch: int, count: int) -> None:
    """Asks, without waiting for the answer."""
    try:
      self._process.stdin.write(json.dumps({"do": do, "batch": batch, "count": count}) + "\n")
      self._process.stdin.flush()
    except (BrokenPipeError, ValueError):
      self._lines.put({"error": "it is not there any more"})

  def answer(self, timeout: float) -> dict:
    """The next answer; {"error": ...} where there is none in time."""
    try:
      return self._lines.get(timeout=max(timeout, 0.01))
    except queue.Empty:
      return {"error": self.LATE}

  def end(self) -> None:
    """Ends it and all that it started."""
    try:
      os.killpg(self._process.pid, signal.SIGKILL)
    except ProcessLookupError:
      pass
    self._process.wait()
