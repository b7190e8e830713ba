"""What published files call the parameters of our networks: one table a network.

A row says what a module of ours is called, our path on the left. {i} stands for a number on both sides; {-i} on the
right counts it from the end, as the published up blocks do, which begin with the lowest resolution. Several modules
of theirs are side by side in the one of ours, their outputs in that order. What a module holds is called alike
everywhere (LEAVES). The names are those of diffusers 0.42 and transformers 5.24; older ones are rewritten to them by
`old`.
"""

from typing import NamedTuple

LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight", "bias": "bias"}
Modules = dict[str, str | tuple[str, ...]]


class Names(NamedTuple):
  """The names of one network's parameters.

  Attributes:
    modules: path of our module -> their module, or several.
    parameters: path of a parameter of ours that is none of LEAVES -> their tensor.
    old: (regular expression, replacement) for names that have changed, applied in order.
    ignored: regular expressions of tensors that are not parameters.
    copied: regular expressions of names that several tensors, which must be equal, have after `old`.
  """

  modules: Modules
  parameters: dict[str, str] = {}
  old: tuple[tuple[str, str], ...] = ()
  ignored: tuple[str, ...] = ()
  copied: tuple[str, ...] = ()


def within(ours: str, theirs: str, modules: Modules) -> Modules:
  """The rows of `modules`, which lie inside our module and theirs."""

  def inside(name):
    return f"{theirs}.{name}" if isinstance(name, str) else tuple(map(inside, name))

  return {f"{ours}/{mine}": inside(name) for mine, name in modules.items()}


RES_BLOCK = {
  "norm_0": "norm1",
  "conv_0": "conv1",
  "norm_1": "norm2",
  "conv_1": "conv2",
  "shortcut": "conv_shortcut",
}
ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "out": "to_out.0"}
OLD_ATTENTION = (
  (r"\.query\.", ".to_q."),
  (r"\.key\.", ".to_k."),
  (r"\.value\.", ".to_v."),
  (r"\.proj_attn\.", ".to_out.0."),
)


def _half(half: str) -> dict[str, str]:
  middle, theirs = f"{half}/middle", f"{half}.mid_block"
  return {
    f"{half}/conv_in": f"{half}.conv_in",
    **within(f"{middle}/block_{{i}}", f"{theirs}.resnets.{{i}}", RES_BLOCK),
    f"{middle}/norm": f"{theirs}.attentions.0.group_norm",
    **within(f"{middle}/attention", f"{theirs}.attentions.0", ATTENTION),
    f"{half}/norm_out": f"{half}.conv_norm_out",
    f"{half}/conv_out": f"{half}.conv_out",
  }


AUTOENCODER_KL = Names(
  modules={
    **_half("encoder"),
    **within("encoder/down_{level}_{i}", "encoder.down_blocks.{level}.resnets.{i}", RES_BLOCK),
    "encoder/down_{level}_sample": "encoder.down_blocks.{level}.downsamplers.0.conv",
    "moments_conv": "quant_conv",
    "latent_conv": "post_quant_conv",
    **_half("decoder"),
    **within("decoder/up_{level}_{i}", "decoder.up_blocks.{-level}.resnets.{i}", RES_BLOCK),
    "decoder/up_{level}_sample": "decoder.up_blocks.{-level}.upsamplers.0.conv",
  },
  old=OLD_ATTENTION,
)

# A pre-norm block of transformers' CLIP.
CLIP_BLOCK = {
  "norm_0": "layer_norm1",
  "attention/query": "self_attn.q_proj",
  "attention/key": "self_attn.k_proj",
  "attention/value": "self_attn.v_proj",
  "attention/out": "self_attn.out_proj",
  "norm_1": "layer_norm2",
  "mlp_0": "mlp.fc1",
  "mlp_1": "mlp.fc2",
}
TEXT = {
  "tokens": "embeddings.token_embedding",
  **within("block_{i}", "encoder.layers.{i}", CLIP_BLOCK),
  "norm": "final_layer_norm",
}
VISION = {
  "patches": "embeddings.patch_embedding",
  "norm_in": "pre_layrnorm",
  **within("block_{i}", "encoder.layers.{i}", CLIP_BLOCK),
  "norm_out": "post_layernorm",
}
POSITION_IDS = r"(^|\.)embeddings\.position_ids$"  # 0, 1, 2, ...

