"""What every task of TASKS must be, whatever it trains: its loss, its parameters, a step, a resumed run."""

import dataclasses
import functools
import inspect

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from ml_collections import ConfigDict

from diffjax import choices, experiment, keys
from diffjax import config as configs
from diffjax.data.source import Field
from diffjax.data.text import TOKENIZERS
from diffjax.jobs.train_step import make_chunk, make_step
from diffjax.machine import state
from diffjax.machine.checkpoint import Checkpoints
from diffjax.machine.parallel import Parallel
from diffjax.models import AUTOENCODERS, DISCRIMINATORS, ENCODERS, MODELS
from diffjax.models.autoencoder import moments_of
from diffjax.models.conditioning import Conditioning, Vectors, Widths
from diffjax.tasks import TASKS
from diffjax.tasks.task import ABLE
from diffjax.types import ConfigError

B = 8
# Every task with its defaults, and tasks whose parts make them another.
CASES = {name: {} for name in TASKS} | {
  "autoencoder-gan": {"objective.terms": ("l2", "adversarial"), "model.discriminator": "small"},
  "autoencoder-vq": {"model.bottleneck": "vq", "objective.terms": ("l2", "codebook", "commitment")},
}
every_task = pytest.mark.parametrize("name", CASES)
WORDS = TOKENIZERS["words"](("a zero", "a one", "a two above a one"))
FIELDS = {
  "image": Field((4, 4, 1), "uint8"),
  "label": Field((), "int32", 3),
  "text": Field((WORDS.length,), "int32", WORDS.vocabulary, tokenizer=WORDS),
}


class Small(nn.Module):
  """A network, or encoder, of a few numbers, which uses all that it is given."""

  out_channels: int = 1
  outputs: int = 0
  conditions: tuple = ()
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x, time, cond=None, keys=None):
    embedding = Conditioning(Widths(8, 8, 8, rows=1.0), 1.0, self.conditions, name="embedding")(
      time, cond or {}
    )
    h = jnp.tanh(nn.Dense(8)(x.reshape(len(x), -1)) + embedding.vector)
    if keys is not None:
      h *= jax.vmap(lambda key: jax.random.uniform(key, (8,), minval=0.5))(keys)
    if self.outputs:
      return nn.Dense(self.outputs)(h)
    return nn.Dense(x[0, ..., 0].size * self.out_channels)(h).reshape(*x.shape[:-1], -1)


class SmallAutoencoder(nn.Module):
  """An autoencoder of a few numbers: 2x2 places."""

  LAST = ("decoder", "kernel")
  out_channels: int = 1
  dtype: str = "float32"
  variational: bool = True
  conditions: tuple = ()

  def setup(self):
    self.embedding = Vectors(3, self.conditions)
    self.encoder = nn.Dense(3 * (1 + self.variational))
    self.decoder = nn.Dense(16 * self.out_channels)

  def encode(self, x, cond):
    shift = self.embedding(cond, len(x))[:, None, None].repeat(1 + self.variational, -1)
    return moments_of(jnp.tanh(self.encoder(x.reshape(len(x), 2, 2, -1)) + shift), self.variational)

  def decode(self, z, cond):
    z = jnp.tanh(z + self.embedding(cond, len(z))[:, None, None])
    return self.decoder(z.reshape(len(z), -1)).reshape(len(z), 4, 4, -1)

  def __call__(self, x, cond):
    return self.decode(self.encode(x, cond).mean, cond)


class Judge(nn.Module):
  """A discriminator of a few numbers."""

  dtype: str = "float32"
  couples = False

  @nn.compact
  def __call__(self, x):
    return jnp.tanh(nn.Dense(3)(x.reshape(len(x), -1)))


@pytest.fixture(scope="module", autouse=True)
def small():
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(MODELS, "small", Small)
    patch.setitem(ENCODERS, "small", Small)
    patch.setitem(AUTOENCODERS, "small", SmallAutoencoder)
    patch.setitem(DISCRIMINATORS, "small", Judge)
    yield


