"""What the sweep's configs are on Fashion-MNIST (Xiao et al. 2017): 60,000 images of 28x28 pixels at 256 levels.

Budgets are of a minute or so on a core, of diffusion's of ten, not of what the models can do. Texture synthesis, MADE
and PixelCNN draw an image pixel by pixel, in 784 passes, and are left out. The mixture, which has a matrix of 784x784
for each component, has one for each class: with power = 1 one pass over the data is exactly the likeliest. Diffusion's
U-Net would take twelve times as long as on the digits; it has a transformer in its place.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

CLASSES = (
  "T-shirt",
  "trouser",
  "pullover",
  "dress",
  "coat",
  "sandal",
  "shirt",
  "sneaker",
  "bag",
  "boot",
)
WIDE = {"model.dense_generator.hidden": (256, 256), "model.dense_critic.hidden": (256, 256)}
OVERRIDES: Mapping[str, Mapping[str, Any]] = {
  "digits_mixture": {
    "task.mixture.levels": 256,
    "task.mixture.components": 1,
    "task.mixture.power": 1.0,
    "task.mixture.floor": 1e-3,
    "train.batch_size": 2000,
    "sample.batch_size": 64,  # each image wants its component's matrix
  },
  "digits_vae": {
    "model.decoder": "gaussian",
    "model.vae.hidden": (400, 400),
    "model.vae.latent": 32,
    "train.steps": 4000,
  },
  "digits_gan": WIDE,
  "digits_wgan": WIDE,
  "digits_realnvp": {"task.flow.levels": 256, "model.realnvp.hidden": (128, 128), "train.steps": 2000},
  "digits": {
    "model.name": "dit",
    "model.dit.patch": 4,
    "model.dit.channels": 96,
    "model.dit.blocks": 4,
    "model.dit.heads": 4,
    "eval.likelihood": ("continuous_vlb",),
    "eval.continuous_vlb.levels": 256,
    "eval.continuous_vlb.logsnr_max": 13.3,  # half a bin is three sigma, as 7.7 is of the digits' 17 levels
  },
}


def change(config: ConfigDict, name: str, path: str) -> None:
  """Makes a config of the digits one of Fashion-MNIST, which lies at `path`."""
  config.data.source = "arrays"
  config.data.arrays.path = config.data.arrays.test_path = path
  config.data.arrays.image, config.data.arrays.label = "{split}_image", "{split}_label"
  config.log.sample_every = 0
  config.update_from_flattened_dict(OVERRIDES[name])
