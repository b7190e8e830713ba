"""A generative adversarial network of scikit-learn's digits: the non-saturating game with R1.

    python main.py --config=configs/digits_gan.py --workdir=runs/digits_gan

experiments/generative_models/ has its figures beside those of other models.
"""

from configs import digits


def get_config():
  """Two small dense networks, told the class."""
  c = digits.get_config()
  c.task.name = "gan"
  c.task.gan.strength = 0.5
  c.condition.label.dropout = 0.0
  c.train.steps = 4000
  c.train.learning_rate = 1e-3
  c.train.warmup = 0
  c.train.adam.b1 = 0.5
  c.train.adam.b2 = 0.99
  c.train.clip = 0.0  # of both players' gradients together
  c.log.sample_every = 2000
  c.checkpoint.every = 2000
  return c
