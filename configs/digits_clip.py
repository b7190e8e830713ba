"""CLIP on scikit-learn's digits, whose captions are wordings of their class: "the digit 3", "a handwritten three".

    python main.py --config=configs/digits_clip.py --workdir=runs/digits_clip
    python main.py --workdir=runs/digits_clip --mode=eval

The evaluation asks which of ten captions, each the mean of the templates', is nearest to a held-out digit.
"""

from configs import digits


def get_config():
  """Two small transformers, the softmax loss over batches of 128."""
  c = digits.get_config()
  c.task.name = "clip"
  c.condition.names = ()
  c.data.augment = "shift"
  c.data.templates = ("a {}", "the digit {}", "a handwritten {}", "a scan of a {}")
  c.model.transformer.channels = 64
  c.model.transformer.blocks = 1
  c.model.transformer.heads = 4
  c.model.transformer.rows = 0.3
  c.model.vit.patch = 2
  c.model.vit.channels = 64
  c.model.vit.blocks = 3
  c.model.vit.heads = 4
  c.model.vit.pool = "mean"
  c.model.vit.dropout = 0.2
  c.model.vit.rows = 0.3
  c.train.steps = 2000
  c.train.batch_size = 128
  c.train.averages = ("constant",)
  c.train.constant.rates = (0.99,)
  c.eval.metrics = ("zero_shot",)
  c.eval.split = "test"
  c.eval.zero_shot.templates = c.data.templates
  return c
