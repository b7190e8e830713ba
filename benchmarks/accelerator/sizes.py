"""What the parts build, at full size and tiny."""

from ml_collections import ConfigDict

from benchmarks import ours
from diffjax import config as configs

TINY_RECIPE = [
  *("--count=60", "--chosen_on=30", "--scored=60", "--together=20"),
  *("--config.model.unet.channels=16", "--config.model.unet.multipliers=(1,1)"),
  *("--config.model.unet.blocks=1", "--config.train.batch_size=16", "--config.train.steps_per_call=2"),
  *("--config.sample.steps=4", "--config.sample.batch_size=30"),
]


def unet(batch: int, tiny: bool, dtype: str = "bfloat16") -> ConfigDict:
  """DDPM's CIFAR-10 network and recipe; tiny: a fiftieth of it."""
  config = ours.cifar10(batch, 32 if tiny else 128, dtype=dtype)
  if tiny:
    config.model.unet.multipliers, config.model.unet.blocks = (1, 1), 1
  return config


def dit(batch: int, tiny: bool, dtype: str = "bfloat16") -> ConfigDict:
  """DiT-S/2 (Peebles & Xie 2023, table 1) on pixels, with the same recipe; tiny: two narrow blocks."""
  config = ours.cifar10(batch, dtype=dtype)
  config.model.name = "dit"
  settings = config.model.dit
  settings.patch, settings.channels, settings.blocks, settings.heads = 2, 384, 12, 6
  if tiny:
    settings.channels, settings.blocks, settings.heads = 48, 2, 2
  return config


def resumed(steps: int) -> ConfigDict:
  """A run of seconds on the digits that stops half-way and goes on, for the bit-for-bit test.

  One of every layer: it is compiled anew, for its flags.
  """
  config = configs.base()
  config.data.augment = "flip"
  config.model.unet.channels, config.model.unet.multipliers, config.model.unet.blocks = 32, (1,), 1
  config.model.unet.attention, config.model.unet.dropout = (8,), 0.1
  config.model.dtype = "bfloat16"
  config.train.steps, config.train.batch_size, config.train.steps_per_call = steps, 64, 5
  config.log.every, config.log.held_out, config.log.samples = 10, 0, 4
  config.checkpoint.every = 10
  config.sample.steps = 10
  config.deterministic = True
  return config
