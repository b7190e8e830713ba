"""Diffusion on the pixels of emoji, the twin of configs/emoji_latent_uncond.py on latents.

    python main.py --config=configs/emoji_pixels.py --workdir=runs/emoji_pixels

Expected, beside the latents': experiments/autoencoders/README.md.
"""

from configs import emoji_latent_uncond


def get_config():
  """The same U-Net, half as wide and with a level more, on 32x32 pixels."""
  c = emoji_latent_uncond.get_config()
  c.space.name = "pixels"
  c.data.augment = "flip"
  c.model.unet.channels = 32
  c.model.unet.multipliers = (1, 2, 4)
  c.model.unet.attention = (8,)
  c.train.steps = 1800
  c.train.warmup = 180
  c.sample.guides = ("clip",)
  return c
