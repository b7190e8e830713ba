"""Runs of several processes on this machine, each as a host of a slice would start it.

This process trains eight steps on eight devices. Two with four each train the same; one of them is killed in step 5,
and the run goes on from step 3, once with two processes and once with one. With pmap two processes train six steps,
and go on from step 3 once more. Two train in the latent space of another run, three steps a call and without end, and
hear Ctrl-C before their first step.

The network is two dense layers, and what one process compiles the next ones find.
"""

import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import command
import jax
import numpy as np
import pytest

from configs import digits_kl
from diffjax.data import SOURCES, pipeline
from diffjax.jobs import commandline, runs, training, workdir
from diffjax.machine import checkpoint, processes
from diffjax.models import AUTOENCODERS, MODELS
from diffjax.types import ConfigError

ROOT = Path(__file__).parents[2]
BROUGHT = ("tests.extensions.network", "tests.extensions.autoencoder")
STEPS, PMAP_STEPS = 8, 6
HEARTBEAT = 10  # seconds; a third of what users wait
CONFIG = (
  *(
    "--config=configs/digits.py",
    f"--config.extensions={BROUGHT}",
    "--config.model.name=flat",
    "--config.model.flat.width=8",
  ),
  *("--config.data.augment=flip", "--config.sample.guides=()"),
  *("--config.train.batch_size=16", "--config.train.warmup=2", "--config.train.decay=constant"),
  *(
    "--config.train.constant.rates=0.5,",
    "--config.log.every=1",
    "--config.log.samples=5",
    "--config.log.held_out=7",
  ),
  *("--config.checkpoint.every=3", "--config.sample.steps=3", "--config.parallel.check_every=2"),
)
NO_LOSSES = "--config.log.held_out=0"
SELDOM = [f"--config.{name}=999" for name in ("log.sample_every", "parallel.check_every")]
PMAP = ("--config.parallel.mode=pmap", f"--config.train.steps={PMAP_STEPS}", NO_LOSSES)
# The same main.py, which notes the rows that every step reads, and is sent a signal at the end of a step.
SPIED = """
import json, os, signal, sys, time
import main
from tests.extensions import autoencoder, network
from diffjax.machine import processes
from diffjax.data import pipeline
from diffjax.machine.parallel import Parallel

number, at, heartbeat, notes = *(int(sys.argv.pop(1)) for _ in range(3)), sys.argv.pop(1)
reader, place, steps = pipeline.chunk_reader, Parallel.place, []

def spied(source, names, seed, batch_size, rows, chunk):
  read = reader(source, names, seed, batch_size, rows, chunk)

  def noted(step):
    batch = read(step)
    sums = batch["image"].sum((2, 3, 4)).tolist() if "image" in batch else []
    with open(notes, "a") as file:
      file.write(json.dumps([step, batch["index"].tolist(), sums]) + chr(10))
    return batch

  return noted

def placed(self, *batch):
  steps.append(None)
  if len(steps) == at + 1:
    if number == signal.SIGKILL:  # once the checkpoint of step 3, which is written in the background, is whole
      (folder,) = (flag.split("=")[1] for flag in sys.argv if flag.startswith("--workdir="))
      for _ in range(600):
        if os.path.isdir(os.path.join(folder, "checkpoints", "3")):
          break
        time.sleep(0.1)
    if number == signal.SIGINT:  # a terminal sends it to the parent too
      os.kill(os.getppid(), number)
    os.kill(os.getpid(), number)
  return place(self, *batch)

pipeline.chunk_reader, Parallel.place, processes.HEARTBEAT = spied, placed, heartbeat
sys.exit(main.main())
"""


