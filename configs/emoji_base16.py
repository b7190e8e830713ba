"""The first stage of a cascade on emoji: 16x16 pixels, told nothing.

    python main.py --config=configs/emoji_base16.py --workdir=runs/emoji_base16
    python main.py --workdir=runs/emoji_sr --mode=sample --config.condition.low.run=runs/emoji_base16

configs/emoji_sr.py is the second stage, and the second command draws both.
"""

from configs import emoji_sr


def get_config():
  """A transformer over patches of 2x2 pixels, whose mean 0.53 and deviation 0.6 the space brings to 0 and 1."""
  c = emoji_sr.get_config()
  c.space.name = "reduced"
  c.space.reduced.factor = 4
  c.space.reduced.scale = 1.7
  c.space.reduced.shift = 0.53
  c.condition.names = ()
  c.objective.predict = "v"
  c.model.name = "dit"
  c.model.dit.patch = 2
  c.model.dit.channels = 96
  c.model.dit.blocks = 6
  c.model.dit.heads = 4
  c.train.steps = 1000
  c.train.batch_size = 32
  c.train.learning_rate = 1e-3
  c.sample.guides = ()
  c.sample.sampler = "dpmpp_2m"
  c.eval.metrics = ()
  return c
