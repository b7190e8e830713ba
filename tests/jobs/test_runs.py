"""What training, sampling and evaluation share."""

import dataclasses
from types import SimpleNamespace

from diffjax import config as configs
from diffjax import experiment
from diffjax.data.source import Field
from diffjax.jobs import runs


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
