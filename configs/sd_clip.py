"""CLIP ViT-L/14 (Radford et al. 2021, tables 19 and 20), whose text tower Stable Diffusion 1 reads with.

    python main.py --config=configs/sd_clip.py --workdir=runs/sd_clip \
      --config.data.captions.path=FOLDER --config.data.clip.path=FOLDER_WITH_VOCAB_JSON_AND_MERGES_TXT

427,616,513 parameters, of which the text tower has 123,060,480; the published weights can be used in their place, the
folder text_encoder of a Stable Diffusion (configs/sd_unet.py).
Data: the paper's are 400 million pictures with texts from the web, seen 32 times.
Cost: the paper's run took 12 days on 256 V100; 390,625 steps of 32,768 pairs. Not trained here.
"""

from diffjax import config


def get_config():
  """The paper's towers and training."""
  c = config.base()
  c.task.name = "clip"
  c.task.clip.width = 768
  c.task.clip.chunk = 1024
  c.data.source = "captions"
  c.data.captions.size = 224
  c.data.tokenizer = "clip"
  c.data.clip.fill_with_end = (
    True  # as Stable Diffusion reads; a causal tower does not see what follows the end
  )
  c.model.transformer.channels = 768
  c.model.transformer.heads = 12
  c.model.vit.patch = 14
  c.model.vit.channels = 1024
  c.model.vit.blocks = 24
  c.model.vit.heads = 16
  c.model.vit.activation = "quick_gelu"
  c.model.vit.patch_bias = False
  c.model.vit.pre_norm = True
  c.model.vit.eps = 1e-5
  c.model.vit.remat = True
  c.model.dtype = "bfloat16"
  c.train.steps = 390_625
  c.train.batch_size = 32_768
  c.train.optimizer = "adamw"
  c.train.adamw.weight_decay = 0.2
  c.train.adamw.b2 = 0.98
  c.train.adamw.eps = 1e-6
  c.train.learning_rate = 4e-4
  c.train.warmup = 2000
  c.train.decay = "cosine"
  c.train.clip = 0.0
  c.eval.metrics = ("retrieval",)
  c.eval.split = "test"
  return c
