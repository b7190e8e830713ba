"""The first stage of a cascade on captioned scenes, Imagen's form: 16x16 pixels, told by text.

    python main.py --config=configs/scenes_base.py --workdir=runs/scenes_base

configs/scenes_sr.py is the second.
"""

from configs import scenes_pixel


def get_config():
  """The pixels' model on scenes of 32x32 made small by 2."""
  c = scenes_pixel.get_config()
  c.data.scenes.size = 32
  c.space.name = "reduced"
  c.space.reduced.factor = 2
  c.space.reduced.scale = 2.5
  c.space.reduced.shift = -0.9
  c.model.dit.patch = 4
  c.model.unet.attention = (8, 4)
  c.train.steps = 1600
  c.eval.metrics = ()
  return c