@pytest.fixture(scope="module", autouse=True)
def network():
  """The networks of these runs, known here too."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(MODELS, "flat", None)  # so that they go afterwards
    patch.setitem(AUTOENCODERS, "halves", None)
    MODELS["flat"] = importlib.import_module("tests.extensions.network").Flat
    AUTOENCODERS["halves"] = importlib.import_module("tests.extensions.autoencoder").Halves
    yield


def start(count, *arguments, notes, signalled=None, own=lambda process: ()):
  """Starts one run of `count` processes with eight devices in all; `signalled`: (process, signal, step)."""
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  kept = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if "device_count" not in flag]
  flags = [f"--xla_force_host_platform_device_count={8 // count}"]
  environment = os.environ | {
    "XLA_FLAGS": " ".join(kept + flags),
    "JAX_COMPILATION_CACHE_DIR": str(notes.parent / "compiled"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
  }
  started = []
  for process in range(count):
    join = (f"--coordinator=127.0.0.1:{port}", f"--processes={count}", f"--process={process}")
    who, number, at = signalled or (None, 0, 0)
    value = (*((number, at) if process == who else (0, -1)), HEARTBEAT)
    line = [sys.executable, "-c", SPIED, *map(str, value), f"{notes}.{process}", *CONFIG]
    line += [*arguments, *own(process), *(join if count > 1 else ())]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started.append(subprocess.Popen(line, cwd=ROOT, env=environment, **output))
  return started


def ended(started):
  """(exit status, standard error, seconds after the first ended) of every process."""
  first = None
  results = {}
  while len(results) < len(started):
    for process, child in enumerate(started):
      if process not in results and child.poll() is not None:
        first = first or time.monotonic()
        results[process] = child.returncode, child.stderr.read(), time.monotonic() - first
    time.sleep(0.1)
  return [results[process] for process in range(len(started))]


def run(*arguments, **options):
  return ended(start(*arguments, **options))


def autoencoder(folder):
  """Makes a run of no steps whose latents others use."""
  config = digits_kl.get_config()
  config.extensions, config.model.autoencoder = BROUGHT, "halves"
  run = runs.start(config, folder, "train")
  with run.checkpoints() as checkpoints:
    checkpoints.save(run.new_state(), run.about)
  workdir.save(folder, run.about, run.source, run.experiment.needs)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
  """The workdirs, and what every command answered."""
  place = tmp_path_factory.mktemp("processes")
  straight, killed, later = (place / name for name in ("straight", "killed", "later"))
  pmap, pmap_later = place / "pmap", place / "pmap_later"
  steps, outputs = f"--config.train.steps={STEPS}", {}
  two = (2, steps, f"--workdir={killed}")

  def on():
    outputs["two"] = run(*two, notes=place / "two")
    space = (
      "--config.space.name=latent",
      f"--config.space.latent.run={place / 'autoencoder'}",
      "--config.data.augment=none",
      NO_LOSSES,
    )
    far = ("--config.train.steps=999", "--config.train.steps_per_call=3", "--config.log.every=3", *SELDOM)
    arguments = (2, f"--workdir={place / 'latent'}", *far, *space)
    outputs["latent"] = run(*arguments, notes=place / "latent-rows", signalled=(1, signal.SIGINT, 0))

  def others():
    odd = lambda process: [f"--config.train.learning_rate={1e-3 * (1 + process)}"]
    outputs["odd"] = run(2, steps, f"--workdir={place / 'odd'}", notes=place / "odd", own=odd)
    outputs["pmap"] = run(2, *PMAP, f"--workdir={pmap}", notes=place / "pmap-rows")
    shutil.copytree(pmap, pmap_later)
    shutil.rmtree(pmap_later / "checkpoints" / f"{PMAP_STEPS}")
    outputs["pmap later"] = run(2, *PMAP, f"--workdir={pmap_later}", notes=place / "pmap-later-rows")

  autoencoder(place / "autoencoder")
  with ThreadPoolExecutor() as pool:
    jobs = [pool.submit(others)]
    outputs["killed"] = run(*two, notes=place / "killed", signalled=(1, signal.SIGKILL, 5))
    shutil.copytree(killed, later)
    jobs.append(pool.submit(on))
    config = workdir.load(killed)
    training.train(config, straight)
    training.train(config, later)
    for job in jobs:
      job.result()
  return place, outputs


def succeeded(answers):
  for status, text, _ in answers:
    assert status == 0, text
    assert "Traceback" not in text
  return answers[0][1]


def read_rows(notes, count):
  """step -> the images' sums in the order of the global batch, and the places that each process read."""
  batches, places = {}, []
  for process in range(count):
    lines = [json.loads(line) for line in Path(f"{notes}.{process}").read_text().splitlines()]
    places.append(lines[0][1][0])
    for step, index, sums in lines:
      batches.setdefault(step, {}).update(zip(index[0], sums[0], strict=True))
  return {step: [batch[i] for i in range(16)] for step, batch in batches.items() if len(batch) == 16}, places


def final(folder, step=STEPS):
  run = runs.start(workdir.load(folder), folder)
  with checkpoint.Checkpoints(folder / "checkpoints") as checkpoints:
    return jax.device_get(run.restore(checkpoints, step))


def losses(folder):
  lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
  return {line["step"]: line["loss"] for line in lines if "loss" in line}


