"""Super-resolution of emoji, 16x16 to 64x64, trained on pictures alone.

    python main.py --config=configs/emoji_sr.py --workdir=runs/emoji_sr
    python main.py --workdir=runs/emoji_sr --mode=eval                              # held-out emoji, beside bicubic
    python main.py --workdir=runs/emoji_sr --mode=sample --images=FOLDER            # pictures of 16x16 of your own

configs/emoji_regression.py answers in one step, configs/emoji_base16.py is a stage before. 16 to 32 is
--config.data.emoji.size=32 --config.condition.low.factor=2. The emoji are configs/emoji_vae.py's. What was measured of
it: experiments/cascades/README.md.
"""

from diffjax import config


def get_config():
  """Imagen's efficient U-Net, small, with noise on the small image up to 0.1.

  At 64x64 it has no block on the way down and one on the way up; most are at 16x16. It predicts x0: where it predicts
  v, pictures are grainy. The space brings what bicubic leaves open, of deviation 0.15 to 0.18, near the usual noise.
  """
  c = config.base()
  c.data.source = "emoji"
  c.data.emoji.size = 64
  c.data.augment = "flip"
  c.space.pixels.scale = 4.0
  c.space.pixels.shift = 0.53
  c.condition.names = ("low",)
  c.condition.low.factor = 4
  c.condition.low.noise = 0.1
  c.condition.low.dropout = 0.1
  c.schedule.name = "cosine"
  c.objective.predict = "x0"
  c.model.unet.channels = 16
  c.model.unet.multipliers = (1, 2, 4)
  c.model.unet.level_blocks = (0, 1, 2)
  c.model.unet.attention = ()
  c.model.unet.dropout = 0.0
  c.model.unet.scale_shift = True
  c.train.steps = 5000
  c.train.batch_size = 16
  c.train.learning_rate = 2e-3
  c.train.warmup = 100
  c.train.decay = "cosine"
  c.train.averages = ("constant",)
  c.train.constant.rates = (0.995,)
  c.log.every = 100
  c.log.sample_every = 1000
  c.checkpoint.every = 500
  c.sample.sampler = "ddim"
  c.sample.grid = "trailing"
  c.sample.steps = 20
  c.sample.split = "test"
  c.sample.guides = ("classifier_free",)
  c.sample.classifier_free.w = 1.0
  c.eval.metrics = ("restoration",)
  c.eval.split = "test"
  c.eval.seeds = 1
  return c
