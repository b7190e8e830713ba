"""Clips of moving digits by Video Diffusion Models' factorised U-Net, class-conditional: 6 frames of 12x12.

Single frames first, an image model, and then clips from its weights:

    python main.py --config=configs/moving_digits_unet.py --workdir=runs/moving_stills \
      --config.data.moving_digits.frames=1 --config.train.steps=1000 --config.train.batch_size=64 \
      --config.train.learning_rate=2e-3
    python main.py --config=configs/moving_digits_unet.py --workdir=runs/moving_digits_unet \
      --config.train.start=runs/moving_stills
    python main.py --workdir=runs/moving_digits_unet --mode=sample      # with a GIF
    python main.py --workdir=runs/moving_digits_unet --mode=eval

With --config.data.moving_digits.stills=0.2 and --config.condition.names="('label','moving')" a fifth of the examples
are stills, frames that do not see each other: joint training on images.
experiments/video/README.md has what was measured of it.
"""

from configs import digits


def get_config():
  """What differs from digits.py: the data, near mean 0 and deviation 1, and times of more noise, as scenes_pixel.py."""
  c = digits.get_config()
  c.data.source = "moving_digits"
  c.data.moving_digits.size = 12
  c.data.moving_digits.frames = 6
  c.space.pixels.field = "video"
  c.space.pixels.scale = 1.9
  c.space.pixels.shift = -0.73
  c.objective.times = "logit_normal"
  c.objective.logit_normal.mean = 0.5
  c.model.unet.attention = (6,)
  c.model.unet.heads = 4
  c.train.steps = 2400
  c.train.batch_size = 16
  c.train.learning_rate = 1.5e-3
  c.sample.sampler = "dpmpp_2m_sde"
  c.sample.steps = 20
  c.sample.guides = ("classifier_free",)
  c.sample.classifier_free.w = 0.0
  c.sample.batch_size = 128
  c.sample.count = 64
  c.eval.metrics = ("moving_digits",)
  c.eval.count = 512
  c.eval.seeds = 1
  return c
