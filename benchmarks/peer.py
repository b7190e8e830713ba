"""The peer: diffusers' U-Net, trained and sampled in PyTorch as its users do it, at its fastest.

channels_last everywhere; Adam in one fused pass and averages in one call for all parameters; on a GPU also
torch.compile and autocast to bfloat16. On a CPU its threads sleep while they wait: by default they spin, which is
processor time that others pay for where the machine is shared. Nothing here imports jax, so that a process can be
the peer's alone (peer_process.py).
"""

import os
from collections.abc import Callable

import numpy as np

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # which torch's threads read when it is imported
import torch  # noqa: E402

from experiments.cifar10_inception.torchvision_import import import_torchvision  # noqa: E402

import_torchvision()
torch.set_float32_matmul_precision("high")  # TF32 on a GPU, as XLA has it
torch.backends.cudnn.benchmark = True

from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UNet2DModel  # noqa: E402

PLACE = "cuda" if torch.cuda.is_available() else "cpu"


def group_count(channels: int) -> int:
  """The groups of a norm, as layers.group_count has them (a test compares), which imports jax."""
  most = max(1, min(32, channels // 4))
  return next(n for n in range(most, 0, -1) if channels % n == 0)


def unet(model, size: int) -> UNet2DModel:
  """diffusers' network of the same architecture as a config.model.unet, for images of `size`."""
  sizes = [size // 2**level for level in range(len(model.multipliers))]
  attends = [s in model.attention for s in sizes]
  down = tuple("AttnDownBlock2D" if yes else "DownBlock2D" for yes in attends)
  up = tuple("AttnUpBlock2D" if yes else "UpBlock2D" for yes in reversed(attends))
  widest = model.channels * max(model.multipliers)
  net = UNet2DModel(
    sample_size=size,
    block_out_channels=tuple(model.channels * m for m in model.multipliers),
    layers_per_block=model.blocks,
    down_block_types=down,
    up_block_types=up,
    attention_head_dim=None if model.heads == 1 else widest // model.heads,
    dropout=model.dropout,
    downsample_padding=0,
    norm_eps=1e-6,
    norm_num_groups=group_count(model.channels),
    flip_sin_to_cos=False,
    freq_shift=1,
  )
  for module in net.modules():  # theirs has one number of groups for all layers
    if isinstance(module, torch.nn.GroupNorm):
      module.num_groups = group_count(module.num_channels)
  return net.to(PLACE, memory_format=torch.channels_last)


def _finish() -> None:
  if PLACE == "cuda":
    torch.cuda.synchronize()


def optimized(net: UNet2DModel, mode: bool | str):
  """The network by torch.compile in a mode, True: max-autotune; as it is where there is none."""
  if not mode:
    return net
  mode = "max-autotune" if mode is True else mode
  return torch.compile(net, mode=mode, dynamic=False)  # another batch is compiled anew, not for any size


def training_step(
  config, images: np.ndarray, compiled: bool | str = False, half: bool = False, waits: bool = True
) -> Callable[[], float | torch.Tensor]:
  """One step after another on the same uint8 images [B, H, W, C]: flip, noise, loss, clipped Adam, average.

  Args:
    config: of the network, the optimizer and the schedule.
    images: the batch.
    compiled: by torch.compile, in this mode; True: max-autotune.
    half: in bfloat16.
    waits: whether a step ends when the device's work is done, and returns the loss as a number.
  """
  net = unet(config.model.unet, images.shape[1]).train()
  params, names = list(net.parameters()), config.train
  average = [p.detach().clone() for p in params]
  adam = torch.optim.Adam(params, lr=names.learning_rate, fused=True)
  alphas = DDPMScheduler(num_train_timesteps=config.schedule.linear.steps).alphas_cumprod.to(PLACE)
  pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).to(PLACE)
  apply = optimized(net, compiled)
  rate = names.constant.rates[0]

  def step():
    x0 = pixels.to(memory_format=torch.channels_last).float() / 127.5 - 1
    flips = torch.rand(len(x0), device=PLACE) < 0.5
    x0 = torch.where(flips[:, None, None, None], x0.flip(-1), x0)
    t = torch.randint(len(alphas), (len(x0),), device=PLACE)
    eps, signal = torch.randn_like(x0), alphas[t][:, None, None, None]
    xt = signal.sqrt() * x0 + (1 - signal).sqrt() * eps
    with torch.autocast(PLACE, torch.bfloat16, enabled=half):
      out = apply(xt, t, return_dict=False)[0]
    loss = torch.nn.functional.mse_loss(out.float(), eps)
    adam.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(params, names.clip)
    adam.step()
    with torch.no_grad():
      torch._foreach_lerp_(average, params, 1 - rate)
    if not waits:
      return loss.detach()
    value = loss.item()
    _finish()
    return value

  return step


SCHEDULERS = {
  "ancestral": lambda: DDPMScheduler(variance_type="fixed_large"),
  "ddim": lambda: DDIMScheduler(clip_sample=True),
  "dpmpp_2m": lambda: DPMSolverMultistepScheduler(),
}


def weights(net: UNet2DModel) -> dict[str, torch.Tensor]:
  """Name -> tensor on the host."""
  return {name: tensor.cpu().contiguous() for name, tensor in net.state_dict().items()}


def sampling(
  net: UNet2DModel,
  sampler: str,
  steps: int,
  walked: int,
  batch: int,
  compiled: bool | str = False,
  half: bool = False,
) -> Callable:
  """Draws a batch as diffusers' pipelines do, but only the first `walked` of `steps` steps.

  Args:
    net: of `unet`.
    sampler: one of SCHEDULERS.
    steps: of the scheduler.
    walked: calls of the network.
    batch: images.
    compiled: by torch.compile, in this mode; True: max-autotune.
    half: in bfloat16.
  """
  apply, size = optimized(net, compiled), net.config.sample_size

  @torch.inference_mode()
  def draw():
    scheduler = SCHEDULERS[sampler]()
    scheduler.set_timesteps(steps)
    x = torch.randn(batch, 3, size, size, device=PLACE)
    x = x.to(memory_format=torch.channels_last)
    for t in scheduler.timesteps[:walked]:
      with torch.autocast(PLACE, torch.bfloat16, enabled=half):
        out = apply(x, t, return_dict=False)[0]
      x = scheduler.step(out.float(), t, x, return_dict=False)[0]
    _finish()
    return x

  return draw