@functools.cache
def make(name):
  """An experiment of the task, with a condition and an augmentation where it takes them."""
  config = configs.base()
  config.task.name, config.train.batch_size, config.train.learning_rate = name.split("-")[0], B, 1e-2
  config.model.name = config.model.encoder = config.model.autoencoder = "small"
  config.train.adam.eps = (
    1e-4  # else the rounding of gradients that are 0, as of an attention's key bias, counts
  )
  config.data.augment = "flip"
  for tower in (config.model.transformer, config.model.vit):
    tower.channels, tower.blocks, tower.heads = 8, 1, 2
  config.model.vit.patch, config.model.vit.pool = 2, "mean"
  config.model.dense_generator.hidden = config.model.dense_critic.hidden = (8,)
  config.model.dense_generator.latent, config.model.softmax.levels = 3, 5
  config.model.realnvp.hidden = config.model.made.hidden = (6,)
  config.model.realnvp.couplings, config.model.made.dropout = 1, 0.3
  config.task.mixture.components, config.task.texture.exemplars = 2, 12
  config.condition.names, config.condition.label.dropout = ("label",), 0.5
  config.train.averages, config.train.constant.rates = ("constant", "ramp"), (0.9,)
  config.sample.steps = 3
  config.update_from_flattened_dict(CASES[name])
  return experiment.create(config, FIELDS)


def batches(count, fields):
  random = np.random.default_rng(0)
  most = lambda field: field.classes or 256
  data = {
    name: random.integers(0, most(FIELDS[name]), (count, B, *FIELDS[name].shape)).astype(FIELDS[name].dtype)
    for name in fields
  }
  return data | {"index": np.tile(np.arange(B, dtype=np.int32), (count, 1))}


def moved_params(task):
  """Parameters away from the start, where zeros hide what depends on what."""
  random = np.random.default_rng(1)
  shapes = jax.eval_shape(task.init, keys.seed(0))
  return jax.tree.map(lambda x: jnp.asarray(0.3 * random.normal(size=x.shape), x.dtype), shapes)


@functools.cache
def loss_of(name):
  task = make(name).task

  @jax.jit
  def loss(params, data, index):
    return task.loss(params, {}, data, keys.Draws(keys.seed(4), index, B, jnp.asarray(3)), task.start())

  return loss


def part(data, rows):
  return {name: values[rows] for name, values in data.items()}


def another(data, rows):
  """The same batch with other examples in these rows."""
  results = {field: values.copy() for field, values in data.items()}
  for field in set(FIELDS) & set(results):
    shift, most = (1, FIELDS[field].classes) if FIELDS[field].classes else (100, 256)
    results[field][rows] = (results[field][rows].astype(int) + shift) % most
  return results


# Two examples at other places, and six that are others.
ROWS, OTHERS = np.asarray([5, 2, 0, 1, 3, 4, 6, 7]), np.arange(2, B)


def new_state(parts):
  return state.create(
    parts.task.init(keys.seed(7)), parts.optimizer, parts.averages, keys.seed(3), parts.task.start()
  )


@functools.cache
def begun(name):
  """A run's first state, on no device."""
  return jax.device_get(devices().init(lambda: new_state(make(name))))


def devices(mode="jit", count=1):
  return Parallel(mode, Mesh(np.asarray(jax.devices()[:count]), ("data",)))


@functools.cache
def compiled(name, mode="jit", count=1):
  """Devices, and the step on them."""
  parallel = devices(mode, count)
  return parallel, parallel.train(make_chunk(make_step(make(name))))


def take(name, data, now=None, mode="jit", count=1):
  """A state after the steps of these batches, and the metrics of each."""
  (parallel, run), metrics = compiled(name, mode, count), []
  if now is None:  # a copy, for the step's state is donated
    own = lambda x: x if isinstance(x, np.ndarray) else jnp.copy(x)
    now = parallel.replicate(jax.tree.map(own, begun(name)))
  for k in range(len(data["index"])):
    now, result = run(now, {}, parallel.place(jax.tree.map(lambda x, k=k: x[k : k + 1], data), B))
    metrics.append(jax.device_get(result))
  return now, metrics


def raw(tree):
  data = lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
  return {
    jax.tree_util.keystr(path): np.asarray(data(x)) for path, x in jax.tree_util.tree_leaves_with_path(tree)
  }


@every_task
def test_a_task_takes_its_parts_and_fields_by_name(name):
  parameters = inspect.signature(TASKS[name.split("-")[0]]).parameters
  required = {p.name for p in parameters.values() if p.default is p.empty}
  assert required <= choices.PARTS | {"fields"} and not choices.PARTS & ({*parameters} - required)
  task = make(name).task
  assert task.fields and set(task.fields) <= set(FIELDS)
  assert set(task.rates) <= set(jax.eval_shape(task.init, keys.seed(0)))


