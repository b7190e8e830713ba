"""main.py as a user runs it: each mode, finished runs, and resuming after a kill, bit for bit.

Two runs of the same 8 steps, each command a process of its own. One goes straight through. The other ends
after 3 steps, is told to go on and killed in step 5, goes on and is asked to stop in step 5, and finishes.
"""

import json
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from diffjax.data import SOURCES, order, pipeline
from diffjax.jobs import runs, workdir
from diffjax.machine import checkpoint, parallel

ROOT = Path(__file__).parents[1]
STEPS = 8
CONFIG = (
  *("--config=configs/digits.py", "--config.model.name=dit", "--config.model.dit.channels=16"),
  *("--config.model.dit.blocks=1", "--config.model.dit.heads=2", "--config.model.dit.patch=4"),
  *("--config.data.augment=flip", "--config.sample.guides=('clip',)", "--config.sample.batch_size=64"),
  *("--config.train.batch_size=16", "--config.train.warmup=4", "--config.train.decay=constant"),
  *("--config.train.constant.rates=0.5,0.99", "--config.log.every=2", "--config.log.samples=5"),
  *("--config.log.held_out=7", "--config.checkpoint.every=3", "--config.sample.steps=3"),
)
LOGGED = (2, 3, 4, 6, 8)  # every second step, and where a checkpoint is saved
# The same main.py with a metric that needs no network, in which the process is sent a signal once the metrics of a
# step, or in an evaluation the shard of samples that starts there, are written.
PROGRAM = """
import os, sys
import main
from diffjax.data import cache
from diffjax.machine.reporting import Reporter
from diffjax.metrics import METRICS
from diffjax.metrics.metric import Metric

def brightness(train, test, parallel):
  features = lambda samples, asked: {"levels": samples["image"].mean((1, 2, 3))}
  score = lambda features: {"level": float(features["levels"].mean())}
  return Metric(("image",), features, score, floor={}, settings={})

METRICS["brightness"] = brightness
number, at = int(sys.argv.pop(1)), int(sys.argv.pop(1))
written, saved = Reporter.metrics, cache.save_fields

def metrics(self, step, values):
  written(self, step, values)
  if step == at:
    os.kill(os.getpid(), number)

def save(path, fields):
  saved(path, fields)
  if path.name == f"seed0_{at:07d}.npz":
    os.kill(os.getpid(), number)

Reporter.metrics, cache.save_fields = metrics, save
sys.exit(main.main())
"""


@pytest.fixture(scope="module")
def main(tmp_path_factory):
  """Runs a command on one CPU device; compiled functions are kept for the next one."""
  cache = tmp_path_factory.mktemp("compiled")
  flags = re.sub(r"--xla_force_host_platform_device_count=\d+", "", os.environ.get("XLA_FLAGS", "")).strip()
  environment = os.environ | {
    "XLA_FLAGS": flags,
    "JAX_COMPILATION_CACHE_DIR": str(cache),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_LOG_COMPILES": "1",
  }
  environment.pop("NPROC", None)

  def run(*arguments, signalled=(0, -1), program=PROGRAM):
    started = ["-c", program, *map(str, signalled)] if program else ["main.py"]
    command = [sys.executable, *started, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)

  return run


@pytest.fixture(scope="module")
def done(main, tmp_path_factory):
  """The two runs' workdirs, and what every command of theirs answered."""
  straight, broken = (tmp_path_factory.mktemp(name) / "run" for name in ("straight", "broken"))
  steps = f"--config.train.steps={STEPS}"
  judge = lambda *metrics: (
    *("--mode=eval", "--config.eval.seeds=1", "--config.eval.shard=600"),
    f"--config.eval.metrics={metrics!r}",
  )
  outputs = {}
  train = (*CONFIG, steps, f"--workdir={straight}")
  outputs["train"] = main(*train)  # alone: what it compiles the others find
  succeeded(outputs["train"])

  def first():
    outputs["sample"] = main(
      f"--workdir={straight}", "--mode=sample", "--config.sample.count=11", program=None
    )
    outputs["eval"] = main(f"--workdir={straight}", *judge("classifier", "brightness"))

  def second():
    train = (*CONFIG, steps, f"--workdir={broken}")
    outputs["short"] = main(*CONFIG, "--config.train.steps=3", f"--workdir={broken}")
    succeeded(outputs["short"])
    outputs["killed"] = main(*train, signalled=(signal.SIGKILL, 4))
    outputs["left"] = sorted(path.name for path in (broken / "checkpoints").iterdir() if path.name.isdigit())
    outputs["stopped"] = main(*train, signalled=(signal.SIGTERM, 4))
    outputs["finished"] = main(*train)
    outputs["eval killed"] = main(
      f"--workdir={broken}", *judge("brightness"), signalled=(signal.SIGKILL, 600)
    )
    outputs["shards"] = sorted(p.name for p in (broken / "eval").rglob("*.npz") if "." not in p.stem)
    outputs["judged"] = (broken / "eval" / str(STEPS) / "metrics.json").exists()
    outputs["eval again"] = main(f"--workdir={broken}", *judge("brightness"))

  with ThreadPoolExecutor() as pool:
    for job in [pool.submit(first), pool.submit(second)]:
      job.result()
  return straight, broken, outputs


