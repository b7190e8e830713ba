"""The task "clip": its loss on any number of devices, the cap of its scale, and what it can do when trained."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from diffjax import config as configs
from diffjax import experiment, keys
from diffjax.data.source import Field
from diffjax.data.text import TOKENIZERS
from diffjax.jobs.train_step import make_chunk, make_step
from diffjax.machine import state
from diffjax.machine.parallel import AXES, Parallel
from diffjax.models import clip
from diffjax.types import ConfigError

WORDS = TOKENIZERS["words"](("a zero", "a one", "a two above a one"))
FIELDS = {
  "image": Field((4, 4, 1), "uint8"),
  "text": Field((WORDS.length,), "int32", WORDS.vocabulary, tokenizer=WORDS),
}


@functools.cache
def parts(**options):
  config = configs.base()
  config.task.name, config.train.batch_size = "clip", 8
  for tower in (config.model.transformer, config.model.vit):
    tower.channels, tower.blocks, tower.heads = 8, 1, 2
  config.model.vit.patch = 2
  config.task.clip.width = 8
  for name, value in options.items():
    config.task.clip[name] = value
  return experiment.create(config, FIELDS)


def make(**options):
  return parts(**options).task


@pytest.fixture(scope="module")
def params():
  return jax.jit(make().init)(keys.seed(0))


def batch(texts=("a zero", "a one", "a two", "a one above a two")):
  images = np.random.default_rng(0).integers(0, 256, (len(texts), 4, 4, 1), np.uint8)
  return {"image": jnp.asarray(images), "text": jnp.asarray(WORDS(texts))}


def loss(task, params, data):
  draws = keys.Draws(keys.seed(0), jnp.arange(4), 4)
  return jax.jit(lambda params, data: task.loss(params, {}, data, draws, ()))(params, data)


@pytest.mark.parametrize("loss", clip.CONTRASTS)
def test_devices_compare_the_global_batch(loss):
  rng = np.random.default_rng(0)
  towers = [rng.standard_normal((12, 8)).astype(np.float32) / 3 for _ in range(2)]
  inputs = [rng.standard_normal((16, 12)).astype(np.float32) for _ in range(2)]

  def value(towers, inputs):
    pairs = (clip.unit(x @ tower) for x, tower in zip(inputs, towers, strict=True))
    return clip.CONTRASTS[loss].each(clip.Pairs(*pairs, jnp.asarray(1.0))).mean()

  results = {}
  for count in (1, 2, 8):
    cut = NamedSharding(Mesh(np.asarray(jax.devices()[:count]), ("data",)), PartitionSpec("data"))
    placed = [jax.device_put(x, cut) for x in inputs]
    results[count] = jax.device_get(jax.jit(jax.value_and_grad(value))(towers, placed))
  for count in (2, 8):
    for a, b in zip(jax.tree.leaves(results[count]), jax.tree.leaves(results[1]), strict=True):
      assert np.abs(a - b).max() <= 1e-6 * np.abs(b).max()


def test_a_training_step_of_8_devices_is_that_of_one(params):
  """Through the towers, of a global batch whose copies of a text lie on different devices."""
  data = batch(("a one", "a zero", "a two", "a one", "a one above a two", "a one", "two", "zero"))
  chunk = jax.tree.map(lambda x: np.asarray(x)[None], data | {"index": np.arange(8, dtype=np.int32)})
  step, new = make_chunk(make_step(parts())), (parts().optimizer, parts().averages, keys.seed(1))
  results = []
  for count in (1, 8):
    devices = Parallel("jit", Mesh(np.asarray(jax.devices()[:count]).reshape(-1, 1, 1), AXES), 1)
    start = devices.init(lambda: state.create(params, *new))
    after, metrics = devices.train(step)(start, {}, devices.place(chunk, 8))
    ((_, gradient),) = optax.tree.get_all_with_path(after.opt_state, "mu")  # a tenth of it
    results.append(jax.device_get((metrics["loss"], metrics["duplicates"], gradient)))
  (one, copies, gradient), (other, _, same) = results
  np.testing.assert_allclose(copies, 3 / 8)
  np.testing.assert_allclose(other, one, rtol=1e-6)
  difference = jax.tree.map(np.subtract, same, gradient)
  assert optax.tree.norm(difference) <= 1e-6 * optax.tree.norm(gradient)


def test_the_scale_is_capped_and_said(params):
  scaled = {"model": params["model"] | {"log_scale": jnp.asarray(9.0)}}
  for cap in (100.0, 20.0):
    result = loss(make(cap=cap), scaled, batch())
    np.testing.assert_allclose(result.logs["scale"], cap, rtol=1e-5)
  at = {"model": params["model"] | {"log_scale": jnp.log(20.0)}}
  np.testing.assert_allclose(
    loss(make(cap=20.0), scaled, batch()).each, loss(make(), at, batch()).each, rtol=1e-5
  )


def test_copies_of_a_caption_are_told(params):
  result = loss(make(), params, batch(("a one", "a zero", "a one", "a one")))
  np.testing.assert_array_equal(result.logs["duplicates"], [1, 0, 1, 1])
  np.testing.assert_allclose(result.logs["floor"], [np.log(3), 0, np.log(3), np.log(3)], rtol=1e-6)
  same = batch(("a one",) * 4)
  assert np.mean(loss(make(), params, same).each) >= np.log(4) - 1e-5
  chunked = loss(make(chunk=2), params, batch())
  np.testing.assert_allclose(chunked.each, loss(make(), params, batch()).each, rtol=1e-5)


def test_it_encodes_images_and_texts_into_one_space(params):
  can, data = make().can, batch()
  images = jax.jit(can["encode"])(params, data["image"])
  texts = jax.jit(can["encode_text"])(params, data["text"])
  assert texts["tokens"].shape == (4, WORDS.length, 8) and images.shape == texts["pooled"].shape == (4, 8)
  pairs = clip.Pairs(images, texts["pooled"], params["model"]["log_scale"])
  np.testing.assert_allclose(clip.softmax(pairs), loss(make(), params, data).each, rtol=1e-5)
  held_out = jax.jit(lambda params, data: make().held_out(params, {}, data, ()))(params, data)
  scores = np.asarray(images) @ np.asarray(texts["pooled"]).T
  np.testing.assert_array_equal(held_out["text_of_image"], scores.argmax(1) == np.arange(4))
  np.testing.assert_array_equal(held_out["image_of_text"], scores.argmax(0) == np.arange(4))
  assert can["tokenizer"](params) == WORDS


def test_data_without_text_are_refused():
  config = configs.base()
  config.task.name = "clip"
  for fields, words in (
    ({"image": FIELDS["image"]}, "field is 'text', but the data have no int32 field"),
    ({**FIELDS, "text": Field((3,), "int32", 9)}, "field is 'text', which holds no text"),
  ):
    with pytest.raises(ConfigError, match=words):
      experiment.create(config, fields)
