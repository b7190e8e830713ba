"""Our networks from the config.json that lies beside published weights (diffusers 0.42, transformers 5.24).

A field that our network has no counterpart for is refused where it is not what the network does; a field that is
missing has the default of the library that wrote it.
"""

from collections.abc import Mapping
from typing import Any

from diffjax.models.autoencoder import AutoencoderKL
from diffjax.models.clip import CLIP
from diffjax.models.conditioning import Embeds
from diffjax.models.dit import DiT
from diffjax.models.text import TextTransformer
from diffjax.models.unet import UNet
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


def unet(config: Config, size: int = 0, conditions: Embeds = (), **fields) -> UNet:
  """The U-Net of a diffusers UNet2DModel, or UNet2DConditionModel, which has transformers.

  Args:
    config: of the U-Net.
    size: height of its input; by default config["sample_size"].
    conditions: what it is told, tokens as they are where it has transformers.
    **fields: further ones of ours.

  Raises:
    ConfigError: the config asks for what our network does not do.
  """
  cross_attention = config.get("_class_name") == "UNet2DConditionModel"
  widths, size = config["block_out_channels"], size or config["sample_size"]
  for name, ours in (_OF_TRANSFORMERS if cross_attention else _OF_PLAIN) | _OF_UNETS:
    _is(config, name, ours)
  attending = "CrossAttnDownBlock2D" if cross_attention else "AttnDownBlock2D"
  kinds = config["down_block_types"]
  _is(config, "up_block_types", [kind.replace("Down", "Up") for kind in reversed(kinds)], list)
  plain = {"DownBlock2D"} if cross_attention else {"DownBlock2D", "ResnetDownsampleBlock2D"}
  if odd := set(kinds) - {attending} - plain:
    raise ConfigError(f"down_block_types has {odd.pop()!r}, but this network has {attending}.")
  head = config.get("attention_head_dim", 8)  # with transformers it is the number of heads
  if not cross_attention:
    heads = {"head_channels": head or 0}
  elif isinstance(head, int):
    heads = {"heads": head}
  else:
    heads = {
      "head_channels": _same("attention_head_dim", [c // n for c, n in zip(widths, head, strict=True)])
    }
  blocks = config.get("transformer_layers_per_block", 1) if cross_attention else ()
  blocks_of = {attending: _entry(config, "downsample_type", "conv", {"conv": "conv", "resnet": "bare_block"})}
  blocks_of |= {"DownBlock2D": "conv", "ResnetDownsampleBlock2D": "bare_block"}  # whatever downsample_type is
  resamples = tuple(blocks_of[kind] for kind in kinds)
  _is(config, "upsample_type", config.get("downsample_type", "conv"))
  scale_shift = _entry(config, "resnet_time_scale_shift", "default", {"default": False, "scale_shift": True})
  groups = config.get("norm_num_groups", 32)
  middle_norm = cross_attention or not scale_shift or bool(config.get("attn_norm_num_groups"))
  if not cross_attention and config.get("attn_norm_num_groups"):
    _is(config, "attn_norm_num_groups", groups)
  return UNet(
    channels=widths[0],
    multipliers=_ratios(widths),
    blocks=config.get("layers_per_block", 2),
    attention=tuple(size >> level for level, kind in enumerate(kinds) if kind == attending),
    transformers=(blocks,) * len(widths) if isinstance(blocks, int) else tuple(blocks),
    dropout=config.get("dropout", 0.0),
    out_channels=config.get("out_channels", 4 if cross_attention else 3),
    groups=groups,
    eps=config.get("norm_eps", 1e-5),
    centred=bool(config.get("downsample_padding", 1)),
    frequency_shift=config.get("freq_shift", 0),
    cosines_first=config.get("flip_sin_to_cos", True),
    conditions=conditions,
    level_resamples=resamples if set(resamples) != {"conv"} else (),
    scale_shift=scale_shift,
    middle_norm=middle_norm,
    **heads,
    **fields,
  )


_OF_UNETS = {
  "act_fn": "silu",
  "center_input_sample": False,
  "class_embed_type": None,
  "mid_block_scale_factor": 1,
  "time_embedding_dim": None,
  "time_embedding_type": "positional",
}.items()
_OF_PLAIN = {"add_attention": True}.items()
_OF_TRANSFORMERS = {
  "attention_type": "default",
  "conv_in_kernel": 3,
  "conv_out_kernel": 3,
  "cross_attention_norm": None,
  "dual_cross_attention": False,
  "encoder_hid_dim_type": None,
  "mid_block_type": "UNetMidBlock2DCrossAttn",
  "num_attention_heads": None,
  "only_cross_attention": False,
  "resnet_out_scale_factor": 1,
  "resnet_skip_time_act": False,
  "reverse_transformer_layers_per_block": None,
  "time_cond_proj_dim": None,
  "time_embedding_act_fn": None,
  "timestep_post_act": None,
}.items()


def dit(config: Config, conditions: Embeds = (), **fields) -> DiT:
  """The transformer of a diffusers DiTTransformer2DModel.

  Args:
    config: of the transformer.
    conditions: what it is told: classes.
    **fields: further ones of ours.

  Raises:
    ConfigError: the config asks for what our network does not do.
  """
  for name, ours in (
    ("activation_fn", "gelu-approximate"),
    ("attention_bias", True),
    ("norm_elementwise_affine", False),
    ("norm_type", "ada_norm_zero"),
  ):
    _is(config, name, ours)
  heads = config.get("num_attention_heads", 16)
  return DiT(
    patch=config.get("patch_size", 2),
    channels=heads * config.get("attention_head_dim", 72),
    blocks=config.get("num_layers", 28),
    heads=heads,
    dropout=config.get("dropout", 0.0),
    out_channels=config.get("out_channels") or config.get("in_channels", 4),
    frequency_shift=1,
    cosines_first=True,
    mlp_eps=config.get("norm_eps", 1e-5),
    conditions=conditions,
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


def _same(name, values):
  if len(set(values)) > 1:
    raise ConfigError(f"{name} makes heads of {values} channels at the levels; they must have the same.")
  return values[0]


def _entry(config, name, default, entries):
  """What a field means in our network; ConfigError where it is none of these entries."""
  if (value := config.get(name, default)) not in entries:
    raise ConfigError(f"{name} is {value!r}, but this network has {' or '.join(map(repr, entries))}.")
  return entries[value]


def _is(config, name, ours, kind=lambda value: value):
  """Raises ConfigError where the config has the field with another value than that of our network."""
  if kind(config.get(name, ours)) != ours:
    raise ConfigError(f"{name} is {config[name]!r}, but this network has {ours!r}.")
