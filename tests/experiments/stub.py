"""What tests run in main.py's place: does to a workdir what a run would, and whatever STUB says.

STUB is JSON, run -> behaviour: "fail" (status 3), "sleep" (until SIGTERM, then saves and ends with 0),
"deaf" (until SIGKILL), "early" (ends with 0 without a checkpoint).
"""

import json
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

folder = Path(next(a for a in sys.argv if a.startswith("--workdir=")).removeprefix("--workdir="))
mode = next(a for a in sys.argv if a.startswith("--mode=")).removeprefix("--mode=")
steps = next(a for a in sys.argv if a.startswith("--config.train.steps=")).rpartition("=")[2]
behaviour = json.loads(os.environ.get("STUB", "{}")).get(folder.name, "")


def log(name: str, text: str) -> None:
  """A line at the end of a file of the workdir."""
  with (folder / name).open("a") as file:
    file.write(f"{text}\n")


def save(number, frame):
  """What a run does at SIGTERM."""
  log("signals", signal.Signals(number).name)
  sys.exit(0)


def wait() -> None:
  """Until a signal."""
  (folder / "ready").touch()
  while True:
    time.sleep(0.02)


log("calls", f"{mode} {time.monotonic()} {os.environ.get('CUDA_VISIBLE_DEVICES', '')}".strip())
print(f"{folder.name} begins {mode}", flush=True)
if behaviour == "fail":
  print("RuntimeError: the stub is broken, as asked", file=sys.stderr)
  sys.exit(3)
if behaviour == "sleep":
  signal.signal(signal.SIGTERM, save)
  wait()
if behaviour == "deaf":
  signal.signal(signal.SIGTERM, lambda number, frame: log("signals", signal.Signals(number).name))
  wait()
if behaviour == "early":
  sys.exit(0)
time.sleep(0.15)
if mode == "train":
  log(
    "log.txt", f"2026-01-01 00:00:00+00:00  step {steps}/{steps}  100%  loss 0.5  1,234 images/s  ETA 0:00:00"
  )
  (folder / "checkpoints" / steps).mkdir(parents=True)
else:
  assert re.fullmatch(r"\d+", steps) and (folder / "checkpoints" / steps).is_dir()
  (folder / "eval" / steps).mkdir(parents=True, exist_ok=True)
  shutil.copy(folder / "template.json", folder / "eval" / steps / "metrics.json")
log("calls", f"end {time.monotonic()}")
