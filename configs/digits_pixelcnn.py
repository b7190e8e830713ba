"""A gated PixelCNN of scikit-learn's digits: pixel by pixel, an exact likelihood.

    python main.py --config=configs/digits_pixelcnn.py --workdir=runs/digits_pixelcnn

experiments/generative_models/ has its figures beside those of other models.
"""

from configs import digits_made


def get_config():
  """Four gated layers of 5x5, told the class, mixtures of logistics over the 17 grey levels."""
  c = digits_made.get_config()
  c.model.autoregressive = "pixelcnn"
  c.model.pixelcnn.width = 24
  c.model.pixelcnn.depth = 4
  c.model.pixelcnn.size = 5
  c.model.pixelcnn.dropout = 0.2
  c.train.learning_rate = 3e-3
  c.sample.temperature = 1.0
  return c
