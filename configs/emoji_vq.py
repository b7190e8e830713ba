"""A vector-quantised autoencoder of emoji: 32x32 pixels to 8x8 codes of 512 (van den Oord et al. 2017).

    python main.py --config=configs/emoji_vq.py --workdir=runs/emoji_vq
    python main.py --workdir=runs/emoji_vq --mode=eval

The emoji are configs/emoji_vae.py's. The codebook is learnt by averages; the line "perplexity" of the metrics says how
many codes are in use. Expected: experiments/autoencoders/README.md.
"""

from configs import emoji_vae


def get_config():
  """The autoencoder of emoji_vae with the nearest code in place of the Gaussian."""
  c = emoji_vae.get_config()
  c.model.bottleneck = "vq"
  c.objective.terms = ("l2", "commitment")
  c.objective.commitment.weight = 10.0  # beside a sum over 3,072 numbers
  return c
