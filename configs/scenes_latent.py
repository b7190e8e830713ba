"""Text-to-image on captioned scenes in the latent space of runs/scenes_vae, Stable Diffusion's form: 32x32 by 8x8x4.

    python main.py --config=configs/scenes_vae.py --workdir=runs/scenes_vae
    python main.py --config=configs/scenes_latent.py --workdir=runs/scenes_latent
    python main.py --workdir=runs/scenes_latent --mode=sample \
      --config.condition.text.request="a two above a seven|an eight in the top left"
    python main.py --workdir=runs/scenes_latent --mode=eval

The table of betas is Stable Diffusion's; its guidance of 7.5 would be w = 6.5 here, and this config has 2.
The scenes whose latents are kept are as many as config.data.scenes.count. experiments/text_to_image/ has the figures.
"""

from configs import scenes_pixel


def get_config():
  """The pixels' model on latents, by patches of 2x2; --config.model.name=unet is Stable Diffusion's own network."""
  c = scenes_pixel.get_config()
  c.data.scenes.size = 32
  c.data.scenes.count = 20_000
  c.space.name = "latent"
  c.space.latent.run = "runs/scenes_vae"
  c.schedule.name = "scaled_linear"
  c.model.dit.patch = 2
  c.model.unet.channels = 48
  c.model.unet.multipliers = (1, 2)
  c.model.unet.attention = (8, 4)
  c.objective.times = "discrete"
  c.train.steps = 4000
  return c
