"""DALL-E 2's prior on scenes: diffusion over the image embeddings of runs/scenes_clip, told by text.

    python main.py --config=configs/scenes_clip.py --workdir=runs/scenes_clip
    python main.py --config=configs/scenes_prior.py --workdir=runs/scenes_prior

configs/scenes_decoder.py makes pictures of what it draws.
"""

from diffjax import config


def get_config():
  """A transformer that predicts x0; the embeddings, of length 1, times the root of their 64 numbers."""
  c = config.base()
  c.data.source = "scenes"
  c.data.scenes.size = 32
  c.data.scenes.count = 20_000
  c.space.name = "vector"
  c.space.vector.run = "runs/scenes_clip"
  c.space.vector.scale = 8.0
  c.condition.names = ("text",)
  c.condition.text.run = "runs/scenes_clip"
  c.condition.text.edge = False
  c.condition.text.dropout = 0.1
  c.schedule.name = "cosine"
  c.objective.predict = "x0"
  c.model.name = "prior"
  c.model.prior.channels = 96
  c.model.prior.blocks = 3
  c.model.prior.heads = 4
  c.train.steps = 1200
  c.train.batch_size = 128
  c.train.learning_rate = 5e-4
  c.train.warmup = 100
  c.train.decay = "cosine"
  c.train.averages = ("constant",)
  c.train.constant.rates = (0.995,)
  c.log.every = 100
  c.checkpoint.every = 1000
  c.sample.sampler = "dpmpp_2m"
  c.sample.grid = "trailing"
  c.sample.steps = 20
  c.sample.guides = ("classifier_free",)
  c.sample.classifier_free.w = 1.0
  c.eval.metrics = ()
  return c
