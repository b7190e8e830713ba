"""Diffusion that learns from patches, told where they lie, and draws whole images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import config as configs
from diffjax import experiment, keys
from diffjax.data.source import Field
from diffjax.types import ConfigError

FIELDS = {"image": Field((8, 8, 1), "uint8")}


def settled(attention=(), size=4):
  config = configs.base()
  config.data.augment, config.data.crop.size, config.condition.names = "crop", size, ()
  config.model.unet.channels, config.model.unet.multipliers, config.model.unet.blocks = 8, (1,), 1
  config.model.unet.attention, config.model.unet.dropout = attention, 0.0
  return config


def test_a_step_sees_patches_and_what_is_held_out_is_whole():
  task, images = (
    experiment.create(settled(), FIELDS).task,
    np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1)),
  )
  data = {"image": images.astype(np.uint8), "index": jnp.arange(3)}
  draws = keys.Draws(keys.seed(1), data["index"], 3)
  assert task.fed({}, data, draws)["image"].shape == (3, 4, 4, 1)
  rng, shapes = np.random.default_rng(1), jax.eval_shape(task.init, keys.seed(0))
  params = jax.tree.map(lambda leaf: 0.1 * rng.standard_normal(leaf.shape, np.float32), shapes)
  top = {**data, "image": data["image"].copy()}
  top["image"][:, :4] = 255 - top["image"][:, :4]
  loss = jax.jit(lambda data: task.loss(params, {}, data, draws, ()).each)
  patches = [np.asarray(task.fed({}, each, draws)["image"]) for each in (data, top)]
  same = (patches[0] == patches[1]).all((1, 2, 3))
  np.testing.assert_array_equal(np.asarray(loss(data)) == np.asarray(loss(top)), same)
  held_out = jax.eval_shape(lambda data: task.held_out(params, {}, data, jnp.full(3, 0.5)), data)
  assert held_out[""].shape == (3,)


@pytest.mark.parametrize("attention, size", [((8,), 4), ((4,), 4), ((), 16)])
def test_a_network_of_one_size_is_refused(attention, size):
  config = settled(attention, size)
  config.model.unet.multipliers = (1, 1)
  with pytest.raises(
    ConfigError, match="config.data.augment is 'crop', whose patches the network does not take"
  ):
    experiment.create(config, FIELDS)
