"""An autoencoder of emoji: 32x32 pixels to 8x8 latents of 4 channels (Rombach et al. 2022, small).

    python main.py --config=configs/emoji_vae.py --workdir=runs/emoji_vae
    python main.py --workdir=runs/emoji_vae --mode=eval

The emoji are ~/.cache/diffjax/emoji.npz, or where --config.data.emoji.path says; diffjax/data/emoji.py says what is in
it. configs/emoji_latent_uncond.py is diffusion on its latents.

Expected, and what it cost: experiments/autoencoders/README.md.
"""

from configs import digits_kl


def get_config():
  """Squared error and a little KL."""
  c = digits_kl.get_config()
  c.data.source = "emoji"
  c.model.kl.channels = 16
  c.model.kl.multipliers = (1, 2, 4)
  c.model.kl.latent_channels = 4
  c.objective.kl.weight = 1e-2
  c.train.steps = 2000
  c.train.batch_size = 16
  c.train.learning_rate = 2e-3
  c.log.sample_every = 1000
  c.checkpoint.every = 1000
  c.eval.metrics = ()
  c.eval.probes = ("reconstruction",)
  return c
