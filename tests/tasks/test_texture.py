"""Texture synthesis: what is kept, distances by hand, and pixels that are training pixels."""

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import config as configs
from diffjax import experiment, keys
from diffjax.data.source import Field
from diffjax.spaces import of_pixels
from diffjax.tasks.texture import choice, distances, neighbourhood

SHAPE = (3, 4, 2)


def test_a_neighbourhood_is_what_stands_before_a_pixel():
  result = neighbourhood(5)
  assert [(i, j) for i, j, _ in result] == [(i, j) for i in (-2, -1) for j in range(-2, 3)] + [
    (0, -2),
    (0, -1),
  ]
  np.testing.assert_allclose(
    [w for *_, w in result], [np.exp(-(i**2 + j**2) / (2 * (5 / 6.4) ** 2)) for i, j, _ in result]
  )


def test_distances_are_those_of_a_loop_and_choices_are_near():
  random = np.random.default_rng(0)
  x, known = random.normal(size=(2, *SHAPE)), random.normal(size=(5, *SHAPE))
  for row, column in ((0, 0), (1, 3), (2, 1)):
    truth = np.zeros((2, 5))
    for i, j, weight in neighbourhood(3):
      if 0 <= row + i and 0 <= column + j < 4:
        at = (row + i, column + j)
        truth += weight * ((x[:, None, *at] - known[None, :, *at]) ** 2).sum(-1)
    np.testing.assert_allclose(
      distances(jnp.asarray(x), jnp.asarray(known), (row, column), 3), truth, rtol=1e-5
    )
  distance = jnp.broadcast_to(jnp.asarray([1.0, 1.05, 2.0, 0.1]), (400, 4))
  allowed = jnp.asarray([[True, True, True, False]] * 400)
  own = keys.of_examples(keys.seed(0), jnp.arange(400))
  counts = np.bincount(choice(distance, allowed, 0.1, own), minlength=4)
  assert counts[2] == counts[3] == 0 and abs(counts[0] - 200) < 40
  assert (np.asarray(choice(distance, allowed, 0.0, own)) == 0).all()


def test_training_keeps_the_images_and_every_pixel_is_one_of_its_class_and_place():
  config = configs.base()
  config.task.name, config.task.texture.exemplars = "texture", 10
  config.condition.names = ("label",)
  fields = {"image": Field(SHAPE, "uint8"), "label": Field((), "int32", 3)}
  task = experiment.create(config, fields).task
  random = np.random.default_rng(1)
  images, label = random.integers(0, 256, (12, *SHAPE), np.uint8), np.arange(12) % 3
  params, memory = task.init(keys.seed(0)), task.start()
  for k in range(3):
    rows = slice(4 * k, 4 * k + 4)
    data = {"image": jnp.asarray(images[rows]), "label": jnp.asarray(label[rows]), "index": jnp.arange(4)}
    result = task.loss(params, {}, data, keys.Draws(keys.seed(k), jnp.arange(4), 4), memory)
    params, memory = task.record(params, memory, result.seen)
  order = [10, 11, *range(2, 10)]  # the last ten, in a ring
  np.testing.assert_allclose(params["model"]["images"], of_pixels(images[order]), atol=1e-6)
  np.testing.assert_array_equal(params["model"]["label"], label[order])
  assert int(memory) == 2

  request = {"index": jnp.arange(30), "label": jnp.arange(30) % 3}
  own, drawing = keys.of_examples(keys.seed(5), jnp.arange(30)), task.draw
  advance = jax.jit(lambda carry: drawing.advance(params, {}, (), request, own, carry, 0, drawing.stops)[2])
  drawn = np.asarray(drawing.show({}, advance(drawing.begin(params, {}, (), request, own)))["image"])
  for one, of in zip(drawn, np.arange(30) % 3, strict=True):
    theirs = images[order][label[order] == of]
    assert (one == theirs).all(-1).any(0).all()
  assert len(np.unique(drawn, axis=0)) > 5
