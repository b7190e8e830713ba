"""A sweep of two runs, really trained, stopped, resumed, evaluated and collected: make test-sweep."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SWEEP = """\
from experiments.tools.sweeps import product

SWEEP = product(
  "configs/digits.py",
  {"objective.predict": ("eps", "v")},
  shared={
    "model.unet.channels": 8, "train.batch_size": 8, "train.steps": STEPS, "train.warmup": 0,
    "log.every": 10, "log.held_out": 16, "log.samples": 4, "checkpoint.every": STEPS,
    "sample.steps": 2, "eval.count": 20, "eval.seeds": 2,
  },
)
"""


def environment():
  """Without the tests' fake devices."""
  return {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "NPROC")}


@pytest.mark.sweep
def test_a_sweep_is_stopped_resumed_and_collected(tmp_path):
  sweep = tmp_path / "mine" / "__init__.py"
  sweep.parent.mkdir()
  sweep.write_text(SWEEP.replace("STEPS", "400"))
  where = [str(sweep.parent), f"--workdir={tmp_path}/runs"]
  launch = [sys.executable, "-m", "experiments.launch", *where, "--on=local"]
  settings = dict(cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
  log = tmp_path / "runs/mine/eps/log.txt"

  first = subprocess.Popen(launch, start_new_session=True, **settings)
  end = time.monotonic() + 200
  while not log.exists() or " step 20/400 " not in log.read_text():
    assert time.monotonic() < end and first.poll() is None, first.communicate()
    time.sleep(0.1)
  os.killpg(first.pid, signal.SIGINT)  # as a terminal's Ctrl-C
  out, err = first.communicate(timeout=100)
  assert first.returncode == 130 and "the same command goes on from here" in err
  assert "SIGTERM: step" in log.read_text() and "v: not started" in out

  second = subprocess.run(launch, timeout=500, **settings)
  assert second.returncode == 0, second.stderr + second.stdout
  assert "going on from step" in log.read_text()
  third = subprocess.run(launch, timeout=100, **settings)
  assert third.returncode == 0 and "2 runs, 2 finished before" in third.stdout

  collected = subprocess.run([sys.executable, "-m", "experiments.collect", *where], timeout=100, **settings)
  assert collected.returncode == 0, collected.stderr
  eps, v = csv.DictReader((sweep.parent / "results.csv").open())
  assert (eps["state"], eps["step"], v["objective.predict"]) == ("finished", "400", "v")
  assert 0 < float(eps["loss"]) < 2 and float(v["classifier frechet"]) > 0
  assert float(eps["held_out/ema_0.995/logsnr_0_to_3"]) > 0
  assert (sweep.parent / "curve.png").stat().st_size > 5000