def require_equal(straight, later):
  """Of two runs with pmap the losses of every step, and every bit of the last state."""
  expected, result = losses(straight), losses(later)
  assert result == expected and sorted(result) == list(range(1, PMAP_STEPS + 1))
  one, other = (final(folder, PMAP_STEPS) for folder in (straight, later))
  for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
    x, y = (jax.random.key_data(z) if z.dtype == one.key.dtype else z for z in (x, y))
    np.testing.assert_array_equal(x, y)


def test_a_killed_process_ends_the_others_within_the_stated_time(done):
  _, outputs = done
  (status, text, seconds), (other, rest, _) = outputs["killed"]
  assert status == other == 1
  assert seconds < HEARTBEAT + 15
  assert "another process of the run has ended" in text and "go on from the last checkpoint" in text
  assert "this process was ended by SIGKILL" in rest


def test_several_processes_read_the_batches_of_one(done):
  place, _ = done
  read = pipeline.chunk_reader(SOURCES["digits"]("train"), ("image",), 0, 16, np.arange(16), 1)
  for name in ("killed", "two"):
    result, places = read_rows(place / name, 2)
    assert len(result) >= 4
    for step, sums in result.items():
      assert sums == read(step)["image"].sum((2, 3, 4))[0].tolist(), (name, step)
    assert sorted(places[0] + places[1]) == list(range(16)) and len(places[0]) == 8


@pytest.mark.parametrize("folder", ["killed", "later"])
def test_a_run_goes_on_with_any_number_of_processes(done, folder):
  place, outputs = done
  succeeded(outputs["two"])
  assert "going on from step 3" in (place / folder / "log.txt").read_text()
  expected, result = losses(place / "straight"), losses(place / folder)
  assert sorted(result) == list(range(1, STEPS + 1))
  for step, loss in expected.items():
    assert result[step] == pytest.approx(loss, rel=1e-4), step
  one, other = (jax.tree.leaves(final(place / at).params) for at in ("straight", folder))
  for x, y in zip(one, other, strict=True):
    np.testing.assert_allclose(x, y, atol=1e-4)


def test_pmap_goes_on_with_the_numbers_of_an_undisturbed_run(done):
  place, outputs = done
  assert "training: " in succeeded(outputs["pmap"])
  assert "going on from step 3" in succeeded(outputs["pmap later"])
  straight, result = (losses(place / name) for name in ("straight", "pmap_later"))
  for step, loss in result.items():
    assert loss == pytest.approx(straight[step], rel=1e-4), step
  require_equal(place / "pmap", place / "pmap_later")


@pytest.mark.slow
def test_pmap_that_was_killed_goes_on_with_the_numbers_of_an_undisturbed_run(done):
  place, _ = done
  arguments = (2, *PMAP, f"--workdir={place / 'pmap_killed'}")
  answers = run(*arguments, notes=place / "pmap-killed-rows", signalled=(1, signal.SIGKILL, 4))
  assert [status for status, *_ in answers] == [1, 1]
  assert {3} == {int(path.name) for path in (place / "pmap_killed" / "checkpoints").glob("[0-9]")}
  assert "going on from step 3" in succeeded(run(*arguments, notes=place / "pmap-killed-later-rows"))
  require_equal(place / "pmap", place / "pmap_killed")


def test_a_run_on_several_processes_uses_another_run(done):
  place, outputs = done
  assert "encoding latent" in succeeded(outputs["latent"])
  config, result = workdir.load(place / "latent"), losses(place / "latent")
  assert config.space.latent.run == str(place / "autoencoder")
  config.train.steps = max(result)
  training.train(config, place / "latent here")
  expected = losses(place / "latent here")
  assert 3 in result and result.keys() == expected.keys()
  for step, loss in expected.items():
    assert result[step] == pytest.approx(loss, rel=1e-4), step


def test_a_process_with_another_config_ends_all(done):
  place, outputs = done
  for status, text, _ in outputs["odd"]:
    assert status == 1
    assert "Process 1 of 2 runs something else: config.train.learning_rate is 0.002 there and 0.001" in text
  assert not (place / "odd" / "checkpoints").exists()


def test_a_polite_stop_of_one_is_a_stop_of_all(done):
  place, outputs = done
  text = succeeded(outputs["latent"])
  names = [path.name for path in (place / "latent" / "checkpoints").iterdir()]
  step = max(int(name) for name in names if name.isdigit())
  assert step < 999 and f"SIGTERM: step {step} is saved" in text


