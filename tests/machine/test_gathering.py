"""Every mesh of eight devices against one: a U-Net's gradients, leaf by leaf; and the partitioner's fault itself."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from diffjax import config as configs
from diffjax import experiment, keys
from diffjax.data import SOURCES
from diffjax.data.pipeline import chunk_reader
from diffjax.data.source import Field
from diffjax.jobs.train_step import make_chunk, make_step
from diffjax.machine import state
from diffjax.machine.parallel import AXES, DATA, FSDP, MODEL, Parallel
from diffjax.models import conv

B = 16
MESHES = [shape for shape in itertools.product((1, 2, 4, 8), repeat=3) if np.prod(shape) == 8]


def mesh(shape):
  return Mesh(np.asarray(jax.devices()[: int(np.prod(shape))]).reshape(shape), AXES)


@pytest.fixture(scope="module", autouse=True)
def as_on_accelerators():
  """Convolutions that the partitioner sees as such."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(conv, "fastest_on_cpu", lambda *shapes: "lax")
    yield


def make(accumulate=1):
  """A U-Net of one level for classes, and an optimizer whose state is the last gradient."""
  config = configs.base()
  config.model.unet.channels, config.model.unet.multipliers, config.model.unet.blocks = 32, (1,), 1
  config.model.unet.attention, config.model.unet.dropout, config.condition.names = (), 0.0, ("label",)
  config.train.averages = ("constant",)
  config.train.batch_size, config.train.accumulate, config.train.constant.rates = B, accumulate, (0.9,)
  fields = {"image": Field((8, 8, 1), "uint8"), "label": Field((), "int32", 10)}
  return dataclasses.replace(experiment.create(config, fields), optimizer=optax.trace(decay=0.0))


@pytest.fixture(scope="module")
def start():
  """The state before the step, moved from where training starts: there zeros hide the gradients of others."""
  here, rng = make(), np.random.default_rng(0)
  shapes = jax.eval_shape(here.task.init, keys.seed(7))
  params = jax.tree.map(lambda x: 0.1 * rng.standard_normal(x.shape, np.float32), shapes)
  now = state.create(params, here.optimizer, here.averages, keys.seed(3))
  return jax.tree.map(lambda x: np.asarray(x) if x.dtype == np.float32 else x, now)


def gradients(start, shape, accumulate=1):
  """The gradients of a training step on a mesh, by path."""
  devices = Parallel("jit", mesh(shape), small=512)
  batch = chunk_reader(SOURCES["digits"]("train"), (), 0, B, devices.rows(B), 1)(0)
  now = jax.tree.map(lambda x: jax.device_put(jnp.copy(x), devices.of_state(x.shape)), start)
  after, _ = devices.train(make_chunk(make_step(make(accumulate))))(now, {}, devices.place(batch, B))
  leaves = jax.tree_util.tree_leaves_with_path(after.opt_state.trace)
  return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


@pytest.fixture(scope="module")
def alone(start):
  return gradients(start, (1, 1, 1))


def errors(result, expected):
  """Of each leaf, relative to its largest number."""
  assert result.keys() == expected.keys()
  error = lambda x, y: float(np.abs(np.asarray(x) - np.asarray(y)).max() / np.abs(np.asarray(y)).max())
  return {name: error(result[name], expected[name]) for name in expected}


FIRST = ((2, 2, 2), (1, 4, 2))  # the others are in make test-slow
EVERY = [pytest.param(shape, 1, marks=() if shape in FIRST else pytest.mark.slow) for shape in MESHES]


@pytest.mark.parametrize("shape, accumulate", [*EVERY, ((2, 2, 2), 2)], ids=lambda x: str(x).strip("()"))
def test_every_mesh_has_the_gradients_of_one_device(start, alone, shape, accumulate):
  result = gradients(start, shape, accumulate)
  wrong = {name: error for name, error in errors(result, alone).items() if not error <= 1e-4}
  assert not wrong
  _, fsdp, model = shape
  parts = {leaf.size // leaf.addressable_data(0).size for leaf in result.values()}
  assert max(parts) == fsdp * model and min(parts) == 1  # large ones are cut by both axes


def test_what_is_batched_computes_with_whole_parameters():
  devices, seen = Parallel("jit", mesh((2, 2, 2)), small=512), {}
  params = devices.init(lambda: {"kernel": jnp.ones((3, 3, 16, 32)), "bias": jnp.ones(32)})
  assert params["kernel"].addressable_data(0).shape == (3, 3, 8, 16)

  def look(name):
    return lambda place: seen.update({name: place.shard_shape(params[name].shape)})

  def function(params, x):
    for name, leaf in params.items():
      jax.debug.inspect_array_sharding(leaf, callback=look(name))
    return x + params["kernel"].sum() + params["bias"].sum()

  result = devices.batched(function)(params, jnp.zeros((8, 3)))
  np.testing.assert_array_equal(result, 3 * 3 * 16 * 32 + 32)
  assert seen == {"kernel": (3, 3, 16, 16), "bias": (32,)}


def test_the_partitioner_still_needs_it():
  """Two convolutions whose kernels are cut over fsdp and model, the batch over data and fsdp: jax alone."""
  places, rng = mesh((2, 2, 2)), np.random.default_rng(0)
  x = rng.standard_normal((B, 8, 8, 64)).astype(np.float32)
  kernels = [(rng.standard_normal((3, 3, 64, 64)) / 24).astype(np.float32) for _ in range(2)]
  cut, batch = (NamedSharding(places, P(*spec)) for spec in ((None, None, FSDP, MODEL), ((DATA, FSDP),)))

  def loss(kernels, x):
    y = x
    for kernel in kernels:
      y = jax.lax.conv_general_dilated(y, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jnp.mean((y - x) ** 2)

  expected = jax.jit(jax.grad(loss))(kernels, x)
  inputs = [jax.device_put(kernel, cut) for kernel in kernels], jax.device_put(x, batch)
  result = jax.jit(jax.grad(loss), out_shardings=[cut, cut])(*inputs)
  worst = max(errors(dict(enumerate(result)), dict(enumerate(expected))).values())
  assert worst > 0.1, (
    f"jax {jax.__version__} partitions convolutions rightly on all three axes: take what Parallel.gathered says of it "
    "away (and keep gathering: it is what fsdp means)."
  )
