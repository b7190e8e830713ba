"""Text-to-image on captioned scenes of digits, in pixels: 24x24, "a two above a seven".

    python main.py --config=configs/scenes_pixel.py --workdir=runs/scenes_pixel
    python main.py --workdir=runs/scenes_pixel --mode=sample \
      --config.condition.text.request="a two above a seven|an eight in the top left"
    python main.py --workdir=runs/scenes_pixel --mode=eval

The text encoder is trained along. experiments/text_to_image/ has the figures.
"""

from diffjax import config


def get_config():
  """A U-Net that attends to the words at 12x12 and 6x6 pixels, cosine, v, guidance."""
  c = config.base()
  c.data.source = "scenes"
  c.schedule.name = "cosine"
  c.objective.predict = "v"
  c.condition.names = ("text",)
  c.condition.text.dropout = 0.1
  c.model.unet.channels = 24
  c.model.unet.multipliers = (1, 2, 4)
  c.model.unet.blocks = 1
  c.model.unet.attention = (12, 6)
  c.model.unet.heads = 4
  c.model.unet.dropout = 0.0
  c.train.steps = 4000
  c.train.batch_size = 64
  c.train.learning_rate = 2e-3
  c.train.warmup = 100
  c.train.averages = ("constant",)
  c.train.constant.rates = (0.995,)
  c.log.every = 100
  c.log.sample_every = 1000
  c.checkpoint.every = 1000
  c.sample.sampler = "dpmpp_2m"
  c.sample.grid = "trailing"
  c.sample.steps = 20
  c.sample.guides = ("classifier_free", "clip")
  c.sample.classifier_free.w = 2.0
  c.sample.batch_size = 256
  c.eval.metrics = ("scenes",)
  c.eval.split = "test"
  c.eval.count = 1024
  c.eval.seeds = 1
  return c
