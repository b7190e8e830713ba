"""CLIP on emoji and their names: 2,964 pictures of training concepts, judged on concepts that it has not seen.

    python main.py --config=configs/emoji_clip.py --workdir=runs/emoji_clip
    python main.py --workdir=runs/emoji_clip --mode=eval

The pictures are an npz that diffjax/data/emoji.py describes; --config.data.emoji.path names it.
"""

from diffjax import config


def get_config():
  """A vision transformer on patches of 8 pixels, byte pairs of names and keywords.

  The texts' tower is one block, whose tokens all see each other and are averaged: of so few names it learns more of
  new ones than one of two causal blocks that is read at the end token. The decay of
  weights is strong, since training pictures are soon known by heart.
  """
  c = config.base()
  c.task.name = "clip"
  c.data.source = "emoji"
  c.data.augment = "flip"
  c.data.tokenizer = "bpe"
  c.data.bpe.vocabulary = 2048
  c.data.bpe.length = 16
  c.task.clip.width = 128
  c.model.transformer.channels = 128
  c.model.transformer.blocks = 1
  c.model.transformer.causal = False
  c.model.transformer.pool = "mean"
  c.model.transformer.heads = 4
  c.model.transformer.dropout = 0.1
  c.model.transformer.rows = 0.3
  c.model.vit.patch = 8
  c.model.vit.channels = 128
  c.model.vit.blocks = 4
  c.model.vit.heads = 4
  c.model.vit.pool = "mean"
  c.model.vit.dropout = 0.1
  c.model.vit.rows = 0.3
  c.train.steps = 1200
  c.train.batch_size = 128
  c.train.optimizer = "adamw"
  c.train.adamw.weight_decay = 1.0
  c.train.learning_rate = 1e-3
  c.train.warmup = 100
  c.train.decay = "cosine"
  c.train.averages = ("constant",)
  c.train.constant.rates = (0.99,)
  c.log.every = 50
  c.checkpoint.every = 200
  c.eval.metrics = ("retrieval",)
  c.eval.split = "test"
  return c
