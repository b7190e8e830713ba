"""Entries from outside the package: trained, resumed and sampled by main.py, and called without a config.

In processes of their own, because what registers an entry stays registered.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


def run(*command):
  """A command on one CPU device from the repository's root."""
  flags = re.sub(r"--xla_force_host_platform_device_count=\d+", "", os.environ.get("XLA_FLAGS", ""))
  environment = os.environ | {"XLA_FLAGS": flags.strip()}
  environment.pop("NPROC", None)
  return subprocess.run(
    [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
  )


def succeeded(answer):
  assert answer.returncode == 0, answer.stderr
  return answer.stderr


@pytest.fixture(scope="module")
def done(tmp_path_factory):
  """A run of four steps, and one that lost its last checkpoint and goes on, with what was said."""
  straight = tmp_path_factory.mktemp("extended") / "straight"
  resumed, outputs = straight.parent / "resumed", {}
  outputs["train"] = run("main.py", "--config=tests/extensions/config.py", f"--workdir={straight}")
  succeeded(outputs["train"])
  shutil.copytree(straight, resumed)
  shutil.rmtree(resumed / "checkpoints" / "4")
  outputs["resume"] = run("main.py", f"--workdir={resumed}")
  outputs["sample"] = run("main.py", f"--workdir={straight}", "--mode=sample")
  return straight, resumed, outputs


def test_a_run_of_entries_from_outside_is_trained_and_its_config_names_them(done):
  straight, _, outputs = done
  assert "step 4/4" in succeeded(outputs["train"])
  saved = json.loads((straight / "config.json").read_text())["config"]
  assert saved["extensions"] == [f"tests.extensions.{name}" for name in ("curve", "solver", "network")]
  assert saved["schedule"]["bent"] == {"high": 8.0, "low": -8.0, "power": 0.75}
  assert saved["model"]["flat"] == {"width": 8} and saved["sample"]["cautious"] == {"pull": 0.1}


def test_it_goes_on_from_its_workdir_alone_to_the_same_state(done):
  straight, resumed, outputs = done
  assert "going on from step 2" in succeeded(outputs["resume"])
  of = lambda folder: json.loads((folder / "checkpoints" / "4" / "about" / "metadata").read_text())[
    "checksums"
  ]
  assert of(straight) == of(resumed) and any("embedding" in name for name in of(straight))


def test_it_is_sampled_from_its_workdir_alone(done):
  straight, _, outputs = done
  assert "4 samples of step 4" in succeeded(outputs["sample"])
  (path,) = (straight / "samples").glob("*.npz")
  with np.load(path) as file:
    assert file["image"].shape == (4, 8, 8, 1) and len(np.unique(file["image"], axis=0)) == 4


def test_a_module_that_is_not_there_is_named(done, tmp_path):
  straight, _, _ = done
  saved = json.loads((straight / "config.json").read_text())
  saved["config"]["extensions"][1] = "tests.extensions.gone"
  (tmp_path / "config.json").write_text(json.dumps(saved))
  answer = run("main.py", f"--workdir={tmp_path}", "--mode=sample")
  assert answer.returncode == 2 and "Traceback" not in answer.stderr
  assert "config.extensions names the module 'tests.extensions.gone'" in " ".join(answer.stderr.split())
