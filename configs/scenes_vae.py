"""An autoencoder of captioned scenes: 32x32 pixels to 8x8 latents of 4 channels, which scenes_latent.py draws in.

    python main.py --config=configs/scenes_vae.py --workdir=runs/scenes_vae

Expected and cost: experiments/text_to_image/README.md.
"""

from diffjax import config


def get_config():
  """Two levels below the pixels, squared error and a little KL."""
  c = config.base()
  c.data.source = "scenes"
  c.data.scenes.size = 32
  c.task.name = "autoencoder"
  c.model.kl.channels = 16
  c.model.kl.multipliers = (1, 2, 2)
  c.model.kl.blocks = 1
  c.model.kl.attention = False
  c.model.kl.latent_channels = 4
  c.objective.terms = ("l2", "kl")
  c.objective.kl.weight = 1e-3
  c.train.steps = 600
  c.train.batch_size = 64
  c.train.learning_rate = 2e-3
  c.train.warmup = 50
  c.train.decay = "cosine"
  c.train.averages = ("constant",)
  c.train.constant.rates = (0.99,)
  c.log.every = 50
  c.checkpoint.every = 300
  c.eval.metrics = ()
  return c
