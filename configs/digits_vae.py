"""A variational autoencoder of scikit-learn's digits (Kingma & Welling 2014), dense, told the class.

    python main.py --config=configs/digits_vae.py --workdir=runs/digits_vae
    python main.py --workdir=runs/digits_vae --mode=eval

Expected: -82.4 nats for a held-out digit by the bound (1.86 bits of a pixel of 17 levels), -78.8 by 100 importance
samples; Fréchet distance 8.3, 99.4 % of the samples read as the class that was asked for. The held-out digits chose
1,000 steps, after which the bound rises again.
Cost: ten seconds on two idle CPU cores. experiments/autoencoders/ has more.
"""

from configs import digits


def get_config():
  """Two hidden layers of 256, 16 latent numbers, three logistics a pixel; the loss is minus the evidence bound."""
  c = digits.get_config()
  c.task.name = "autoencoder"
  c.condition.label.dropout = 0.0
  c.model.autoencoder = "vae"
  c.model.vae.latent = 16
  c.model.decoder = "logistics"
  c.model.logistics.levels = 17
  c.model.logistics.components = 3
  c.objective.terms = ("nll", "kl")
  c.objective.kl.weight = 1.0
  c.train.steps = 1000
  c.train.batch_size = 128
  c.train.optimizer = "adamw"
  c.train.learning_rate = 2e-3
  c.eval.bound = ("elbo", "iwae")
  return c