CLIP_TEXT = Names(
  modules={**TEXT, "projection": "text_projection"},
  parameters={"positions": "embeddings.position_embedding.weight"},
  old=((r"^text_model\.", ""),),
  ignored=(POSITION_IDS,),
)
CLIP = Names(
  modules={
    **within("text", "text_model", TEXT),
    "text/projection": "text_projection",
    **within("image", "vision_model", VISION),
    "image/projection": "visual_projection",
  },
  parameters={
    "text/positions": "text_model.embeddings.position_embedding.weight",
    "image/class": "vision_model.embeddings.class_embedding",
    "image/positions": "vision_model.embeddings.position_embedding.weight",
    "log_scale": "logit_scale",
  },
  ignored=(POSITION_IDS,),
)

# Transformer2DModel, which the U-Nets of Stable Diffusion hold.
SPATIAL_TRANSFORMER = Names(
  modules={
    "norm": "norm",
    "in": "proj_in",
    **within(
      "block_{k}",
      "transformer_blocks.{k}",
      {
        "norm_0": "norm1",
        **within("attention", "attn1", ATTENTION),
        "norm_cross": "norm2",
        **within("cross", "attn2", ATTENTION),
        "norm_1": "norm3",
        "mlp_0": "ff.net.0.proj",
        "mlp_1": "ff.net.2",
      },
    ),
    "out": "proj_out",
  }
)
TIMED_BLOCK = RES_BLOCK | {"embedding": "time_emb_proj"}
QKV = {"qkv": ("to_q", "to_k", "to_v"), "out": "to_out.0"}


def _unet(attention: Modules) -> Names:
  levels = {
    "down_{level}_{i}": "down_blocks.{level}",
    "middle_{i}": "mid_block",
    "up_{level}_{i}": "up_blocks.{-level}",
  }
  modules = {
    "embedding/dense_0": "time_embedding.linear_1",
    "embedding/dense_1": "time_embedding.linear_2",
    "embedding/classes": "class_embedding",
    "conv_in": "conv_in",
    "down_{level}_sample": "down_blocks.{level}.downsamplers.0.conv",
    **within("down_{level}_sample", "down_blocks.{level}.downsamplers.0", TIMED_BLOCK),
    **within("middle_attention", "mid_block.attentions.0", attention),
    "up_{level}_sample": "up_blocks.{-level}.upsamplers.0.conv",
    **within("up_{level}_sample", "up_blocks.{-level}.upsamplers.0", TIMED_BLOCK),
    "norm_out": "conv_norm_out",
    "conv_out": "conv_out",
  }
  for ours, theirs in levels.items():
    modules |= within(f"{ours}_block", f"{theirs}.resnets.{{i}}", TIMED_BLOCK)
    modules |= within(f"{ours}_attention", f"{theirs}.attentions.{{i}}", attention)
  return Names(modules, old=OLD_ATTENTION)


# One copy of the embedding for all blocks; diffusers keeps one in each.
DIT = Names(
  modules={
    "patches": "pos_embed.proj",
    "embedding/dense_0": "embedding.timestep_embedder.linear_1",
    "embedding/dense_1": "embedding.timestep_embedder.linear_2",
    "embedding/classes": "embedding.class_embedder.embedding_table",
    **within(
      "block_{i}",
      "transformer_blocks.{i}",
      {
        "modulation": "norm1.linear",
        "qkv": ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
        "out": "attn1.to_out.0",
        "mlp_0": "ff.net.0.proj",
        "mlp_1": "ff.net.2",
      },
    ),
    "modulation": "proj_out_1",
    "out": "proj_out_2",
  },
  old=((r"^transformer_blocks\.\d+\.norm1\.emb\.", "embedding."),),
  copied=(r"^embedding\.",),
)

NAMES = {
  "autoencoder_kl": AUTOENCODER_KL,
  "clip_text": CLIP_TEXT,
  "clip": CLIP,
  "spatial_transformer": SPATIAL_TRANSFORMER,
  "unet": _unet({"norm": "group_norm", **QKV}),
  "unet_condition": _unet(SPATIAL_TRANSFORMER.modules),
  "dit": DIT,
}
