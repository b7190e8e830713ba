"""A variational autoencoder of scikit-learn's digits (Kingma & Welling 2014), dense, with Bernoulli pixels.

    python main.py --config=configs/digits_vae.py --workdir=runs/digits_vae
    python main.py --workdir=runs/digits_vae --mode=eval

Expected: 90.0 nats for a held-out digit by the bound (2.03 bits of a pixel of 17 levels), 84.8 by 100 importance
samples. Cost: ten seconds on two idle CPU cores. experiments/autoencoders/ has more.
"""

from configs import digits


def get_config():
  """Two hidden layers of 256 and 16 latent numbers, 177,248 parameters; the loss is minus the evidence lower bound."""
  c = digits.get_config()
  c.task.name = "autoencoder"
  c.condition.names = ()
  c.sample.guides = ()
  c.model.autoencoder = "vae"
  c.model.vae.latent = 16
  c.model.decoder = "bernoulli"
  c.model.bernoulli.trials = 16  # the pixels have 17 grey levels
  c.objective.terms = ("nll", "kl")
  c.objective.kl.weight = 1.0
  c.task.autoencoder.prior = "unit"
  c.train.steps = 2000
  c.train.batch_size = 128
  c.train.optimizer = "adamw"
  c.train.learning_rate = 2e-3
  c.eval.bound = ("elbo", "iwae")
  return c
