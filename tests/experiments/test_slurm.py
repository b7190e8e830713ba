"""A sweep on a real Slurm of one node: submitted, one job requeued by SIGTERM, all finished.

apt-get install slurm-wlm munge; pip install submitit; make test-slurm        (as root)
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments import launch
from experiments.tools import slurm

ROOT = Path(__file__).parents[2]
SWEEP = """\
from experiments.tools.sweeps import product

SWEEP = product(
  "configs/digits.py",
  {"seed": (0, 1)},
  shared={
    "model.unet.channels": 8, "train.batch_size": 8, "train.steps": 2000, "train.warmup": 0,
    "log.every": 50, "log.held_out": 16, "log.samples": 4, "checkpoint.every": 2000,
    "sample.steps": 2, "eval.count": 20, "eval.seeds": 1,
  },
)
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory):
  """A Slurm of one node, as long as the tests of this file run."""
  folder = tmp_path_factory.mktemp("slurm")
  script = Path(__file__).with_name("slurm.sh")
  subprocess.run([script, "start", folder], check=True)
  os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
  yield folder
  subprocess.run([script, "stop", folder], check=True)
  del os.environ["SLURM_CONF"]


def until(holds, seconds, what):
  """Waits until something holds."""
  end = time.monotonic() + seconds
  while not holds():
    assert time.monotonic() < end, f"not within {seconds} seconds: {what()}"
    time.sleep(0.5)


@pytest.mark.slurm
def test_a_sweep_is_submitted_requeued_and_finished(node, tmp_path):
  sweep = tmp_path / "mine" / "__init__.py"
  sweep.parent.mkdir()
  sweep.write_text(SWEEP)
  runs = tmp_path / "runs" / "mine"
  command = [sys.executable, "-m", "experiments.launch", str(sweep.parent), f"--workdir={tmp_path}/runs"]
  flags = ["--on=slurm", "--partition=test", "--cpus=1", "--time=0:30:00"]
  environment = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "NPROC")}

  def launched():
    result = subprocess.run(
      [*command, *flags], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return result.stdout

  def status():
    outputs = "\n".join(path.read_text()[-3000:] for path in (runs / "slurm").glob("*.out"))
    return subprocess.run(["squeue"], capture_output=True, text=True).stdout + outputs

  def log(run):
    path = runs / run / "log.txt"
    return path.read_text() if path.exists() else ""

  assert "seed_0: submitted as job" in launched()
  assert "seed_0: queued before as job" in launched()
  until(lambda: " step 100/2000 " in log("seed_0"), 200, status)
  job = json.loads((runs / "slurm" / "jobs.json").read_text())["seed_0"]
  subprocess.run(["scancel", "--signal=TERM", job], check=True)
  until(lambda: "the same command goes on from there" in log("seed_0"), 60, status)
  saved = int(re.search(r"SIG(?:TERM|INT): step (\d+) is saved", log("seed_0"))[1])
  assert 100 <= saved < 2000
  shown = lambda: subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True).stdout
  until(lambda: "Restarts=1 " in shown(), 60, status)
  evaluated = lambda run: (runs / run / "eval/2000/metrics.json").exists()
  until(lambda: evaluated("seed_0") and evaluated("seed_1"), 400, status)
  assert f"going on from step {saved}" in log("seed_0")
  assert "going on from" not in log("seed_1")
  until(lambda: not subprocess.run(["squeue", "-h"], capture_output=True, text=True).stdout, 60, status)
  assert "2 runs, 2 finished before" in launched()


def test_a_missing_submitit_is_said(monkeypatch, capsys, tmp_path):
  monkeypatch.setitem(sys.modules, "submitit", None)
  assert launch.main(["seeds", "--on=slurm", f"--workdir={tmp_path}"]) == 2
  assert "pip install -e .[slurm]" in capsys.readouterr().err


def test_a_machine_without_slurm_is_said(monkeypatch, capsys, tmp_path):
  monkeypatch.setitem(sys.modules, "submitit", object())
  monkeypatch.setenv("PATH", "/nonexistent")
  assert launch.main(["seeds", "--on=slurm", f"--workdir={tmp_path}"]) == 2
  assert "there is no sbatch on this machine" in " ".join(capsys.readouterr().err.split())


def test_a_dry_run_needs_neither(monkeypatch, capsys, tmp_path):
  monkeypatch.setitem(sys.modules, "submitit", None)
  assert launch.main(["seeds", "--on=slurm", f"--workdir={tmp_path}", "--dry_run"]) == 0
  assert "--config.seed=4" in capsys.readouterr().out
  assert launch.main(["seeds", "--on=slurm", f"--workdir={tmp_path}", "--dry_run", "--time=soon"]) == 2


@pytest.fixture
def scripts(monkeypatch, tmp_path):
  """A Slurm that only takes scripts; a function that gives their texts."""
  pytest.importorskip("submitit")
  kept, programs = tmp_path / "kept", tmp_path / "bin"
  sbatch = f'cp "${{@: -1}}" "$(mktemp {kept}/XXXXXX)"; echo Submitted batch job $(ls {kept} | wc -l)'
  kept.mkdir()
  programs.mkdir()
  for name, does in {"sbatch": sbatch, "srun": "exit 1", "squeue": "exit 0"}.items():
    (programs / name).write_text(f"#!/bin/bash\n{does}\n")
    (programs / name).chmod(0o755)
  monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
  return lambda: [path.read_text() for path in kept.iterdir()]


def options(script):
  """The #SBATCH options of a script."""
  match = re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", script, re.MULTILINE)
  return {name: value for name, value in match}


def test_what_waits_for_a_run_that_fails_leaves_the_queue_and_all_get_the_environment(scripts, tmp_path):
  assert launch.main(["ddim_steps", "--on=slurm", f"--workdir={tmp_path}/runs", "--env=A=b's c"]) == 0
  trained, samplings = sorted(map(options, scripts()), key=lambda option: "dependency" in option)
  assert "dependency" not in trained
  assert samplings["dependency"] == "afterok:1"
  assert samplings["kill-on-invalid-dep"] == "yes"
  for script in scripts():
    shown = script.partition("srun ")[0] + 'printf %s "$A"'
    assert subprocess.check_output(["bash", "-c", shown], text=True) == "b's c"


@pytest.mark.parametrize(
  ("text", "minutes"), [("90", 90), ("1:00:00", 60), ("2-01:30:00", 2970), ("0:00:01", 1), ("24:00:00", 1440)]
)
def test_times(text, minutes):
  assert slurm.minutes(text) == minutes
