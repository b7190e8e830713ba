"""Texture synthesis of scikit-learn's digits, pixel by pixel out of the training digits: no model at all.

    python main.py --config=configs/digits_texture.py --workdir=runs/digits_texture

experiments/generative_models/ has its figures beside those of other models.
"""

from configs import digits


def get_config():
  """One step in which all 1,442 training digits are looked at."""
  c = digits.get_config()
  c.task.name = "texture"
  c.task.texture.exemplars = 1442
  c.condition.label.dropout = 0.0
  c.train.steps = 1
  c.train.batch_size = 1442
  c.train.warmup = 0
  c.train.averages = ()
  c.sample.weights = "raw"
  c.log.every = 1
  c.log.sample_every = 0
  c.checkpoint.every = 1
  return c
