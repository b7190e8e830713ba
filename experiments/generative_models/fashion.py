"""What the sweep's configs are on Fashion-MNIST (Xiao et al. 2017): 60,000 images of 28x28 pixels at 256 levels.

Budgets are of a minute or so on a core, not of what the models can do. Texture synthesis, MADE and PixelCNN draw an
image pixel by pixel, in 784 passes, the mixture has a matrix of 784x784 for each component, and diffusion's U-Net takes
twelve times as long as on the digits: they are left out.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

WIDE = {"model.dense_generator.hidden": (256, 256), "model.dense_critic.hidden": (256, 256)}
OVERRIDES: Mapping[str, Mapping[str, Any]] = {
  "digits_vae": {
    "model.decoder": "gaussian",
    "model.vae.hidden": (400, 400),
    "model.vae.latent": 32,
    "train.steps": 4000,
  },
  "digits_gan": WIDE,
  "digits_wgan": WIDE,
  "digits_realnvp": {"task.flow.levels": 256, "model.realnvp.hidden": (128, 128), "train.steps": 2000},
}


def change(config: ConfigDict, name: str, path: str) -> None:
  """Makes a config of the digits one of Fashion-MNIST, which lies at `path`."""
  config.data.source = "arrays"
  config.data.arrays.path = config.data.arrays.test_path = path
  config.data.arrays.image, config.data.arrays.label = "{split}_image", "{split}_label"
  config.log.sample_every = 0
  config.update_from_flattened_dict(OVERRIDES[name])
