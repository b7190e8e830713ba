"""The held-out loss at fixed (t, eps): the right bands, the right closed form, the same at every call."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from diffjax import config as configs
from diffjax import experiment, keys
from diffjax.data.source import Field
from diffjax.jobs.held_out import HeldOut
from diffjax.machine import state
from diffjax.machine.parallel import Parallel
from diffjax.models import MODELS
from diffjax.schedules import SCHEDULES
from diffjax.tasks.bands import bands


class Constant(nn.Module):
  """Answers a constant; with dropout keys, nonsense."""

  out_channels: int = 1
  conditions: tuple = ()
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x, time, cond=None, keys=None):
    answer = self.param("answer", nn.initializers.zeros_init(), ())
    return jnp.full_like(x, answer if keys is None else 1e6)


@pytest.mark.parametrize("name", SCHEDULES)
def test_times_lie_in_their_bands(name):
  schedule = SCHEDULES[name]()
  result = bands(schedule, 50)
  assert result
  for band, t in result.items():
    low, high = (float(end) for end in band.removeprefix("logsnr_").split("_to_"))
    logsnr = np.asarray(schedule.logsnr(t))
    row = 0.0 if schedule.steps is None else 0.3  # times move to the nearest row
    assert np.all(logsnr > low - row - 1e-3) and np.all(logsnr < high + row + 1e-3)
    if schedule.steps is not None:
      np.testing.assert_allclose(t * schedule.steps, np.round(t * schedule.steps), atol=1e-3)


def test_a_silent_network_loses_the_power_of_its_target(monkeypatch):
  monkeypatch.setitem(MODELS, "constant", Constant)
  config = configs.base()
  config.train.averages = ("constant",)
  config.data.augment, config.train.constant.rates, config.model.name = "flip", (0.9,), "constant"
  parts = experiment.create(config, {"image": Field((8, 8, 1), "uint8")})
  parallel = Parallel("jit", Mesh(np.asarray(jax.devices()[:8]), ("data",)))
  images = np.zeros((60, 8, 8, 1), np.uint8)
  loss = HeldOut(parts, parallel, {"image": images})
  params = parts.task.init(keys.seed(0))
  now = state.create(params, parts.optimizer, parts.averages, keys.seed(0))
  now = dataclasses.replace(now, params=jax.tree.map(lambda x: x + 2.0, params))
  values = loss(now)
  assert values == loss(dataclasses.replace(now, step=now.step + 5))
  count = 60 * 64
  (schedule,) = experiment.makers(config, "schedule", "name").values()
  for band in bands(schedule(), 60):
    # E (0 - eps)^2 = 1 and E (2 - eps)^2 = 5, with standard errors sqrt(2 / n) and sqrt(18 / n)
    np.testing.assert_allclose(values[f"held_out/ema_0.9/{band}"], 1, atol=4 * np.sqrt(2 / count))
    np.testing.assert_allclose(values[f"held_out/raw/{band}"], 5, atol=4 * np.sqrt(18 / count))
