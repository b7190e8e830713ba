"""Super-resolution of emoji by regression: one step, the mean of all answers.

    python main.py --config=configs/emoji_regression.py --workdir=runs/emoji_reg64
    python main.py --workdir=runs/emoji_reg64 --mode=eval

It stands beside configs/emoji_sr.py, the network and the data the same but for the pixels' scale and scale_shift.
What was measured: experiments/cascades/README.md.
"""

from configs import emoji_sr


def get_config():
  """Times near 1 alone, where nothing is seen of the original and v is -x0, and small images without noise."""
  c = emoji_sr.get_config()
  c.space.pixels.scale = 1.0
  c.space.pixels.shift = 0.0
  c.condition.low.noise = 0.0
  c.condition.low.dropout = 0.0
  c.objective.predict = "v"
  c.objective.times = "logit_normal"
  c.objective.logit_normal.mean = 8.0
  c.objective.logit_normal.std = 0.1
  c.model.unet.scale_shift = False
  c.train.steps = 900
  c.sample.guides = ("clip",)
  c.sample.steps = 1
  return c
