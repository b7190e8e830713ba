"""A variational autoencoder of scikit-learn's digits (Kingma & Welling 2014), dense, with Bernoulli pixels.

    python main.py --config=configs/digits_vae.py --workdir=runs/digits_vae
    python main.py --workdir=runs/digits_vae --mode=eval

Expected: see experiments/autoencoders/README.md.
"""

from configs import digits


def get_config():
  """Two hidden layers of 256 and 8 latent numbers, 171,088 parameters; the evidence lower bound is the objective."""
  c = digits.get_config()
  c.task.name = "autoencoder"
  c.condition.names = ()
  c.sample.guides = ()
  c.model.autoencoder = "vae"
  c.model.decoder = "bernoulli"
  c.model.bernoulli.trials = 16  # the pixels have 17 grey levels
  c.objective.terms = ("nll", "kl")
  c.objective.kl.weight = 1.0
  c.task.autoencoder.prior = "unit"
  c.train.steps = 2000
  c.train.batch_size = 128
  c.eval.bound = ("elbo", "iwae")
  return c
