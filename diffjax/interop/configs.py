"""Our networks from the config.json that lies beside published weights (diffusers 0.42, transformers 5.24).

A field that our network has no counterpart for is refused where it is not what the network does; a field that is
missing has the default of the library that wrote it.
"""

from collections.abc import Mapping
from typing import Any

from diffjax.models.autoencoder import AutoencoderKL
from diffjax.models.clip import CLIP
from diffjax.models.text import TextTransformer
from diffjax.models.vit import VisionTransformer
from diffjax.types import ConfigError

Config = Mapping[str, Any]
LARGEST = 2  # the end token that old files of CLIP name, whose code takes the largest number in a text


def autoencoder_kl(config: Config, **fields) -> AutoencoderKL:
  """The autoencoder of a diffusers AutoencoderKL; `fields` are further ones of ours.

  Raises:
    ConfigError: the config asks for what our network does not do.
  """
  widths = config["block_out_channels"]
  _is(config, "act_fn", "silu")
  for name, kind in (("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")):
    _is(config, name, [kind] * len(widths), list)
  if config.get("use_quant_conv", True) != config.get("use_post_quant_conv", True):
    raise ConfigError("use_quant_conv and use_post_quant_conv must both be true or both false.")
  return AutoencoderKL(
    channels=widths[0],
    multipliers=_ratios(widths),
    blocks=config.get("layers_per_block", 1),
    latent_channels=config.get("latent_channels", 4),
    out_channels=config.get("out_channels", 3),
    attention=config.get("mid_block_add_attention", True),
    latent_convs=config.get("use_quant_conv", True),
    groups=config.get("norm_num_groups", 32),
    **fields,
  )


def clip_text(config: Config, projection: int = 0, **fields) -> TextTransformer:
  """The text tower of a transformers CLIPTextConfig; `fields` are further ones of ours.

  Args:
    config: of the text tower.
    projection: channels of the pooled vector: config["projection_dim"] where the file has text_projection.
    **fields: of TextTransformer.
  """
  end = config.get("eos_token_id", 49407)
  return TextTransformer(
    vocabulary=config.get("vocab_size", 49408),
    length=config.get("max_position_embeddings", 77),
    end=-1 if end == LARGEST else end,
    projection=projection,
    **_tower(config, 512, 8, 2048),
    **fields,
  )


def clip(config: Config) -> CLIP:
  """Both towers of a transformers CLIPConfig."""
  text, vision, projection = config["text_config"], config["vision_config"], config.get("projection_dim", 512)
  image = VisionTransformer(
    patch=vision.get("patch_size", 32),
    patch_bias=False,
    pre_norm=True,
    projection=projection,
    **_tower(vision, 768, 12, 3072),
  )
  return CLIP(clip_text(text, projection), image)


def _tower(config, channels, heads, hidden):
  channels = config.get("hidden_size", channels)
  return {
    "channels": channels,
    "blocks": config.get("num_hidden_layers", 12),
    "heads": config.get("num_attention_heads", heads),
    "mlp_ratio": config.get("intermediate_size", hidden) / channels,
    "activation": config.get("hidden_act", "quick_gelu"),
    "eps": config.get("layer_norm_eps", 1e-5),
  }


def _ratios(widths):
  if any(width % widths[0] for width in widths):
    raise ConfigError(f"block_out_channels is {widths}; every one must be a multiple of the first.")
  return tuple(width // widths[0] for width in widths)


def _is(config, name, wanted, kind=lambda value: value):
  """Raises ConfigError unless a field, where it is there, is what our network does."""
  if kind(config.get(name, wanted)) != wanted:
    raise ConfigError(f"{name} is {config[name]!r}, but this network has {wanted!r}.")
