"""CLIP on captioned scenes, whose embeddings scenes_prior.py makes of text and scenes_decoder.py pictures of.

python main.py --config=configs/scenes_clip.py --workdir=runs/scenes_clip
python main.py --workdir=runs/scenes_clip --mode=eval
"""

from configs import digits_clip


def get_config():
  """The digits' on scenes of 32x32, patches of 8 pixels, four for a digit."""
  c = digits_clip.get_config()
  c.data.source = "scenes"
  c.data.templates = ()
  c.data.scenes.size = 32
  c.data.scenes.count = 20_000
  c.model.vit.patch = 8
  c.model.vit.dropout = 0.0
  c.train.steps = 600
  c.eval.metrics = ("retrieval",)
  return c
