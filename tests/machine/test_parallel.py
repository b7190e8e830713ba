"""Meshes of several axes against one device; where arrays lie, what is communicated, copies that differ."""

import re
import subprocess

import jax
import numpy as np
import pytest
from dense import Network
from jax.sharding import Mesh

from diffjax import config as configs
from diffjax import experiment, keys
from diffjax.data import SOURCES
from diffjax.data.pipeline import chunk_reader
from diffjax.data.source import Field
from diffjax.jobs import runs, training, workdir
from diffjax.jobs.train_step import make_chunk, make_step
from diffjax.machine import consistency, parallel, state
from diffjax.machine.parallel import AXES, Parallel
from diffjax.models import MODELS
from diffjax.types import ConfigError, RunError

B, STEPS, SMALL = 16, 20, 512
MESHES = {"one": (1, 1, 1), "data": (8, 1, 1), "fsdp": (1, 8, 1), "model": (1, 1, 8), "all": (2, 2, 2)}


def mesh(shape):
  devices = np.asarray(jax.devices()[: int(np.prod(shape))]).reshape(shape)
  return Parallel("jit", Mesh(devices, AXES), SMALL)


@pytest.fixture(scope="module")
def parts():
  config = configs.base()
  config.model.name, config.condition.names = "mine", ("label",)
  config.train.averages = ("constant",)
  config.train.batch_size, config.train.learning_rate, config.train.constant.rates = B, 1e-3, (0.9,)
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(MODELS, "mine", Network)
    return experiment.create(config, {"image": Field((8, 8, 1), "uint8"), "label": Field((), "int32", 10)})


def new_state(parts):
  return state.create(parts.task.init(keys.seed(7)), parts.optimizer, parts.averages, keys.seed(3))


def read(rows, step):
  return chunk_reader(SOURCES["digits"]("train"), (), 0, B, rows, 1)(step)


@pytest.fixture(scope="module")
def trained(parts):
  """Mesh -> its devices, the step's compiled text, the losses and the last state."""
  results = {}
  for name, shape in MESHES.items():
    devices = mesh(shape)
    now, losses = devices.init(lambda: new_state(parts)), []
    step_of, traces = make_step(parts), []
    take = devices.train(make_chunk(lambda *inputs: traces.append(0) or step_of(*inputs)))  # noqa: B023
    text = take.lower(now, {}, devices.place(read(devices.rows(B), 0), B)).compile().as_text()
    for step in range(STEPS):
      now, metrics = take(now, {}, devices.place(read(devices.rows(B), step), B))
      losses.append(float(metrics["loss"][0]))
    assert len(traces) == 1  # nothing is compiled again
    results[name] = devices, text, losses, now
  return results


@pytest.mark.parametrize("name", [name for name in MESHES if name != "one"])
def test_every_mesh_trains_as_one_device_does(trained, name):
  _, _, expected, one = trained["one"]
  _, _, losses, other = trained[name]
  np.testing.assert_allclose(losses, expected, rtol=1e-5)
  for x, y in zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True):
    np.testing.assert_allclose(x, y, atol=2e-5)


def kernels(now):
  trees = (now.params, now.ema["ema_0.9"], now.opt_state)
  leaves = [leaf for tree in trees for leaf in jax.tree.leaves(tree)]
  return [leaf for leaf in leaves if leaf.shape == (64, 64)]


@pytest.mark.parametrize(
  "name, part", [("data", (64, 64)), ("fsdp", (8, 64)), ("model", (64, 8)), ("all", (32, 32))]
)
def test_large_arrays_are_cut_and_small_ones_are_not(trained, name, part):
  now = trained[name][3]
  assert len(kernels(now)) == 3 * 4  # three layers: parameters, average and Adam's two moments
  for leaf in kernels(now):
    assert {shard.data.shape for shard in leaf.addressable_shards} == {part}
  assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(now) if leaf.size < SMALL)


def collectives(text):
  return set(re.findall(r"\b(all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)\(", text))


def test_what_is_communicated(trained):
  results = {name: collectives(text) for name, (_, text, *_) in trained.items()}
  assert results["one"] == set()
  assert results["data"] == {"all-reduce"}
  assert "all-gather" in results["fsdp"] and results["fsdp"] & {"all-reduce", "reduce-scatter"}
  assert results["model"]


def test_a_state_of_one_mesh_starts_sharded(parts):
  devices = mesh((1, 8, 1))
  now = devices.init(lambda: new_state(parts))
  abstract = devices.abstract(lambda: new_state(parts))
  for leaf, like in zip(jax.tree.leaves(now), jax.tree.leaves(abstract), strict=True):
    assert leaf.sharding.is_equivalent_to(like.sharding, leaf.ndim)
  assert {shard.data.shape for shard in kernels(now)[0].addressable_shards} == {(8, 64)}


