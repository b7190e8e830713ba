"""Diffusion on the latents of runs/emoji_vae, without any condition.

    python main.py --config=configs/emoji_vae.py --workdir=runs/emoji_vae
    python main.py --config=configs/emoji_latent_uncond.py --workdir=runs/emoji_latent_uncond

configs/emoji_pixels.py is its twin on pixels. Expected: experiments/autoencoders/README.md.
"""

from configs import digits


def get_config():
  """The digits' model on 8x8 latents of 4 channels, both views of a picture."""
  c = digits.get_config()
  c.data.source = "emoji"
  c.data.emoji.captions = 1
  c.space.name = "latent"
  c.space.latent.run = "runs/emoji_vae"
  c.space.latent.mirrored = True
  c.condition.names = ()
  c.model.unet.channels = 64
  c.model.unet.attention = (4, 8)
  c.train.steps = 12_000
  c.train.batch_size = 16
  c.train.warmup = 1200
  c.log.sample_every = 0
  c.log.samples = 48
  c.sample.steps = 10
  c.sample.guides = ()
  c.eval.metrics = ("inception",)
  return c
