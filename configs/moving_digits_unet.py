"""Clips of moving digits by Video Diffusion Models' factorised U-Net, class-conditional: 6 frames of 12x12.

    python main.py --config=configs/moving_digits_unet.py --workdir=runs/moving_digits_unet
    python main.py --workdir=runs/moving_digits_unet --mode=sample      # with a GIF
    python main.py --workdir=runs/moving_digits_unet --mode=eval

A fifth of the training examples are stills, frames that do not see each other: joint training on images.
experiments/video/README.md has what was measured of it.
"""

from configs import digits


def get_config():
  """What differs from digits.py: the data, attention over time after every attention over space."""
  c = digits.get_config()
  c.data.source = "moving_digits"
  c.data.moving_digits.size = 12
  c.data.moving_digits.frames = 6
  c.data.moving_digits.stills = 0.2
  c.space.pixels.field = "video"
  c.condition.names = ("label", "moving")
  c.model.unet.attention = (12, 6)
  c.model.unet.heads = 4
  c.train.steps = 1500
  c.train.batch_size = 32
  c.sample.steps = 20
  c.sample.classifier_free.w = 0.5
  c.sample.batch_size = 128
  c.sample.count = 64
  c.eval.metrics = ("moving_digits",)
  c.eval.count = 512
  c.eval.seeds = 1
  return c
