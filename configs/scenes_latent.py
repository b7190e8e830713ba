"""Text-to-image on captioned scenes in the latent space of runs/scenes_vae, Stable Diffusion's form: 32x32 by 8x8x4.

    python main.py --config=configs/scenes_vae.py --workdir=runs/scenes_vae
    python main.py --config=configs/scenes_latent.py --workdir=runs/scenes_latent
    python main.py --workdir=runs/scenes_latent --mode=sample \
      --config.condition.text.request="a two above a seven|an eight in the top left"
    python main.py --workdir=runs/scenes_latent --mode=eval

Stable Diffusion's table of betas, its guidance of 7.5 is w = 6.5 here; small as these latents are, 2 is better.
The scenes whose latents are kept are as many as config.data.scenes.count. experiments/text_to_image/ has the figures.
"""

from configs import scenes_pixel


def get_config():
  """The pixels' model on latents."""
  c = scenes_pixel.get_config()
  c.data.scenes.size = 32
  c.data.scenes.count = 20_000
  c.space.name = "latent"
  c.space.latent.run = "runs/scenes_vae"
  c.schedule.name = "scaled_linear"
  c.model.unet.channels = 48
  c.model.unet.multipliers = (1, 2)
  c.model.unet.attention = (8, 4)
  c.sample.guides = ("classifier_free",)
  return c
