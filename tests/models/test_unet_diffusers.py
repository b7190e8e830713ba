"""The whole network against diffusers' UNet2DModel, set up as google/ddpm-cifar10-32, on random weights."""

import jax
import numpy as np
import pytest

from benchmarks.same_weights import converted
from diffjax.models import UNet

pytestmark = pytest.mark.torch

WHY = "compares with diffusers' U-Net, which needs the packages torch and diffusers"
LEVELS = 4
BLOCKS = 2


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
  shapes = jax.eval_shape(ours.init, jax.random.key(0), x, time)["params"]
  params = converted(theirs.state_dict(), shapes, LEVELS, BLOCKS)
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


def test_the_benchmarks_peer_is_our_network_at_other_widths():
  torch = pytest.importorskip("torch", reason=WHY)
  pytest.importorskip("diffusers", reason=WHY)
  from benchmarks import ours, peer

  torch.manual_seed(0)
  config = ours.cifar10(1, channels=48, size=16)
  model = config.model.unet
  theirs = peer.unet(model, 16).eval()
  fields = {name: model[name] for name in ("channels", "multipliers", "blocks", "attention", "dropout")}
  x, time = np.random.default_rng(0).standard_normal((2, 16, 16, 3)).astype(np.float32), np.float32([3, 700])
  net = UNet(**fields)
  shapes = jax.eval_shape(net.init, jax.random.key(0), x, time)["params"]
  params = converted(peer.weights(theirs), shapes, len(model.multipliers), model.blocks)
  with torch.no_grad():
    want = (
      theirs(torch.tensor(x.transpose(0, 3, 1, 2)), torch.tensor(time)).sample.numpy().transpose(0, 2, 3, 1)
    )
  np.testing.assert_allclose(jax.jit(net.apply)({"params": params}, x, time), want, atol=1e-4)
