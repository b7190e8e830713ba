"""The sampling job: the same samples in every batch and on every device, and as the library's own walk."""

import time
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from ml_collections import FrozenConfigDict

from diffjax import config as configs
from diffjax import experiment, keys
from diffjax.data.source import ArraySource, Field
from diffjax.jobs import scoring
from diffjax.jobs.drawing import STRIPS, Sampling
from diffjax.machine import memory
from diffjax.machine.parallel import Parallel
from diffjax.models import MODELS
from diffjax.samplers import base
from diffjax.spaces import to_pixels
from diffjax.types import ConfigError

SHAPE = (4, 4, 1)
FIELDS = {"image": Field(SHAPE, "uint8"), "label": Field((), "int32", 10)}


class Affine(nn.Module):
  """A network whose answer depends on the image, the time and the class."""

  out_channels: int = 1
  conditions: tuple = ()
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x, time, cond=None, keys=None):
    gain = self.param("gain", nn.initializers.constant(0.3), ())
    return jnp.tanh(gain * x + time[:, None, None, None] / 2000 + 0.1 * cond["label"][:, None, None, None])


def make(model=Affine, w=0.7, label=None, **changes):
  config = configs.base()
  config.model.name = "mine"
  config.condition.names, config.condition.label.dropout = ("label",), 0.1
  config.condition.label.request = "" if label is None else str(label)
  config.sample.steps, config.sample.batch_size = 8, 16
  config.sample.guides, config.sample.classifier_free.w = ("classifier_free", "clip"), w
  for field, value in changes.items():
    config.sample[field] = value
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(MODELS, "mine", model)
    return experiment.create(config, FIELDS)


def asking(parts, index):
  """What samples of these numbers ask for."""
  return {"index": index.astype(np.int32)} | parts.task.request(index, None)


def draw(parts, mode, count, total=20):
  devices = Parallel(mode, Mesh(np.asarray(jax.devices()[:count]), ("data",)))
  index = np.arange(total)
  sampling = Sampling(parts, devices, total)
  result = sampling.draw(parts.task.init(keys.seed(1)), keys.seed(5), asking(parts, index))
  assert list(result) == ["image"] and result["image"].dtype == np.uint8
  return result["image"]


@pytest.fixture(scope="module")
def alone():
  return draw(make(), "jit", 1)


@pytest.mark.parametrize(
  "mode, count, batch_size", [("jit", 8, 16), ("pmap", 8, 16), ("jit", 1, 3), ("pmap", 2, 5)]
)
def test_samples_do_not_depend_on_devices_or_batches(alone, mode, count, batch_size):
  got = draw(make(batch_size=batch_size), mode, count).astype(int)
  assert got.shape == (20, *SHAPE)
  np.testing.assert_allclose(got, alone, atol=1)  # a rounding of 255 levels


@pytest.mark.parametrize("count", [1, 8])
def test_a_batch_is_sized_to_the_memory(alone, monkeypatch, count):
  devices = Parallel("jit", Mesh(np.asarray(jax.devices()[:count]), ("data",)))
  sizes, wide = {}, 2**18

  def function(shared, batch):  # needs `wide` numbers an example, and their sines
    return jnp.sort(jnp.sin(batch["x"][:, None] + shared), axis=1)[:, ::-1].sum(1)

  like = lambda n: {"x": jax.ShapeDtypeStruct((n,), jnp.float32)}
  shared = jax.ShapeDtypeStruct((wide,), jnp.float32)
  for free in (2**26, 2**27):
    monkeypatch.setattr(memory, "free", lambda device, devices, free=free: free)
    sizes[free] = memory.fitting(devices, function, shared, like(8 * count))
    each = sizes[free] // count
    assert each & (each - 1) == 0 and sizes[free] == each * count
    compiled = jax.jit(function).lower(shared, like(each)).compile().memory_analysis()
    needed = compiled.temp_size_in_bytes + compiled.argument_size_in_bytes + compiled.output_size_in_bytes
    assert needed <= memory.SHARE * free < 3 * needed  # it fits; twice as many, with what is fixed, would not
    assert memory.fitting(devices, function, shared, like(8 * count), 4) < sizes[free]
  assert sizes[2**27] == 2 * sizes[2**26]
  sampling = Sampling(make(batch_size=0), devices, 20)
  assert sampling.batch_size == (
    10 if count == 1 else 24
  )  # no more than are asked for, in two halves on one CPU
  monkeypatch.setattr(memory, "free", lambda device, devices: 1)
  with pytest.raises(ConfigError, match="one example takes"):
    Sampling(make(batch_size=0), devices, 20)
  monkeypatch.undo()
  np.testing.assert_allclose(draw(make(batch_size=0), "jit", count).astype(int), alone, atol=1)


