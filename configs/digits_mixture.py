"""Gaussian mixtures of scikit-learn's digits, three full covariances a class, by EM: an exact density.

    python main.py --config=configs/digits_mixture.py --workdir=runs/digits_mixture

experiments/generative_models/ has its figures beside those of other models.
"""

from configs import digits


def get_config():
  """All 1,442 training digits are one batch, so that every step is one of plain EM."""
  c = digits.get_config()
  c.task.name = "mixture"
  c.task.mixture.levels = 17
  c.condition.label.dropout = 0.0
  c.train.steps = 30
  c.train.batch_size = 1442
  c.train.warmup = 0
  c.train.averages = ()
  c.sample.weights = "raw"
  c.log.every = 10
  c.log.sample_every = 0
  c.checkpoint.every = 30
  c.eval.likelihood_images = 355
  return c