@pytest.mark.parametrize("name", ["data", "all"])
def test_copies_that_differ_in_a_bit_are_found(trained, name):
  devices, _, _, now = trained[name]
  copies = consistency.Copies(devices, now)
  copies.check(now, 20)
  with pytest.raises(
    RunError, match="At step 40 process 0 does not hold the numbers that process 0 holds of"
  ):
    copies.check(broken(now, kernels(now)[0]), 40)


def broken(now, leaf):
  """The state with one bit of one device's copy of a leaf flipped."""
  parts = [np.asarray(shard.data).copy() for shard in leaf.addressable_shards]
  parts[5].view(np.uint32).flat[7] ^= 1
  wrong = jax.make_array_from_single_device_arrays(
    leaf.shape,
    leaf.sharding,
    [jax.device_put(part, shard.device) for part, shard in zip(parts, leaf.addressable_shards, strict=True)],
  )
  return jax.tree.map(lambda x: wrong if x is leaf else x, now)


def short():
  """A config of a run that is soon made."""
  config = configs.base()
  config.model.name, config.condition.names, config.extensions = "mine", ("label",), ("dense",)
  config.train.steps, config.train.warmup, config.train.batch_size = 8, 0, B
  config.log.every = config.log.sample_every = config.checkpoint.every = config.parallel.check_every = 8
  config.compile_cache = False
  return config


def test_copies_are_compared_before_the_first_step(monkeypatch, tmp_path):
  new_state = runs.Run.new_state

  def odd(run):
    now = new_state(run)
    return broken(now, next(x for x in jax.tree.leaves(now.params) if x.ndim == 2))

  monkeypatch.setitem(MODELS, "mine", Network)
  monkeypatch.setattr(runs.Run, "new_state", odd)
  monkeypatch.setattr(Parallel, "train", lambda *_: lambda *_: pytest.fail("a step was made"))
  with pytest.raises(RunError, match="At step 0 process 0 does not hold the numbers"):
    training.train(short(), tmp_path)


@pytest.mark.parametrize("mine, other, name", [("train", "eval", "--mode"), ("here", "there", "--workdir")])
def test_processes_do_the_same_in_the_same_folder(monkeypatch, tmp_path, mine, other, name):
  monkeypatch.setitem(MODELS, "mine", Network)
  monkeypatch.setattr(Parallel, "texts", lambda self, text: [text, re.sub(rf"\b{mine}\"", f'{other}"', text)])
  with pytest.raises(RunError, match=f"Process 1 of 2 runs something else: {name} is .*{other}' there"):
    runs.start(short(), tmp_path / "here", "train")


def test_changes_of_the_code_are_told_apart(monkeypatch, tmp_path):
  def git(*words):
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    subprocess.run(["git", "-C", tmp_path, *who, *words], check=True, capture_output=True)

  code = tmp_path / "diffjax" / "jobs" / "workdir.py"
  code.parent.mkdir(parents=True)
  monkeypatch.setattr(workdir, "__file__", str(code))
  git("init")
  results = []
  for text in ("one", "two", "three", "two"):
    code.write_text(text)
    if not results:
      git("add", ".")
      git("commit", "--message=one")
    results.append(workdir.commit())
  head, two, three, again = results
  assert len(head) == 40 and two.startswith(f"{head}+changes-") and three.startswith(f"{head}+changes-")
  assert two == again != three


def test_what_processes_run_is_compared():
  class Two:
    texts = staticmethod(lambda text: [text, text.replace("1.0", "2.0")])

  consistency.require_same(mesh((8, 1, 1)), {"version": "1.0"})
  with pytest.raises(
    RunError, match="Process 1 of 2 runs something else: b is '2.0' there and '1.0' in process 0"
  ):
    consistency.require_same(Two(), {"a": 3, "b": "1.0"})


@pytest.mark.parametrize(
  "sizes, message",
  [
    (dict(mode="mpi"), "^mode is 'mpi'; it must be one of jit, pmap"),
    (dict(data=3), "data x fsdp x model is 3 x 1 x 1, which does not multiply to the 8 devices"),
    (dict(fsdp=3), "data x fsdp x model is the rest x 3 x 1, which does not multiply to the 8 devices"),
    (dict(fsdp=0), "^fsdp is 0; it must be at least 1"),
    (dict(data=-1), "^data is -1; it must be at least 1"),
    (dict(mode="pmap", fsdp=2), "fsdp is 2 and model 1; set these to 1, or mode to 'jit'"),
  ],
)
def test_meshes_that_cannot_be_are_told(sizes, message):
  with pytest.raises(ConfigError, match=message):
    parallel.create(**sizes)


def test_a_mesh_takes_the_rest_for_data():
  devices = parallel.create(fsdp=2, model=2)
  assert dict(devices.mesh.shape) == {"data": 2, "fsdp": 2, "model": 2}
  assert devices.batch_devices == 4 and devices.padded(5) == 8
  np.testing.assert_array_equal(devices.rows(8), np.arange(8))
  with pytest.raises(ConfigError, match="x is 6, which 4 devices do not divide"):
    parallel.check_batch(devices, "x", 6)
