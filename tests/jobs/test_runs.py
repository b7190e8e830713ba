"""What training, sampling and evaluation share."""

import dataclasses
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from diffjax import config as configs
from diffjax import experiment
from diffjax.data.source import ArraySource, Field
from diffjax.jobs import runs
from diffjax.types import ConfigError


def test_what_may_not_be_meant_is_said():
  config = configs.base()
  config.model.unet.attention = ()
  config.train.warmup, config.train.steps, config.train.batch_size = 200, 100, 64
  config.sample.grid, config.sample.steps = "leading", 2
  parts = experiment.create(config, {"image": Field((8, 8, 1), "uint8")})
  message = runs.Run.warnings(SimpleNamespace(config=parts.config, experiment=parts, examples=10, changed=()))
  starts = (
    "x_t is 0.2",
    "config.train.warmup is 200 and config.train.steps 100",
    "config.train.batch_size is 64",
  )
  assert [text.startswith(start) for text, start in zip(message, starts, strict=True)] == [True] * 3
  parts = dataclasses.replace(parts, task=dataclasses.replace(parts.task, warnings=()))
  config.train.warmup = 100
  fine = SimpleNamespace(config=configs.settled(config), experiment=parts, examples=64, changed=())
  assert not runs.Run.warnings(fine)


@pytest.mark.parametrize("levels, refused", [(5, False), (9, False), (256, False), (2, True), (4, True)])
def test_levels_between_which_pixels_lie_are_refused_with_the_field(levels, refused):
  config = configs.base()
  config.task.name, config.task.flow.levels, config.train.batch_size = "flow", levels, 4
  config.model.realnvp.hidden = (4,)
  grey = np.round(np.arange(5) / 4 * 255).astype(np.uint8)
  images = np.resize(grey, (8, 4, 4, 1))
  source = ArraySource({"image": images}, "")
  parts = experiment.create(config, source.fields)
  encoded = dataclasses.replace(parts.task, fields=("latent_mean", *parts.task.fields))
  run = SimpleNamespace(experiment=dataclasses.replace(parts, task=encoded))
  with pytest.raises(ConfigError, match=f"config.task.flow.levels is {levels}") if refused else nullcontext():
    runs.require_levels(run, source)
