"""Clips of moving digits by a space-time transformer: 27 tubelets of 4x4 pixels and 2 frames, each attends to all.

    python main.py --config=configs/moving_digits_dit.py --workdir=runs/moving_digits_dit
    python main.py --config=configs/moving_digits_dit.py --workdir=runs/moving_digits_dit_on \
      --config.train.start=runs/moving_digits_dit         # as many steps again, to which its figures belong
    python main.py --workdir=runs/moving_digits_dit_on --mode=eval

experiments/video/README.md has what was measured of it.
"""

from configs import moving_digits_unet


def get_config():
  """What differs from moving_digits_unet.py."""
  c = moving_digits_unet.get_config()
  c.model.name = "dit"
  c.model.dit.patch = 4
  c.model.dit.tubelet = 2
  c.model.dit.factorised = False
  c.model.dit.channels = 128
  c.model.dit.blocks = 6
  c.model.dit.heads = 4
  c.train.steps = 1500
  c.train.batch_size = 64
  c.train.learning_rate = 1e-3
  c.sample.classifier_free.w = 0.5
  return c
