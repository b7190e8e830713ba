"""The networks, by the name that a config gives them.

MODELS answer with x's shape but for its channels, ENCODERS with a vector, AUTOENCODERS with x itself and what it passed
through, DISCRIMINATORS with how real x looks; TEXT_ENCODERS and IMAGE_ENCODERS are the towers of CLIP (clip.py). Of the
first two each is called as

    MODELS[name](out_channels=C, conditions=((name, embed), ...), dtype="float32", **options)
    net.apply({"params": params}, x [B, ..., c], time [B], {name: value}, dropout keys [B] or None)

What knows no time is called without it: GENERATORS make x of noise, CRITICS a number of x, FLOWS noise of x's size and
the log-determinant, and x again by `inverse`, AUTOREGRESSIVE the outputs for each number of x.
"""

from diffjax.models.autoencoder import AutoencoderKL
from diffjax.models.critic import ConvCritic, DenseCritic
from diffjax.models.dense_autoencoder import DenseAutoencoder
from diffjax.models.discriminator import PatchDiscriminator
from diffjax.models.dit import DiT
from diffjax.models.encoder import UNetEncoder
from diffjax.models.generator import ConvGenerator, DenseGenerator
from diffjax.models.made import MADE
from diffjax.models.pixelcnn import PixelCNN
from diffjax.models.prior import Prior
from diffjax.models.realnvp import RealNVP
from diffjax.models.text import TextTransformer
from diffjax.models.unet import UNet
from diffjax.models.vit import VisionTransformer
from diffjax.ranges import checked

MODELS = checked({"unet": UNet, "dit": DiT, "prior": Prior})
ENCODERS = checked({"unet_encoder": UNetEncoder})
AUTOENCODERS = checked({"kl": AutoencoderKL, "vae": DenseAutoencoder})
DISCRIMINATORS = checked({"patch": PatchDiscriminator})
TEXT_ENCODERS = checked({"transformer": TextTransformer})
IMAGE_ENCODERS = checked({"vit": VisionTransformer})
GENERATORS = checked({"dense_generator": DenseGenerator, "conv_generator": ConvGenerator})
CRITICS = checked({"dense_critic": DenseCritic, "conv_critic": ConvCritic})
FLOWS = checked({"realnvp": RealNVP})
AUTOREGRESSIVE = checked({"made": MADE, "pixelcnn": PixelCNN})
