"""An autoencoder of scikit-learn's digits: 8x8 pixels to 2x2 latents of 4 channels.

    python main.py --config=configs/digits_kl.py --workdir=runs/digits_kl

configs/digits_latent.py is diffusion on its latents.
"""

from configs import digits


def get_config():
  """A small convolutional autoencoder, squared error and a little KL."""
  c = digits.get_config()
  c.task.name = "autoencoder"
  c.condition.names = ()
  c.model.kl.channels = 16
  c.model.kl.multipliers = (1, 2, 2)
  c.model.kl.blocks = 1
  c.model.kl.latent_channels = 4
  c.objective.terms = ("l2", "kl")
  c.objective.kl.weight = 1e-3
  return c