def test_a_second_interrupt_ends_a_process_and_its_child():
  child = "import sys, time, signal; from diffjax.machine import processes; processes.is_child();"
  child += "signal.signal(signal.SIGTERM, lambda *_: print('SIGTERM', flush=True));"
  child += "print('ready', flush=True); [time.sleep(0.1) for _ in range(600)]"
  parent = (
    f"import sys; from diffjax.machine import processes; processes.watched([sys.executable, '-c', {child!r}])"
  )
  output = {"stdout": subprocess.PIPE, "text": True, "start_new_session": True}
  with subprocess.Popen([sys.executable, "-c", parent], cwd=ROOT, **output) as started:
    assert started.stdout.readline() == "ready\n"
    os.killpg(started.pid, signal.SIGINT)
    assert started.stdout.readline() == "SIGTERM\n"
    os.killpg(started.pid, signal.SIGINT)
    assert started.stdout.read() == ""  # until the child, who holds it too, has ended
    assert started.wait() == -signal.SIGINT


def joined(**environment):
  """What a process answers that joins with these variables alone: the GPUs it takes, or an error."""
  code = "import jax; from diffjax.machine import processes; processes.join(None, None, None);"
  code += "print(jax.config.values['jax_cuda_visible_devices'])"
  environment |= {"PATH": os.environ["PATH"], "JAX_PLATFORMS": "cpu"}
  return subprocess.run(
    [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
  )


def test_a_slurm_task_that_is_alone_in_its_node_takes_all_gpus():
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  alone = {"SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_NUM_NODES": "1", "SLURM_NTASKS": "1"}
  alone |= {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "JAX_COORDINATOR_PORT": str(port)}
  result = joined(**alone)
  assert result.stdout == "all\n", result.stderr


@pytest.mark.parametrize(
  "environment, expected",
  [
    ({"SLURM_STEP_NUM_NODES": "8", "SLURM_NTASKS": "8"}, []),
    ({"SLURM_STEP_NUM_NODES": "8", "SLURM_NTASKS": "64"}, None),
    ({"SLURM_STEP_NUM_NODES": "8", "SLURM_NTASKS": "8", "JAX_LOCAL_DEVICE_IDS": "0,1"}, None),
    ({}, None),
  ],
)
def test_tasks_that_share_a_node_are_left_to_jax(environment, expected):
  assert processes.local_devices(environment) == expected


def test_a_machine_that_knows_no_others_is_told():
  result = joined()
  assert "ConfigError: JAX does not find out which processes this run has" in result.stderr


@pytest.mark.parametrize(
  "flags, message",
  [
    (("host:1", None, 0), "--processes is not given"),
    (("host", 2, 0), "--coordinator=host is no HOST:PORT"),
    (("localhost:99999", 2, 0), "--coordinator=localhost:99999 is no HOST:PORT, with a port from 1 to 65535"),
    (("host:1", 0, 0), "--processes=0; it must be at least 1"),
    (("host:1", 2, 2), "--process=2 of --processes=2; it must be 0 to 1"),
  ],
)
def test_flags_that_do_not_fit_are_told(flags, message):
  with pytest.raises(ConfigError, match=message):
    processes.several(*flags)


def test_processes_wait_for_each_other_as_long_as_they_are_told(monkeypatch, capsys, tmp_path):
  waits = []
  monkeypatch.setattr(processes, "watched", lambda command, seconds: waits.append(seconds) or 0)
  arguments = ("--coordinator=host:1", "--processes=2", "--process=1", f"--workdir={tmp_path}")
  for more in ((), ("--join=7",)):
    argv = command.line("--config=configs/digits.py", *arguments, *more)
    assert commandline.run({}, argv, "") == 0
  assert waits == [processes.JOIN, 7]

  def initialize(*_, initialization_timeout, **__):
    raise RuntimeError(f"gone after {initialization_timeout}.")

  monkeypatch.setattr(jax.distributed, "initialize", initialize)
  with pytest.raises(ConfigError, match="within 7 seconds: gone after 7. Start .* longer --join=SECONDS"):
    processes.join("host:1", 2, 1, 7)
  assert "waiting up to 7 seconds for process 0 at host:1" in capsys.readouterr().err


def test_one_process_is_not_several(monkeypatch):
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  monkeypatch.delenv("SLURM_STEP_NODELIST", raising=False)
  assert not processes.several(None, None, None) and not processes.several("host:1", 1, 0)
  monkeypatch.setenv("SLURM_NTASKS", "2")  # a batch script's
  assert not processes.several(None, None, None)
  monkeypatch.setenv("SLURM_STEP_NODELIST", "node[1-2]")
  assert processes.several(None, None, None)
