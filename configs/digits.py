"""scikit-learn's digits: 1,797 scanned 8x8 images, class-conditional, a few minutes on 2 CPU cores.

python main.py --config=configs/digits.py --workdir=runs/digits
"""

from diffjax import config


def get_config():
  """DDPM's process with a small U-Net and classifier-free guidance."""
  c = config.base()
  c.data.source = "digits"
  c.schedule.name = "cosine"
  c.objective.predict = "v"
  c.objective.label_dropout = 0.1
  c.model.conditional = True
  c.model.unet.channels = 32
  c.model.unet.multipliers = (1, 2)
  c.model.unet.blocks = 1
  c.model.unet.attention = (4,)
  c.model.unet.dropout = 0.0
  c.train.steps = 1000
  c.train.batch_size = 64
  c.train.learning_rate = 1e-3
  c.train.warmup = 100
  c.train.decay = "cosine"
  c.train.ema = (0.995,)
  c.log.every = 100
  c.log.samples = 100
  c.checkpoint.every = 500
  c.sample.sampler = "dpmpp_2m"
  c.sample.grid = "trailing"
  c.sample.steps = 10
  c.sample.guidance = 0.1
  c.sample.batch_size = 256
  c.sample.count = 100
  return c
