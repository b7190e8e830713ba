"""MADE of scikit-learn's digits: pixel by pixel, an exact likelihood.

    python main.py --config=configs/digits_made.py --workdir=runs/digits_made

experiments/generative_models/ has its figures beside those of other models.
"""

from configs import digits


def get_config():
  """Two masked layers, told the class, mixtures of logistics over the 17 grey levels."""
  c = digits.get_config()
  c.task.name = "autoregressive"
  c.condition.label.dropout = 0.0
  c.model.pixels = "logistic_mixture"
  c.model.logistic_mixture.levels = 17
  c.model.made.dropout = 0.3
  c.train.steps = 1500
  c.log.sample_every = 1500
  c.checkpoint.every = 1500
  c.sample.temperature = 0.8
  c.eval.likelihood_images = 355
  return c
