"""Clips of moving digits by a space-time transformer: 27 tubelets of 4x4 pixels and 2 frames, each attends to all.

    python main.py --config=configs/moving_digits_dit.py --workdir=runs/moving_digits_dit

experiments/video/README.md has what was measured of it.
"""

from configs import moving_digits_unet


def get_config():
  """What differs from moving_digits_unet.py."""
  c = moving_digits_unet.get_config()
  c.data.moving_digits.stills = 0.0  # a tubelet holds two frames, which cannot be kept apart
  c.condition.names = ("label",)
  c.model.name = "dit"
  c.model.dit.patch = 4
  c.model.dit.tubelet = 2
  c.model.dit.factorised = False
  c.model.dit.channels = 128
  c.model.dit.blocks = 6
  c.model.dit.heads = 4
  c.train.steps = 2500
  c.train.batch_size = 64
  return c
