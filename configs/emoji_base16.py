"""The first stage of a cascade on emoji: 16x16 pixels, told by text.

    python main.py --config=configs/emoji_base16.py --workdir=runs/emoji_base16
    python main.py --workdir=runs/emoji_sr --mode=sample --config.condition.low.run=runs/emoji_base16 \
      --config.condition.low.request="red heart|cat face"

configs/emoji_sr.py is the second stage, told the picture alone, and the second command draws both.
"""

from configs import scenes_base


def get_config():
  """The scenes' first stage on emoji, whose mean 0.53 and deviation 0.6 the space brings to 0 and 1."""
  c = scenes_base.get_config()
  c.data.source = "emoji"
  c.data.emoji.size = 64
  c.space.reduced.factor = 4
  c.space.reduced.scale = 1.7
  c.space.reduced.shift = 0.53
  return c
