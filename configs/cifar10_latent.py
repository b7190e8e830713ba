"""Diffusion on the latents of runs/cifar10_kl, class-conditional.

    python main.py --config=configs/cifar10_kl.py --workdir=runs/cifar10_kl
    python main.py --config=configs/cifar10_latent.py --workdir=runs/cifar10_latent

Not trained here: it is for an accelerator.
"""

from diffjax import config


def get_config():
  """v on the cosine table, a U-Net on 8x8 latents, both views of a picture."""
  c = config.base()
  c.data.source = "tfds"
  c.data.tfds.name = "cifar10"
  c.space.name = "latent"
  c.space.latent.run = "runs/cifar10_kl"
  c.space.latent.mirrored = True
  c.condition.names = ("label",)
  c.condition.label.dropout = 0.1
  c.schedule.name = "cosine"
  c.objective.predict = "v"
  c.model.unet.channels = 128
  c.model.unet.multipliers = (1, 2)
  c.model.unet.attention = (8, 4)
  c.train.steps = 100_000
  c.train.warmup = 1000
  c.train.averages = ("constant",)
  c.train.constant.rates = (0.9999,)
  c.log.sample_every = 10_000
  c.checkpoint.every = 10_000
  c.sample.sampler = "dpmpp_2m"
  c.sample.grid = "trailing"
  c.sample.steps = 20
  c.sample.guides = ("classifier_free",)
  c.sample.classifier_free.w = 0.5
  c.eval.metrics = ("inception",)
  return c
