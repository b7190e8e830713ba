"""DALL-E 2's decoder on scenes: diffusion of pixels told the image embedding of runs/scenes_clip, trained without text.

    python main.py --config=configs/scenes_clip.py --workdir=runs/scenes_clip
    python main.py --config=configs/scenes_prior.py --workdir=runs/scenes_prior
    python main.py --config=configs/scenes_decoder.py --workdir=runs/scenes_decoder
    python main.py --workdir=runs/scenes_decoder --mode=sample --config.condition.vector.prior=runs/scenes_prior \
      --config.condition.vector.request="a two above a seven|an eight in the top left"
    python main.py --workdir=runs/scenes_decoder --mode=eval --config.condition.vector.prior=runs/scenes_prior

Without condition.vector.prior it is told embeddings of the data's own pictures.
"""

from configs import scenes_pixel


def get_config():
  """The pixels' model at 32x32 by patches of 8x8, told a vector and four tokens."""
  c = scenes_pixel.get_config()
  c.data.scenes.size = 32
  c.data.scenes.count = 20_000
  c.condition.names = ("vector",)
  c.condition.vector.run = "runs/scenes_clip"
  c.condition.vector.scale = 8.0
  c.condition.vector.tokens = 4
  c.condition.vector.dropout = 0.1
  c.model.dit.patch = 8
  c.model.unet.attention = (16, 8)
  c.train.steps = 1500
  c.sample.classifier_free.w = 1.0
  return c