def test_the_tasks_that_messages_name_are_those_that_can():
  untold = ConfigDict(make("autoencoder").config)  # one that is told something can do nothing for others
  untold.condition.names = ()
  tasks = {name: make(name).task for name in TASKS}
  tasks["autoencoder"] = experiment.create(untold, FIELDS, traced=False).task
  for can, names in ABLE.items():
    assert {name for name, task in tasks.items() if can in task.can} == {*names}, can


@every_task
def test_a_loss_is_one_finite_number_an_example(name):
  task = make(name).task
  (data,) = [part(batches(1, task.fields), 0)]
  result = loss_of(name)(moved_params(task), data, np.arange(B))
  assert result.each.shape == (B,) and result.each.dtype == jnp.float32
  assert np.isfinite(result.each).all() and len(np.unique(result.each)) == B
  assert all(x.shape == (B,) for x in result.logs.values())
  assert all(len(x) == B and np.isfinite(x).all() for x in jax.tree.leaves((result.seen, dict(result.logs))))


@every_task
def test_an_examples_loss_does_not_depend_on_the_others(name):
  task = make(name).task
  params, data = moved_params(task), part(batches(1, task.fields), 0)
  whole = loss_of(name)(params, data, np.arange(B))
  few = loss_of(name)(params, another(part(data, ROWS), OTHERS), ROWS)
  if task.couples:
    assert not np.allclose(few.each[:2], whole.each[ROWS[:2]], rtol=1e-5)  # it says so, and so it is
    return
  np.testing.assert_allclose(few.each[:2], whole.each[ROWS[:2]], rtol=1e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a[:2], b[ROWS[:2]], rtol=1e-5), few.logs, whole.logs)
  changed = loss_of(name)(params, another(data, np.arange(1)), np.arange(B))
  np.testing.assert_allclose(changed.each[1:], whole.each[1:], rtol=1e-6)
  assert abs(changed.each[0] - whole.each[0]) > 1e-6


@every_task
def test_held_out_numbers_are_the_same_at_every_call_and_of_each_example(name):
  task = make(name).task
  params, data = moved_params(task), part(batches(1, task.fields), 0)
  cases = task.cases(B)
  assert cases
  held_out = jax.jit(lambda params, data, setting: task.held_out(params, {}, data, setting))
  for case, setting in jax.tree.map(jnp.asarray, dict(cases)).items():
    result, again = (held_out(params, data, setting) for _ in range(2))
    assert result and all(x.shape == (B,) and np.isfinite(x).all() for x in result.values()), case
    jax.tree.map(np.testing.assert_array_equal, result, again)
    if task.couples:
      continue
    few = held_out(params, another(part(data, ROWS), OTHERS), jax.tree.map(lambda x: x[ROWS], setting))
    same = lambda a, b: np.testing.assert_allclose(a[:2], b[ROWS[:2]], rtol=1e-5, atol=1e-6)
    jax.tree.map(same, few, result)


@pytest.fixture(scope="module")
def straight():
  """Task -> the state after two steps on one device, with the metrics."""

  @functools.cache
  def of(name):
    return take(name, batches(2, make(name).task.fields))

  return of


@every_task
def test_a_step_moves_every_parameter_and_every_average_and_logs_what_the_task_names(name, straight):
  here = make(name)
  after, metrics = straight(name)
  before = begun(name)
  assert after.step == 2
  for tree, start in ((after.params, before.params), *((after.ema[n], before.params) for n in here.averages)):
    began = raw(start)
    assert [path for path, value in raw(tree).items() if np.array_equal(value, began[path])] == []
  logs = loss_of(name)(before.params, part(batches(1, here.task.fields), 0), np.arange(B)).logs
  for result in metrics:
    assert set(result) == {"loss", "grad_norm", "update_norm", "learning_rate", *logs}
    assert all(value.shape == (1,) and np.isfinite(value).all() for value in result.values())


# With pmap a loss and its gradient, a record of codes and one of moments; the others are in make test-slow.
PMAP = ("diffusion", "autoencoder-vq", "mixture")
SPREAD = [pytest.param(name, "jit", id=f"{name}-jit") for name in CASES]
SPREAD += [
  pytest.param(name, "pmap", id=f"{name}-pmap", marks=() if name in PMAP else pytest.mark.slow)
  for name in CASES
]