def test_batches_come_in_order_and_a_failure_ends_the_draw(alone, monkeypatch):
  parts, index, heard, walked = make(batch_size=2), np.arange(20), [], []
  sampling = Sampling(parts, Parallel("jit", Mesh(np.asarray(jax.devices()[:1]), ("data",))), 20)
  given = parts.task.init(keys.seed(1)), keys.seed(5), asking(parts, index)
  np.testing.assert_allclose(sampling.draw(*given, heard.append)["image"].astype(int), alone, atol=1)
  assert heard == list(range(4, 24, 4))  # two are walked together

  def walk(params, key, request, stops, walk=sampling.walk):
    walked.append(int(request["index"][0]))
    if request["index"][0] == 4:
      raise RuntimeError("no more")
    time.sleep(0.2 if request["index"][0] > 4 else 0)  # as long as a walk is, so that the failure is heard
    return walk(params, key, request, stops)

  monkeypatch.setattr(sampling, "walk", walk)
  heard.clear()
  with pytest.raises(RuntimeError, match="no more"):
    sampling.draw(*given, heard.append)
  assert heard == [4] and len(walked) < 10  # what had not begun is not begun


def of(source):
  """Schedule, sampler and grid of an experiment."""
  places = (("schedule", "name"), ("sample", "sampler"), ("sample", "grid"))
  (schedule,), (sampler,), (grid,) = (experiment.makers(source.config, *place).values() for place in places)
  schedule = schedule()
  return schedule, sampler(), grid(schedule, source.config.sample.steps)


def denoise(task, params, cond, schedule):
  at = task.can["denoise"](params, cond)
  return lambda xt, t: at(xt, t, schedule)


def test_the_job_walks_as_the_library_does(alone):
  parts, index = make(), np.arange(20)
  params, labels = parts.task.init(keys.seed(1)), jnp.asarray(index % 10)
  schedule, sampler, times = of(parts)
  grid, length = base.padded(times)
  given, null = (
    denoise(parts.task, params, {"label": cond}, schedule) for cond in (labels, jnp.full_like(labels, 10))
  )

  def denoiser(xt, t):  # Ho and Salimans 2022, eq. 6, with x0 kept within the range of the data
    one, other = given(xt, t), null(xt, t)
    return one._replace(x0=jnp.clip(one.x0 + 0.7 * (one.x0 - other.x0), -1, 1))

  x = base.sample(denoiser, schedule, sampler, grid, length, keys.seed(5), jnp.asarray(index), SHAPE)
  np.testing.assert_allclose(alone.astype(int), to_pixels(np.asarray(x)), atol=1)


def test_the_strip_starts_at_the_prior_and_ends_with_the_samples(alone):
  parts, index = make(), np.arange(20)
  sampling = Sampling(parts, Parallel("jit", Mesh(np.asarray(jax.devices()[:1]), ("data",))), STRIPS)
  params, request = parts.task.init(keys.seed(1)), asking(parts, index)
  seen, estimates, names = sampling.strip(params, keys.seed(5), request)
  assert seen.shape == estimates.shape and seen.shape[1:] == (STRIPS, *SHAPE)
  schedule, _, grid = of(parts)
  noise = base.prior(schedule, keys.of_examples(keys.seed(5), jnp.arange(STRIPS)), SHAPE, grid[0])
  alpha, sigma = (float(part) for part in schedule.alpha_sigma(jnp.asarray(grid[0])))
  scaled = np.asarray(noise) * 0.5 / np.hypot(0.5 * alpha, sigma)  # to the standard deviation of the data
  np.testing.assert_allclose(seen[0].astype(int), to_pixels(scaled), atol=1)
  np.testing.assert_allclose(estimates[-1].astype(int), alone[:STRIPS], atol=1)
  assert names[0] == f"t = {grid[0]:.3g}" and names[-1] == f"t = {grid[-1]:.3g}" and len(names) == len(seen)
  first = parts.task.draw.stops
  (estimate,) = (
    s for _, s in sampling.walk(params, keys.seed(5), {n: v[:STRIPS] for n, v in request.items()}, [first])
  )
  np.testing.assert_array_equal(estimates[-1], to_pixels(np.asarray(estimate)))


