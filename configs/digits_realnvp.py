"""RealNVP of scikit-learn's digits: an exact density.

    python main.py --config=configs/digits_realnvp.py --workdir=runs/digits_realnvp

experiments/generative_models/ has its figures beside those of other models.
"""

from configs import digits


def get_config():
  """Eight dense couplings, told the class; samples at temperature 0.7."""
  c = digits.get_config()
  c.task.name = "flow"
  c.task.flow.levels = 17
  c.condition.label.dropout = 0.0
  c.model.realnvp.dropout = 0.2
  c.train.steps = 3000
  c.train.learning_rate = 2e-3
  c.log.sample_every = 1500
  c.checkpoint.every = 1500
  c.sample.temperature = 0.7
  c.eval.likelihood_images = 355
  return c