def succeeded(answer):
  assert answer.returncode == 0, answer.stderr
  assert "Traceback" not in answer.stderr
  return answer.stderr


def lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def test_training_leaves_a_whole_workdir(done):
  folder, _, outputs = done
  assert f"step {STEPS}/{STEPS}" in succeeded(outputs["train"])
  about = json.loads((folder / "config.json").read_text())
  assert set(about) >= {"config", "commit", "packages", "data", "examples", "fields", "uses"}
  assert about["host"] and any(argument.startswith("--config=") for argument in about["command"])
  assert about["uses"] == {} and about["examples"] == len(SOURCES["digits"]("train"))
  image = {"shape": [8, 8, 1], "dtype": "uint8", "classes": 0}
  assert about["fields"]["image"] | image == about["fields"]["image"]
  settings = about["config"]["train"]
  assert settings["steps"] == STEPS and settings["constant"]["rates"] == [0.5, 0.99]
  assert about["packages"]["jax"] == jax.__version__
  head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
  assert about["commit"] is None if head.returncode else about["commit"].startswith(head.stdout.strip())
  result = lines(folder / "metrics.jsonl")
  losses = {line["step"]: line["loss"] for line in result if "loss" in line}
  assert tuple(losses) == LOGGED and all(0 < loss < 3 for loss in losses.values())
  rates = [line["learning_rate"] for line in result if "learning_rate" in line]
  np.testing.assert_allclose(rates, np.minimum(np.asarray(LOGGED) / 4, 1) * 1e-3, rtol=1e-6)
  assert all(line["images_per_second"] > 0 for line in result if line["step"] == STEPS and "loss" in line)
  held_out = {name.split("/")[1] for line in result for name in line if name.startswith("held_out/")}
  assert held_out == {"raw", "ema_0.5", "ema_0.99"}
  events = b"".join(path.read_bytes() for path in (folder / "tensorboard").glob("events.*"))
  assert all(picture in events for picture in (b"samples", b"strip", b"fed"))
  log = (folder / "log.txt").read_text()
  assert f"step {STEPS}/{STEPS}" in log and "training: " in log and "\x1b" not in log
  assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["6", "8"]


def test_training_draws_samples_and_a_denoising_strip(done):
  folder, _, outputs = done
  grid, strip = (
    np.asarray(Image.open(folder / "samples" / f"{n}_{STEPS:08d}.png")) for n in ("grid", "strip")
  )
  assert grid.dtype == strip.dtype == np.uint8 and grid.ndim == 2  # digits are grey
  assert grid.std() > 5 and strip.std() > 5
  assert strip.shape[0] > strip.shape[1]  # five samples down; x_T, two stops and the end across
  assert f"grid_{STEPS:08d}.png" in outputs["train"].stderr
  for picture in ("samples/fed.png", "losses.png"):
    Image.open(folder / picture).load()


def test_a_warm_up_that_training_does_not_see_the_end_of_is_told(done):
  assert "warning: config.train.warmup is 4 and config.train.steps 3: the" in succeeded(done[2]["short"])


def test_sampling_needs_only_the_workdir(done):
  folder, _, outputs = done
  assert f"11 samples of step {STEPS}, ema_0.5 weights" in succeeded(outputs["sample"])
  (path,) = (folder / "samples").glob("*.npz")
  with np.load(path, allow_pickle=False) as file:
    assert set(file.files) == {"image", "label"}
    images, labels = file["image"], file["label"]
  assert images.shape == (11, 8, 8, 1) and images.dtype == np.uint8
  np.testing.assert_array_equal(labels, [*range(10), 0])
  assert len({image.tobytes() for image in images}) == 11
  for kind in ("grid", "strip"):
    Image.open(f"{path.with_suffix('')}_{kind}.png").load()


def test_a_step_and_a_walk_compile_once(done):
  _, _, outputs = done
  times = lambda name, function: outputs[name].stderr.count(f"Finished XLA compilation of jit({function})")
  assert times("train", "whole") == times("finished", "whole") == 1  # the step
  assert times("train", "advance") == times("sample", "advance") == 1  # the grid and the strip
  assert times("train", "measure") == 1  # held out: every band and all weights


