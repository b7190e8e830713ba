"""Videos from the config to their pictures: what is given stays, a clip depends on its number, blocks join."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from diffjax import config as configs
from diffjax import experiment, keys
from diffjax.jobs.drawing import Sampling, image_of
from diffjax.jobs.extension import extended
from diffjax.machine import pictures
from diffjax.machine.parallel import Parallel
from diffjax.models import MODELS
from diffjax.types import ConfigError


class Drift(nn.Module):
  """A network whose answer depends on x, the time, and the frames before each."""

  out_channels: int = 1
  conditions: tuple = ()
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x, time, cond=None, keys=None):
    gain = self.param("gain", nn.initializers.constant(0.3), ())
    shift = cond["frames"][..., :1].mean((1, 2, 3, 4), keepdims=True)
    return jnp.tanh(gain * (x + jnp.roll(x, 1, axis=1)) + time[:, None, None, None, None] / 2000 + shift)


def make(given=(0, 1, 3)):
  config = configs.base()
  config.data.source, config.model.name, config.space.pixels.field = "moving_digits", "mine", "video"
  config.data.moving_digits.frames, config.data.moving_digits.size = 5, 12
  config.condition.names, config.condition.frames.given = ("frames",), given
  config.sample.guides, config.sample.frames.given = ("frames", "clip"), given
  config.sample.steps, config.sample.batch_size = 4, 16
  source = experiment.source(config, "train")
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(MODELS, "mine", Drift)
    return experiment.create(config, source.fields), source


@functools.cache
def drawn():
  """(samples that ask for rows, those rows, draw) with three given frames of five."""
  parts, source = make()
  of = lambda count: Parallel("jit", Mesh(np.asarray(jax.devices()[:count]), ("data",)))
  samplings = {count: Sampling(parts, of(count), 6, source) for count in (1, 8)}
  params = parts.task.init(keys.seed(1))

  def draw(request, seed=5, devices=1, what="draw"):
    return getattr(samplings[devices], what)(params, keys.seed(seed), request)

  index = np.arange(6)
  requests = {"index": index.astype(np.int32)} | parts.task.request(index, source)
  return draw(requests)["video"], requests, draw


def test_samples_have_the_frames_that_are_given():
  samples, request, draw = drawn()
  assert samples.shape == (6, 5, 12, 12, 1) and samples.dtype == np.uint8
  given, others = [0, 1, 3], [2, 4]
  np.testing.assert_array_equal(samples[:, given], request["video"][:, given])
  assert (samples[:, others] != request["video"][:, others]).any((2, 3, 4)).all()
  blind = request["video"].copy()
  blind[:, others] = 0
  again = draw({**request, "video": blind})["video"]
  np.testing.assert_array_equal(again, samples)  # nothing is seen of those that are not given


@pytest.mark.parametrize("devices", [1, 8])
def test_a_clip_is_the_same_in_other_company_and_on_other_devices(devices):
  samples, request, draw = drawn()
  order = np.array([4, 1, 1, 0])
  others = {name: value[order] for name, value in request.items()}
  np.testing.assert_array_equal(draw(others, devices=devices)["video"], samples[order])


def test_a_walk_of_videos_is_a_picture():
  samples, request, draw = drawn()
  seen, estimates, names = strip = draw(request, what="strip")
  assert seen.shape == estimates.shape == (len(names), 4, 5, 12, 12, 1)
  np.testing.assert_array_equal(estimates[-1], samples[:4])
  assert pictures.walk(*strip).ndim == 3 and image_of({"video": samples}) is samples


def test_blocks_go_on_from_what_there_is():
  samples, request, draw = drawn()
  seen_by = []

  def of_block(seen, block):
    seen_by.append(seen)
    return draw({**request, "video": seen}, seed=block)["video"]

  whole = extended(of_block, samples, 2, 3)
  assert whole.shape == (6, 5 + 3 * 3, 12, 12, 1)
  np.testing.assert_array_equal(whole[:, :5], samples)
  for block, seen in enumerate(seen_by):
    np.testing.assert_array_equal(seen[:, :2], whole[:, 3 + 3 * block : 5 + 3 * block])
    assert (seen[:, 2:] == 0).all()
  assert (whole[:, 5:8] != whole[:, 8:11]).any()
  for given in (0, 5):
    with pytest.raises(ConfigError, match=f"given is {given}"):
      extended(of_block, samples, given, 1)
