"""Published configurations as networks of ours, and those that are not ours."""

import pytest
from fixtures import published

from diffjax.interop import configs
from diffjax.models.autoencoder import AutoencoderKL
from diffjax.models.text import TextTransformer
from diffjax.models.vit import VisionTransformer
from diffjax.types import ConfigError

VAE = published.config("autoencoder_kl")


def test_stable_diffusions_autoencoder_is_the_default():
  sd = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 32,
    "act_fn": "silu",
  }
  assert configs.autoencoder_kl(sd) == AutoencoderKL(groups=32)
  assert configs.autoencoder_kl(sd, dtype="bfloat16") == AutoencoderKL(groups=32, dtype="bfloat16")


def test_a_config_of_clip_without_fields_is_base_32():
  net = configs.clip({"text_config": {}, "vision_config": {}})
  assert net.text == TextTransformer(projection=512, end=49407)
  clip_form = {"pre_norm": True, "patch_bias": False, "activation": "quick_gelu", "eps": 1e-5}
  assert net.image == VisionTransformer(projection=512, **clip_form)


@pytest.mark.parametrize("eos, end", [(2, -1), (49407, 49407)])
def test_the_end_token_of_old_files_is_the_largest(eos, end):
  assert configs.clip_text({"eos_token_id": eos}).end == end


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"act_fn": "relu"}, "act_fn is 'relu', but this network has 'silu'"),
    ({"down_block_types": ["AttnDownEncoderBlock2D"] * 3}, "down_block_types is"),
    ({"up_block_types": ["UpDecoderBlock2D"] * 2}, "up_block_types is"),
    ({"block_out_channels": [4, 6, 8]}, "every one must be a multiple of the first"),
    ({"use_quant_conv": False}, "must both be true or both false"),
  ],
)
def test_what_is_not_our_network_is_refused(fields, message):
  with pytest.raises(ConfigError, match=message):
    configs.autoencoder_kl(VAE | fields)