def test_evaluation_writes_values_floors_and_settings(done):
  folder, _, outputs = done
  table = succeeded(outputs["eval"])
  assert "classifier frechet" in table and "classifier agreement" in table
  report = json.loads((folder / "eval" / str(STEPS) / "metrics.json").read_text())
  train = SOURCES["digits"]("train")
  assert report["step"] == STEPS and report["samples"] == len(train) and report["seeds"] == [0]
  assert report["weights"] == "ema_0.5" and report["evaluations"] == 3
  assert report["sample"]["sampler"] == "dpmpp_2m" and report["sample"]["guides"] == ["clip"]
  assert report["initial_share"] == 0.5**STEPS
  kept = [path for path in (folder / "eval" / str(STEPS)).glob("metrics-*.json")]
  assert [json.loads(path.read_text()) for path in kept] == [report]
  labels = {name: value for line in lines(folder / "metrics.jsonl") for name, value in line.items()}
  assert labels["eval/classifier/frechet"] == report["metrics"]["classifier"]["values"]["frechet"]["value"]
  summary = report["metrics"]["classifier"]
  assert summary["settings"]["trained_on"] == train.fingerprint
  assert SOURCES["digits"]("test").fingerprint in summary["settings"]["reference"]
  for name, value in summary["values"].items():
    assert value["value"] == np.median(value["of_seeds"]) and len(value["of_seeds"]) == 1, name
  frechet, agreement = (summary["values"][name] for name in ("frechet", "agreement"))
  assert frechet["value"] > 10 * frechet["floor"] > 0  # eight steps are no training
  assert 0 <= agreement["value"] < 0.5 < 0.9 < agreement["floor"] <= 1
  assert frechet["better"] == "lower" and agreement["better"] == "higher"
  for picture in ("grid", "nearest"):
    Image.open(folder / "eval" / str(STEPS) / f"{picture}.png").load()


def test_a_killed_evaluation_goes_on_to_the_same_numbers(done):
  straight, broken, outputs = done
  assert outputs["eval killed"].returncode == -signal.SIGKILL
  assert outputs["shards"] == ["seed0_0000000.npz", "seed0_0000600.npz"] and not outputs["judged"]
  succeeded(outputs["eval again"])
  reports = [
    json.loads((folder / "eval" / str(STEPS) / "metrics.json").read_text()) for folder in (straight, broken)
  ]
  for report in reports:
    assert report.pop("seconds") > 0 and report.pop("images_per_second") > 0
    report["metrics"].pop("classifier", None)
  assert reports[0] == reports[1] and reports[0]["metrics"]["brightness"]["values"]["level"]["value"] > 0
  shards = [sorted((folder / "eval").rglob("seed0_???????.npz")) for folder in (straight, broken)]
  assert len(shards[0]) == 3
  for one, other in zip(*shards, strict=True):
    with np.load(one) as ours, np.load(other) as theirs:
      np.testing.assert_array_equal(ours["image"], theirs["image"])


def test_a_kill_loses_only_the_steps_since_the_last_checkpoint(done):
  _, _, outputs = done
  assert "finished: step 3" in succeeded(outputs["short"])
  assert outputs["killed"].returncode == -signal.SIGKILL
  assert "going on from step 3" in outputs["killed"].stderr
  assert outputs["left"] == ["3"]
  assert "going on from step 3" in outputs["stopped"].stderr


def test_a_polite_stop_saves_the_step_and_says_so(done):
  _, _, outputs = done
  stopped = succeeded(outputs["stopped"])
  assert "SIGTERM: step 5 is saved; the same command goes on from there." in stopped
  assert "finished" not in stopped
  assert "going on from step 5" in succeeded(outputs["finished"])


def test_interrupted_and_straight_runs_are_equal_bit_for_bit(done):
  straight, broken, _ = done
  states = []
  for folder in (straight, broken):
    run = runs.start(workdir.load(folder), folder)
    with checkpoint.Checkpoints(folder / "checkpoints") as checkpoints:
      states.append(run.restore(checkpoints, STEPS))
  flat = [jax.tree_util.tree_leaves_with_path(state) for state in states]
  assert len(flat[0]) > 5 * 20
  for (path, one), (_, other) in zip(*flat, strict=True):
    if jax.numpy.issubdtype(one.dtype, jax.dtypes.prng_key):
      one, other = jax.random.key_data(one), jax.random.key_data(other)
    assert np.asarray(one).tobytes() == np.asarray(other).tobytes(), jax.tree_util.keystr(path)
  assert int(states[0].step) == STEPS
  assert states[0].params is not states[1].params

  def change(folder):
    results = [line for line in lines(folder / "metrics.jsonl") if "eval/brightness/level" not in line]
    for line in results:
      line.pop("images_per_second", None)
    return [line for line in results if "loss" in line] + [line for line in results if line["step"] == STEPS]

  assert change(straight) == change(broken) and len(change(straight)) == len(LOGGED) + 2
  grids = [(folder / "samples" / f"grid_{STEPS:08d}.png").read_bytes() for folder in (straight, broken)]
  assert grids[0] == grids[1]


def test_the_next_batch_after_a_restart_is_the_one_that_was_next():
  source = SOURCES["digits"]("train")
  with pipeline.batches(source, seed=0, start_step=STEPS, batch_size=16) as ahead:
    batch = next(ahead)
  with pipeline.batches(source, seed=0, start_step=0, batch_size=16) as ahead:
    whole = [next(ahead) for _ in range(STEPS + 1)][-1]
  expected = source.read(order.indices(0, STEPS, 16, len(source)))
  for name in ("image", "label"):
    np.testing.assert_array_equal(batch[name][0], whole[name][0])
    np.testing.assert_array_equal(batch[name][0], expected[name])
  assert parallel.create().device_count == 8  # the restored states above were read by more devices than wrote
