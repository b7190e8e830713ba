r"""Stable Diffusion 1 from nothing (Rombach et al. 2022 and the model card of v1.4), in three runs.

    python main.py --config=configs/sd_autoencoder.py --workdir=runs/sd_autoencoder   # 83,653,863 parameters
    python main.py --config=configs/sd_clip.py --workdir=runs/sd_clip                 # its text tower: 123,060,480
    python main.py --config=configs/sd.py --workdir=runs/sd_256 --config.data.captions.size=256 \
      --config.model.unet.attention="(32,16,8)" --config.train.steps=237000
    python main.py --config=configs/sd.py --workdir=runs/sd --config.train.start=runs/sd_256   # 859,520,964

each with --config.data.captions.path=FOLDER and --config.data.clip.path=FOLDER_WITH_VOCAB_JSON_AND_MERGES_TXT. The
published system did not train a CLIP but used OpenAI's.

Data: 170 million to 2 billion captioned pictures of the web (LAION-2B-en, and its high-resolution and aesthetic
parts); their latents take 131 kB each at 512x512.
Cost: 237,000 steps at 256x256 and 934,000 at 512x512 of 2048 pictures are 3.4e21 FLOP (0.56 TFLOP a picture forward at
512x512, counted; three times that with the backward pass): 2,400 hours of an H100, or 12,000 of a TPU v5e chip, at 40 %
of bfloat16's peak, reckoned and not measured, and the latents besides. The published run took 150,000 hours of A100.
"""

from configs import sd_unet


def get_config():
  """The published training at 512x512: what differs from going on with the weights."""
  c = sd_unet.get_config()
  c.train.steps = 934_000
  c.train.batch_size = 2048
  c.train.learning_rate = 1e-4
  c.train.warmup = 10_000
  c.log.sample_every = 10_000
  c.checkpoint.every = 5000
  return c
