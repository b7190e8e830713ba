"""An autoencoder of emoji: 32x32 colour pixels to 8x8 latents of 4 channels, which emoji_latent.py draws in.

python main.py --config=configs/emoji_vae.py --workdir=runs/emoji_vae
"""

from configs import scenes_vae


def get_config():
  """The scenes' autoencoder, wider."""
  c = scenes_vae.get_config()
  c.data.source = "emoji"
  c.data.augment = "flip"
  c.model.kl.channels = 32
  return c
