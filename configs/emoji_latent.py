"""Text-to-image on emoji in the latent space of runs/emoji_vae, told by the text encoder of runs/emoji_clip.

    python main.py --config=configs/emoji_vae.py --workdir=runs/emoji_vae
    python main.py --config=configs/emoji_clip.py --workdir=runs/emoji_clip
    python main.py --config=configs/emoji_latent.py --workdir=runs/emoji_latent
    python main.py --workdir=runs/emoji_latent --mode=sample --config.condition.text.request="red heart|cat face"

The evaluation asks a CLIP that had no part in it, of another text tower, trained on more of the keywords, for each
sample's own name; experiments/text_to_image/ has its command, the figures and what it cost:

    python main.py --workdir=runs/emoji_latent --mode=eval \
      --config.eval.caption_retrieval.run=runs/emoji_clip_judge
"""

from configs import emoji_clip


def get_config():
  """The transformer of scenes_latent, by patches of 2x2, which attends to the tokens of the frozen text encoder.

  With --config.model.name=unet it is a U-Net of 8x8 latents, Stable Diffusion's form.
  """
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
  c.model.name = "dit"
  c.model.dit.patch = 2
  c.model.dit.channels = 128
  c.model.dit.blocks = 6
  c.model.dit.heads = 4
  c.model.unet.channels = 64
  c.model.unet.multipliers = (1, 2)
  c.model.unet.blocks = 1
  c.model.unet.attention = (8, 4)
  c.model.unet.heads = 4
  c.model.unet.dropout = 0.1
  c.train.steps = 2500
  c.train.batch_size = 64
  c.train.optimizer = "adam"
  c.train.averages = ("constant",)
  c.train.constant.rates = (0.995,)
  c.log.every = 100
  c.log.sample_every = 1000
  c.checkpoint.every = 1000
  c.sample.sampler = "dpmpp_2m"
  c.sample.grid = "trailing"
  c.sample.steps = 25
  c.sample.guides = ("classifier_free",)
  c.sample.classifier_free.w = 4.0
  c.eval.metrics = ("caption_retrieval",)
  c.eval.count = 318
  c.eval.seeds = 1
  return c