def test_guidance_and_labels_are_those_of_the_config(alone):
  assert not np.array_equal(draw(make(w=0.0), "jit", 1), alone)
  index = np.arange(12)
  np.testing.assert_array_equal(asking(make(), index)["label"], index % 10)
  np.testing.assert_array_equal(asking(make(label=3), index)["label"], 3)
  same = draw(make(label=3), "jit", 1)
  np.testing.assert_array_equal(same[3], alone[3])
  assert not np.array_equal(same[4], alone[4])


class Embedded(nn.Module):
  """A network that looks a class up and computes with what it finds."""

  out_channels: int = 1
  conditions: tuple = ()
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x, time, cond=None, keys=None):
    shift = nn.Embed(11, SHAPE[0], name="classes")(cond["label"])
    return jnp.tanh(x + shift[:, :, None, None] + time[:, None, None, None] / 2000)


def test_classes_are_looked_up_before_the_loop_and_not_in_it():
  drawing = (parts := make(Embedded)).task.draw
  params, key = parts.task.init(keys.seed(1)), keys.seed(5)
  request = {name: jnp.asarray(values) for name, values in asking(parts, np.arange(4)).items()}
  own = keys.of_examples(key, request["index"])

  def walk(params, carry, request):
    return drawing.advance(params, {}, drawing.plan, request, own, carry, 0, 5)[0]

  carry = drawing.begin(params, {}, drawing.plan, request, own)
  hlo = jax.jit(walk).lower(params, carry, request).compile().as_text()
  request = [line for line in hlo.splitlines() if "while/body" in line and "classes/" in line]
  assert any(" gather(" in line for line in request)  # it was asked for in the loop
  entry = hlo[hlo.index("ENTRY ") :]
  (table,) = [
    line.split(" = ")[0].strip() for line in entry.splitlines() if "classes" in line and " parameter(" in line
  ]
  uses = [
    line for line in entry.splitlines() if f"({table}," in line or f" {table}," in line or f"{table})" in line
  ]
  assert uses and not any(" while(" in line or " tuple(" in line for line in uses)  # and XLA took it out


class OfEmbeddings(nn.Module):
  """A network whose answer depends on an embedding."""

  out_channels: int = 1
  conditions: tuple = ()
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x, time, cond=None, keys=None):
    return self.param("gain", nn.initializers.ones, ()) * x + cond["vector"].sum(1)[:, None, None, None]


def of_embeddings(batch_size):
  """An experiment whose samples ask for rows of the data, and such data."""
  config = configs.base()
  config.model.name, config.condition.names, config.sample.guides = "mine", ("vector",), ()
  config.sample.steps, config.sample.batch_size = 4, batch_size
  rows = np.arange(5, dtype=np.float32)[:, None] / 10
  source = ArraySource({"image": np.zeros((5, *SHAPE), np.uint8), "embedding": rows}, "f")
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(MODELS, "mine", OfEmbeddings)
    return experiment.create(config, source.fields), source


def test_samples_that_ask_for_rows_of_the_data_are_sized_to_the_memory_and_evaluated():
  parts, source = of_embeddings(batch_size=0)
  devices = Parallel("jit", Mesh(np.asarray(jax.devices()[:1]), ("data",)))
  assert Sampling(parts, devices, 20, source).batch_size == 10
  with pytest.raises(ConfigError, match="there are no data"):
    Sampling(parts, devices, 20)
  config = FrozenConfigDict({"eval": {"count": 7, "split": "train"}})
  run = SimpleNamespace(config=config, experiment=parts, data=source, fields=source.fields, examples=5)
  request = scoring.request_of(run)
  np.testing.assert_array_equal(request["embedding"][:, 0], np.float32([0, 0.1, 0.2, 0.3, 0.4, 0, 0.1]))
  np.testing.assert_array_equal(request["index"], np.arange(7))


def test_guidance_needs_a_trained_null_of_every_condition():
  config = configs.base()
  config.model.name, config.condition.names = "mine", ("label", "vector")
  config.condition.label.dropout = 0.1
  config.sample.guides, config.sample.classifier_free.w = ("classifier_free",), 2.0
  fields = FIELDS | {"embedding": Field((3,), "float32")}
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(MODELS, "mine", OfEmbeddings)
    with pytest.raises(ConfigError, match="'vector' is never dropped; set config.condition.vector.dropout"):
      experiment.create(config, fields)
    config.condition.vector.dropout = 0.1
    experiment.create(config, fields)
