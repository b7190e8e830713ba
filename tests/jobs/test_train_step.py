"""The training step against NumPy by hand, and against itself on other devices, in parts and in chunks."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from diffjax import conditions as conditioning
from diffjax import config as configs
from diffjax import experiment, keys
from diffjax import keys as streams
from diffjax.conditions import CONDITIONS
from diffjax.data import SOURCES, augment
from diffjax.data.source import Field
from diffjax.jobs.train_step import make_chunk, make_step
from diffjax.machine import state
from diffjax.machine.parallel import Parallel
from diffjax.models import MODELS

B = 16
FIELDS = {"image": Field((8, 8, 1), "uint8"), "label": Field((), "int32", 10)}


class Gain(nn.Module):
  """A network of one number: out = w x."""

  out_channels: int = 1
  conditions: tuple = ()
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x, time, cond=None, keys=None):
    return self.param("w", nn.initializers.constant(0.5), ()) * x


class Small(nn.Module):
  """A network that uses all its inputs, random ones included."""

  out_channels: int = 1
  conditions: tuple = ()
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x, time, cond=None, keys=None):
    h = x.reshape(len(x), -1)
    h = jnp.tanh(nn.Dense(16)(h) + nn.Embed(11, 16)(cond["label"]) + nn.Dense(16)(time[:, None] / 1000))
    if keys is not None:
      h *= streams.uniform(keys)[:, None]
    return nn.Dense(64)(h).reshape(x.shape)


def make(model, **changes):
  config = configs.base()
  config.model.unet.attention = ()
  config.train.batch_size = B
  config.train.learning_rate = 0.01
  config.train.averages = ("constant",)
  config.train.constant.rates = (0.9, 0.5)
  config.condition.names, config.condition.label.dropout = ("label",), 0.3
  config.data.augment, config.model.name = "flip", "mine"
  for path, value in changes.items():
    *sections, field = path.split("__")
    section = config
    for name in sections:
      section = section[name]
    section[field] = value
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(MODELS, "mine", model)
    return experiment.create(config, FIELDS)


def new_state(parts):
  params = parts.task.init(keys.seed(7))
  return state.create(params, parts.optimizer, parts.averages, keys.seed(3))


def batches(count):
  source = SOURCES["digits"](split="train")
  rows = np.arange(count * B)
  batch = source.read(rows)
  batch["index"] = np.tile(np.arange(B, dtype=np.int32), count)
  return {name: value.reshape(count, B, *value.shape[1:]) for name, value in batch.items()}


def devices(mode, count):
  return Parallel(mode, Mesh(np.asarray(jax.devices()[:count]), ("data",)))


def trained(parts, parallel, count, chunk=1):
  take = parallel.train(make_chunk(make_step(parts)))
  now, data, losses = parallel.init(lambda: new_state(parts)), batches(count), []
  for k in range(0, count, chunk):
    now, metrics = take(now, {}, parallel.place(jax.tree.map(lambda x, k=k: x[k : k + chunk], data), B))
    losses.append(metrics["loss"])
  return jax.device_get(now), np.concatenate(losses)


def assert_close(one, other, **tolerance):
  without_key = lambda s: dataclasses.replace(s, key=jax.random.key_data(s.key))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, **tolerance), without_key(one), without_key(other)
  )


def test_one_step_is_what_a_hand_computes():
  parts = make(Gain, train__clip=0.1)
  before, data = new_state(parts), jax.tree.map(lambda x: jnp.asarray(x[0]), batches(1))
  after, metrics = make_step(parts)(before, {}, data, lambda tree: tree)

  draws = keys.Draws(jax.random.fold_in(keys.seed(3), 0), jnp.arange(B), B)
  x0 = np.asarray(data["image"]) / 127.5 - 1
  mirrored = np.asarray(keys.uniform(draws.keys("flip"))) < 0.5
  x0[mirrored] = x0[mirrored, :, ::-1]
  row = np.floor(np.asarray(keys.uniform(draws.keys("t"))) * 1000).astype(int)
  alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[row][:, None, None, None]
  eps = np.asarray(keys.normal(draws.keys("eps"), (8, 8, 1)))
  xt = np.sqrt(alpha_bar) * x0 + np.sqrt(1 - alpha_bar) * eps
  loss, gradient = np.mean((0.5 * xt - eps) ** 2), np.mean(2 * (0.5 * xt - eps) * xt)
  clipped = np.sign(gradient) * min(abs(gradient), 0.1)
  w = 0.5 - 0.01 * clipped / (np.sqrt(clipped**2) + 1e-8)  # Adam's first step, bias corrected

  np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
  np.testing.assert_allclose(metrics["grad_norm"], abs(gradient), rtol=1e-5)
  np.testing.assert_allclose(after.params["model"]["w"], w, rtol=1e-6)
  for rate in (0.9, 0.5):
    np.testing.assert_allclose(after.ema[f"ema_{rate}"]["model"]["w"], rate * 0.5 + (1 - rate) * w, rtol=1e-6)
  assert after.step == 1


@pytest.fixture(scope="module")
def alone():
  """Six steps on one device, one at a time: the state and the losses."""
  return trained(make(Small), devices("jit", 1), 6)


@pytest.mark.parametrize(
  "mode, count, parts, chunk",
  [
    ("jit", 8, 1, 1),
    ("pmap", 8, 1, 1),
    pytest.param("pmap", 1, 1, 1, marks=pytest.mark.slow),
    ("jit", 2, 4, 1),
    ("pmap", 2, 4, 3),
    pytest.param("jit", 2, 1, 3, marks=pytest.mark.slow),
  ],
)
def test_devices_accumulated_parts_and_chunks_change_nothing(alone, mode, count, parts, chunk):
  objects = make(Small, train__accumulate=parts)
  spread, losses = trained(objects, devices(mode, count), 6, chunk)
  np.testing.assert_allclose(losses, alone[1], rtol=1e-5)
  assert_close(spread, alone[0], rtol=1e-4, atol=1e-5)
  assert not np.allclose(losses[0], losses[1])


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_nothing_is_compiled_after_the_first_step_and_the_state_is_donated(mode):
  parts, parallel = make(Small), devices(mode, 8)
  take, now = parallel.train(make_chunk(make_step(parts))), parallel.init(lambda: new_state(parts))
  compiles = []
  listen = lambda name, seconds, **_: "backend_compile" in name and compiles.append(name)
  jax.monitoring.register_event_duration_secs_listener(listen)
  counts = []
  for k in range(4):
    before = now
    now, metrics = take(now, {}, parallel.place(jax.tree.map(lambda x, k=k: x[k : k + 1], batches(4)), B))
    jax.block_until_ready(metrics)
    counts.append(len(compiles))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((before.params, before.ema, before.opt_state)))
  assert counts[0] > 0 and counts == counts[:1] * 4


def test_the_same_step_twice_is_bit_for_bit_the_same():
  parts = make(Small)
  step = jax.jit(lambda state, batch: make_step(parts)(state, {}, batch, lambda tree: tree))
  before, data = new_state(parts), jax.tree.map(lambda x: x[0], batches(1))
  one, other = step(before, data), step(before, data)
  jax.tree.map(
    np.testing.assert_array_equal, jax.tree.leaves(one[0].params), jax.tree.leaves(other[0].params)
  )


def test_a_unet_learns_one_batch():
  config = configs.base()
  config.model.unet.channels, config.model.unet.multipliers = 16, (1,)
  config.model.unet.attention, config.model.unet.blocks, config.model.unet.dropout = (), 1, 0.0
  config.train.batch_size, config.train.learning_rate, config.objective.predict = B, 4e-3, "x0"
  parts = experiment.create(config, FIELDS)
  take = jax.jit(lambda state, batch: make_step(parts)(state, {}, batch, lambda tree: tree), donate_argnums=0)
  now, data, losses = new_state(parts), jax.tree.map(lambda x: x[0], batches(1)), []
  for _ in range(60):
    now, metrics = take(now, data)
    losses.append(float(metrics["loss"]))
  assert np.mean(losses[-10:]) < 0.5 * losses[0]


def test_labels_are_dropped_at_their_rate():
  request = {"label": jnp.arange(4096) % 10}
  conditions = {"label": CONDITIONS["label"](fields=FIELDS, dropout=0.1)}
  draws = keys.Draws(keys.seed(0), jnp.arange(4096), 4096)
  cond = np.asarray(conditioning.values(conditions, request, draws)["label"])
  np.testing.assert_allclose((cond == 10).mean(), 0.1, atol=4 * 0.3 / 64)
  kept = cond != 10
  np.testing.assert_array_equal(cond[kept], (np.arange(4096) % 10)[kept])


class Told(nn.Module):
  """A network of what it is told: out = w x + the sum of the labels."""

  out_channels: int = 1
  conditions: tuple = ()
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x, time, cond=None, keys=None):
    shift = cond["augment"] @ jnp.arange(1.0, 10)
    return self.param("w", nn.initializers.constant(0.5), ()) * x + shift[:, None, None, None]


def test_the_network_sees_the_changed_images_and_is_told_of_the_change():
  parts = make(Told, data__augment="nonleaking", condition__names=())
  before, data = new_state(parts), jax.tree.map(lambda x: jnp.asarray(x[0]), batches(1))
  _, metrics = jax.jit(lambda state, batch: make_step(parts)(state, {}, batch, lambda tree: tree))(
    before, data
  )

  draws = keys.Draws(jax.random.fold_in(keys.seed(3), 0), jnp.arange(B), B)
  change = jax.jit(augment.random_change)(draws, 0.12)
  x0 = np.asarray(jax.jit(augment.changed)(data["image"] / 127.5 - 1, change))
  labels = np.asarray(jax.jit(augment.labels)(change))
  row = np.floor(np.asarray(keys.uniform(draws.keys("t"))) * 1000).astype(int)
  alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[row][:, None, None, None]
  eps = np.asarray(keys.normal(draws.keys("eps"), (8, 8, 1)))
  xt = np.sqrt(alpha_bar) * x0 + np.sqrt(1 - alpha_bar) * eps
  out = 0.5 * xt + (labels @ np.arange(1.0, 10))[:, None, None, None]
  np.testing.assert_allclose(metrics["loss"], np.mean((out - eps) ** 2), rtol=1e-5)
  assert np.abs(labels[:, 1:]).max() > 0.1  # of 16 images some were more than mirrored
  # As in sampling nothing was done: the estimate is that of eps = w x.
  (schedule,) = experiment.makers(parts.config, "schedule", "name").values()
  cond = conditioning.values({"augment": conditioning.augment(9)}, {"index": jnp.arange(B)})
  t = jnp.asarray((row + 1) / 1000, jnp.float32)
  quiet = parts.task.can["denoise"](before.params, cond)(jnp.asarray(xt, jnp.float32), t, schedule()).x0
  expected = (xt - np.sqrt(1 - alpha_bar) * 0.5 * xt) / np.sqrt(alpha_bar)
  np.testing.assert_allclose(quiet, expected, rtol=1e-3, atol=1e-4)
