r"""Stable Diffusion 1's U-Net, 859,520,964 parameters, to go on with on captioned pictures of your own.

With FOLDER as diffusers saves the published model:

    python -c "from diffjax.jobs import imported; imported.stable_diffusion('FOLDER', 'runs/sd')"
    python main.py --config=configs/sd_unet.py --workdir=runs/mine --config.train.start=runs/sd \
      --config.data.captions.path=PICTURES --config.data.clip.path=FOLDER/tokenizer \
      --config.space.latent.run=FOLDER/vae --config.condition.text.run=FOLDER/text_encoder
    python main.py --workdir=runs/mine --mode=sample --config.condition.text.request="a cat|a red house"

configs/sd.py is the same from nothing. The latents of all pictures are kept on disk, 131 kB each; texts are read in
the step.
Cost: 0.56 TFLOP a picture forward, 1.7 with the backward pass; 10,000 steps of 32 are about 4 hours of one H100 at 40 %
of bfloat16's peak, reckoned and not measured, and weights, moments and averages take 14 GB.
"""

from diffjax import config


def get_config():
  """The network as published, which attends to a frozen text encoder's tokens as they are, on 64x64x4 latents."""
  c = config.base()
  c.data.source = "captions"
  c.data.captions.size = 512
  c.data.tokenizer = "clip"
  c.data.clip.fill_with_end = True
  c.space.name = "latent"
  c.space.latent.run = "runs/sd_autoencoder"
  c.condition.names = ("text",)
  c.condition.text.run = "runs/sd_clip"
  c.condition.text.plain = True
  c.condition.text.edge = False
  c.condition.text.dropout = 0.1
  c.schedule.name = "scaled_linear"
  c.model.unet.channels = 320
  c.model.unet.multipliers = (1, 2, 4, 4)
  c.model.unet.blocks = 2
  c.model.unet.attention = (64, 32, 16)
  c.model.unet.heads = 8
  c.model.unet.transformers = (1, 1, 1, 1)
  c.model.unet.dropout = 0.0
  c.model.unet.eps = 1e-5
  c.model.unet.centred = True
  c.model.unet.frequency_shift = 0
  c.model.unet.cosines_first = True
  c.model.unet.remat = True
  c.model.dtype = "bfloat16"
  c.train.steps = 10_000
  c.train.batch_size = 32
  c.train.optimizer = "adamw"
  c.train.adamw.weight_decay = 0.01
  c.train.learning_rate = 1e-5
  c.train.warmup = 500
  c.log.sample_every = 1000
  c.log.samples = 16
  c.checkpoint.every = 1000
  c.sample.sampler = "plms"
  c.sample.steps = 50
  c.sample.leading.offset = 1
  c.sample.guides = ("classifier_free",)
  c.sample.classifier_free.w = 6.5  # the published guidance scale of 7.5
  c.sample.batch_size = 8
  c.eval.metrics = ()
  return c
