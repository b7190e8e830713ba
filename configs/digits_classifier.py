"""A classifier of noisy digits: p(y | x_t) at every noise level of configs/digits.py, for classifier guidance.

    python main.py --config=configs/digits_classifier.py --workdir=runs/digits_classifier
    python main.py --workdir=runs/digits --mode=sample --config.sample.guides="('classifier','clip')" \
      --config.sample.classifier.run=runs/digits_classifier

experiments/classifier_guidance/ shows what its guidance does beside classifier-free guidance.
Cost: a minute on 2 CPU cores.
"""

from configs import digits


def get_config():
  """The schedule and the training of the digits' model; half of its U-Net."""
  c = digits.get_config()
  c.task.name = "classifier"
  c.model.unet_encoder.channels = 32
  c.model.unet_encoder.multipliers = (1, 2)
  c.model.unet_encoder.attention = (4,)
  c.model.unet_encoder.dropout = 0.1
  c.condition.names = ()
  c.eval.metrics = ()
  return c
