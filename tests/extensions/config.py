"""Digits by a schedule, a sampler and a network from outside.

The entries are imported first, so that config.base() has their options.
"""

import importlib

NAMES = ("tests.extensions.curve", "tests.extensions.solver", "tests.extensions.network")
for name in NAMES:
  importlib.import_module(name)

from diffjax import config  # noqa: E402 (after the extensions)


def get_config():
  """Four steps."""
  c = config.base()
  c.extensions = NAMES
  c.schedule.name, c.schedule.bent.power = "bent", 0.75
  c.objective.times, c.objective.time_input, c.objective.predict = "uniform", "t", "v"
  c.model.name, c.model.flat.width = "flat", 8
  c.condition.names = ("label",)
  c.sample.sampler, c.sample.grid, c.sample.steps = "cautious", "uniform", 3
  c.sample.cautious.pull = 0.1
  c.sample.count, c.sample.batch_size, c.log.samples, c.log.held_out = 4, 4, 2, 4
  c.train.steps, c.train.batch_size = 4, 8
  c.checkpoint.every, c.checkpoint.keep = 2, 4
  c.compile_cache = False
  return c