@pytest.mark.parametrize("name, mode", SPREAD)
def test_devices_change_nothing(name, mode, straight):
  if make(name).task.couples and mode == "pmap":
    return  # refused: the next test
  after, metrics = take(name, batches(2, make(name).task.fields), mode=mode, count=8)
  expected, labels = straight(name)
  for one, other in zip(metrics, labels, strict=True):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), one, other)
  for path, value in raw(jax.device_get(after)).items():
    np.testing.assert_allclose(value, raw(expected)[path], rtol=1e-3, atol=3e-5, err_msg=path)


@pytest.mark.parametrize("field, value", [("train.accumulate", 2), ("parallel.mode", "pmap")])
def test_a_task_whose_examples_couple_is_not_computed_in_parts(monkeypatch, field, value):
  def coupled(**parts):
    return dataclasses.replace(TASKS["diffusion"](**parts), couples=True)

  coupled.__signature__ = inspect.signature(TASKS["diffusion"])
  monkeypatch.setitem(TASKS, "coupled", coupled)
  config = configs.base()
  config.task.name, config.train.batch_size = "coupled", 4
  config.model.unet.channels, config.model.unet.multipliers, config.model.unet.attention = 8, (1,), ()
  experiment.create(config, FIELDS)
  config.update_from_flattened_dict({field: value})
  with pytest.raises(ConfigError, match="depends on its whole batch, but config.train.accumulate is"):
    experiment.create(config, FIELDS)


@every_task
def test_a_run_that_is_saved_and_restored_goes_on_bit_for_bit(name, straight, tmp_path):
  here, parallel = make(name), devices()
  data = batches(2, here.task.fields)
  first = jax.tree.map(lambda x: x[:1], data)
  now, _ = take(name, first)
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(now, {})
  with Checkpoints(tmp_path) as checkpoints:
    result = checkpoints.restore(parallel.abstract(lambda: new_state(here)), 1)
  after, _ = take(name, jax.tree.map(lambda x: x[1:], data), result)
  expected = raw(straight(name)[0])
  assert raw(after).keys() == expected.keys() and len(expected) > 10
  for path, value in raw(after).items():
    assert value.tobytes() == expected[path].tobytes(), path


@every_task
def test_what_makes_samples_makes_those_of_its_keys(name):
  task = make(name).task
  if task.draw is None:
    assert not task.likelihoods
    return
  index = np.arange(3)
  request = {"index": index.astype(np.int32)} | task.request(index, None)
  request = {field: jnp.asarray(values) for field, values in request.items()}
  params, drawing = moved_params(task), task.draw

  @jax.jit
  def samples(rows):
    data, own = part(request, rows), keys.of_examples(keys.seed(2), request["index"][rows])
    carry = drawing.begin(params, {}, drawing.plan, data, own)
    _, _, result = drawing.advance(params, {}, drawing.plan, data, own, carry, 0, drawing.stops)
    return drawing.show({}, result)

  whole, few = samples(np.arange(3)), samples(np.asarray([2, 2, 2]))
  assert set(whole) <= set(FIELDS)
  for field, values in whole.items():
    assert values.shape == (3, *FIELDS[field].shape) and str(values.dtype) == FIELDS[field].dtype
    for own in np.asarray(few[field]).astype(int):
      np.testing.assert_allclose(own, np.asarray(values)[2].astype(int), atol=1)


@pytest.mark.parametrize("name", ["diffusion", "gan"])  # of one player and of two
def test_factors_on_the_learning_rate_hold_for_their_player(name):
  here = make(name)
  *_, player = sorted(
    jax.eval_shape(here.task.init, keys.seed(0)), key="model".__eq__
  )  # which gradients move
  slow = dataclasses.replace(here, task=dataclasses.replace(here.task, rates={player: 0.25}))
  data = jax.tree.map(jnp.asarray, part(batches(1, here.task.fields), 0))
  step = lambda parts: jax.jit(
    lambda now: make_step(parts)(now, {}, data, lambda tree: tree)[0].params[player]
  )(begun(name))
  start = begun(name).params[player]
  move = lambda after: jax.tree.map(lambda a, b: a - b, after, start)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, 0.25 * b, rtol=1e-3, atol=1e-7),
    move(step(slow)),
    move(step(here)),
  )
