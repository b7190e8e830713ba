"""The networks, by the name that a config gives them."""

from diffjax.models.dit import DiT
from diffjax.models.unet import UNet

MODELS = {
  "unet": UNet,
  "dit": DiT,
}
