"""A diffusers UNet2DModel's weights as our U-Net's parameters, entry by entry."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

# One residual block, one attention: our module -> theirs.
RES_BLOCK = {
  "norm_0": "norm1",
  "conv_0": "conv1",
  "embedding": "time_emb_proj",
  "norm_1": "norm2",
  "conv_1": "conv2",
  "shortcut": "conv_shortcut",
}
QKV = ("to_q", "to_k", "to_v")


def name_map(levels: int, blocks: int) -> dict[str, str | tuple[str, ...]]:
  """Our module's path -> theirs, or the three of theirs that make ours."""
  names = {
    "embedding/dense_0": "time_embedding.linear_1",
    "embedding/dense_1": "time_embedding.linear_2",
    "conv_in": "conv_in",
    "norm_out": "conv_norm_out",
    "conv_out": "conv_out",
  }
  places = {"middle_0": ("mid_block", 0), "middle_1": ("mid_block", 1)}
  attentions = {"middle_attention": ("mid_block", 0)}
  for level in range(levels):
    down, up = f"down_blocks.{level}", f"up_blocks.{levels - 1 - level}"
    places |= {f"down_{level}_{i}": (down, i) for i in range(blocks)}
    places |= {f"up_{level}_{i}": (up, i) for i in range(blocks + 1)}
    names[f"down_{level}_sample"] = f"{down}.downsamplers.0.conv"
    names[f"up_{level}_sample"] = f"{up}.upsamplers.0.conv"
  for place, (theirs, i) in places.items():
    names |= {f"{place}_block/{k}": f"{theirs}.resnets.{i}.{v}" for k, v in RES_BLOCK.items()}
    if not place.startswith("middle"):
      attentions[f"{place}_attention"] = (theirs, i)
  for place, (theirs, i) in attentions.items():
    names[f"{place}/norm"] = f"{theirs}.attentions.{i}.group_norm"
    names[f"{place}/qkv"] = tuple(f"{theirs}.attentions.{i}.{name}" for name in QKV)
    names[f"{place}/out"] = f"{theirs}.attentions.{i}.to_out.0"
  return names


def _kernel(weight, ndim):
  """Torch's [out, in, ...] as our [..., in, out], with 1x1 in front where ours is a convolution."""
  weight = np.moveaxis(np.moveaxis(weight, 0, -1), 0, -2)
  return weight.reshape((1,) * (ndim - weight.ndim) + weight.shape)


def converted(state: Mapping, shapes, levels: int, blocks: int):
  """Their state_dict as our parameters.

  Args:
    state: name -> torch tensor on the host.
    shapes: our parameters, or their shapes.
    levels: of the network.
    blocks: residual blocks of a level.

  Raises:
    ValueError: an entry of theirs is left over, or one of ours has another shape.
  """
  names, unused = name_map(levels, blocks), set(state)

  def take(name, kind):
    unused.remove(f"{name}.{kind}")
    return state[f"{name}.{kind}"].numpy()

  def leaf(path, like):
    *module, kind = (key.key for key in path)
    theirs = names["/".join(module)]
    parts = [
      take(name, "bias" if kind == "bias" else "weight")
      for name in (theirs if isinstance(theirs, tuple) else (theirs,))
    ]
    if kind == "kernel":
      parts = [_kernel(part, like.ndim) for part in parts]
    value = np.concatenate(parts, axis=-1)
    if value.shape != like.shape:
      raise ValueError(f"{theirs} has shape {value.shape}; ours has {like.shape}.")
    return jnp.asarray(value)

  params = jax.tree_util.tree_map_with_path(leaf, shapes)
  if unused:
    raise ValueError(f"entries of theirs that nothing of ours takes: {sorted(unused)}.")
  return params
