"""The whole network against diffusers' UNet2DModel, set up as google/ddpm-cifar10-32, on random weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.models import UNet

pytestmark = pytest.mark.torch

WHY = "compares with diffusers' U-Net, which needs the packages torch and diffusers"
LEVELS = 4
BLOCKS = 2

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


def name_map():
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
  for level in range(LEVELS):
    down, up = f"down_blocks.{level}", f"up_blocks.{LEVELS - 1 - level}"
    places |= {f"down_{level}_{i}": (down, i) for i in range(BLOCKS)}
    places |= {f"up_{level}_{i}": (up, i) for i in range(BLOCKS + 1)}
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


def kernel_of(weight, ndim):
  """Torch's [out, in, ...] as our [..., in, out], with 1x1 in front where ours is a convolution."""
  weight = np.moveaxis(np.moveaxis(weight, 0, -1), 0, -2)
  return weight.reshape((1,) * (ndim - weight.ndim) + weight.shape)


def converted(state, shapes):
  """Their state_dict as our parameters; every entry of theirs is used exactly once."""
  names, unused = name_map(), set(state)

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
      parts = [kernel_of(part, like.ndim) for part in parts]
    value = np.concatenate(parts, axis=-1)
    assert value.shape == like.shape
    return jnp.asarray(value)

  params = jax.tree_util.tree_map_with_path(leaf, shapes)
  assert not unused
  return params


def test_the_network_is_diffusers_ddpm_network():
  torch = pytest.importorskip("torch", reason=WHY)
  diffusers = pytest.importorskip("diffusers", reason=WHY)
  torch.manual_seed(0)
  theirs = diffusers.UNet2DModel(
    sample_size=32,
    block_out_channels=(128, 256, 256, 256),
    layers_per_block=BLOCKS,
    down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    attention_head_dim=None,
    downsample_padding=0,
    norm_eps=1e-6,
    flip_sin_to_cos=False,
    freq_shift=1,
  ).eval()
  with torch.no_grad():
    for name, p in theirs.named_parameters():
      if "norm" in name:
        p.add_(0.2 * torch.randn_like(p))

  ours = UNet()
  rng = np.random.default_rng(0)
  x = rng.standard_normal((5, 32, 32, 3)).astype(np.float32)
  time = np.float32([0, 1, 57, 500, 999])
  params = converted(theirs.state_dict(), jax.eval_shape(ours.init, jax.random.key(0), x, time)["params"])
  with torch.no_grad():
    want = theirs(torch.tensor(x.transpose(0, 3, 1, 2)), torch.tensor(time)).sample
  want = want.numpy().transpose(0, 2, 3, 1)
  out = jax.jit(ours.apply)({"params": params}, x, time)
  assert want.std() > 0.1
  print("largest difference", np.abs(out - want).max(), "of outputs up to", np.abs(want).max())
  np.testing.assert_allclose(out, want, atol=1e-4)

  # The times are told apart, so the embedding is compared too.
  later = jax.jit(ours.apply)({"params": params}, x, time[::-1])
  assert np.abs(later - out).max((1, 2, 3))[[0, 1, 3, 4]].min() > 1e-3
