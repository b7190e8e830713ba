"""A Wasserstein generative adversarial network of scikit-learn's digits, with gradient penalty.

    python main.py --config=configs/digits_wgan.py --workdir=runs/digits_wgan

experiments/generative_models/ has its figures beside those of other models.
"""

from configs import digits_gan


def get_config():
  """The networks of configs/digits_gan.py, the critic three times as fast as the generator."""
  c = digits_gan.get_config()
  c.task.gan.game = "wasserstein"
  c.task.gan.penalty = "gradient"
  c.task.gan.strength = 10.0
  c.task.gan.critic_rate = 3.0
  c.train.learning_rate = 5e-4
  return c
