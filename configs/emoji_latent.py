"""Text-to-image on emoji in the latent space of runs/emoji_vae, told by the text encoder of runs/emoji_clip.

    python main.py --config=configs/emoji_vae.py --workdir=runs/emoji_vae
    python main.py --config=configs/emoji_clip.py --workdir=runs/emoji_clip
    python main.py --config=configs/emoji_latent.py --workdir=runs/emoji_latent
    python main.py --workdir=runs/emoji_latent --mode=sample --config.condition.text.request="red heart|cat face"

It wants an accelerator or an hour of 2 cores, and was not trained to its end. The evaluation asks a CLIP of another
seed, which had no part in it:

    python main.py --config=configs/emoji_clip.py --workdir=runs/emoji_clip_judge --config.seed=1
    python main.py --workdir=runs/emoji_latent --mode=eval \
      --config.eval.caption_retrieval.run=runs/emoji_clip_judge
"""

from configs import emoji_clip


def get_config():
  """A U-Net of 8x8 latents that attends to the tokens of the frozen text encoder."""
  c = emoji_clip.get_config()
  c.task.name = "diffusion"
  c.space.name = "latent"
  c.space.latent.run = "runs/emoji_vae"
  c.condition.names = ("text",)
  c.condition.text.run = "runs/emoji_clip"
  c.condition.text.dropout = 0.1
  c.data.augment = "none"
  c.schedule.name = "scaled_linear"
  c.objective.predict = "v"
  c.model.unet.channels = 64
  c.model.unet.multipliers = (1, 2)
  c.model.unet.blocks = 1
  c.model.unet.attention = (8, 4)
  c.model.unet.heads = 4
  c.model.unet.dropout = 0.1
  c.train.steps = 10_000
  c.train.optimizer = "adam"
  c.train.averages = ("constant",)
  c.train.constant.rates = (0.999,)
  c.log.sample_every = 1000
  c.checkpoint.every = 1000
  c.sample.sampler = "dpmpp_2m"
  c.sample.grid = "trailing"
  c.sample.steps = 25
  c.sample.guides = ("classifier_free",)
  c.sample.classifier_free.w = 4.0
  c.eval.metrics = ("caption_retrieval",)
  c.eval.count = 1024
  c.eval.seeds = 1
  return c
