"""The second stage of a cascade on scenes: 16x16 to 32x32, trained on pictures alone. The whole chain is one command.

    python main.py --config=configs/scenes_base.py --workdir=runs/scenes_base
    python main.py --config=configs/scenes_sr.py --workdir=runs/scenes_sr
    python main.py --workdir=runs/scenes_sr --mode=sample --config.condition.low.run=runs/scenes_base \
      --config.condition.low.request="a two above a seven|an eight in the top left"
    python main.py --workdir=runs/scenes_sr --mode=eval --config.condition.low.run=runs/scenes_base

Without condition.low.run the small images are of the data, and the evaluation compares with the originals too.
--config.condition.low.level=0.1 puts noise on the small images, of which the network then believes less.
"""

from configs import scenes_pixel


def get_config():
  """A transformer over patches of 8x8 pixels and of the small image's; noise on the small image up to 0.3."""
  c = scenes_pixel.get_config()
  c.data.scenes.size = 32
  c.space.pixels.scale = 1.0
  c.space.pixels.shift = 0.0
  c.objective.times = "discrete"
  c.condition.names = ("low",)
  c.condition.low.factor = 2
  c.condition.low.noise = 0.3
  c.model.dit.patch = 8
  c.model.unet.multipliers = (1, 2)
  c.model.unet.attention = ()
  c.train.steps = 600
  c.sample.guides = ("clip",)
  c.sample.split = "test"
  c.eval.metrics = ("restoration", "scenes")
  return c
