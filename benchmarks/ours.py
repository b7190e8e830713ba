"""Our side: what main.py runs, on images made up here."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.same_weights import converted
from configs import cifar10_ddpm
from diffjax import experiment, keys
from diffjax.data.source import Field
from diffjax.jobs.drawing import Sampling
from diffjax.jobs.train_step import make_chunk, make_step
from diffjax.machine import parallel, state
from diffjax.models.prepared import prepared


def cifar10(batch_size: int, channels: int = 128, size: int = 32, dtype: str = "float32") -> ConfigDict:
  """The paper's CIFAR-10 config at another size of batch, network or image."""
  config = cifar10_ddpm.get_config()
  config.train.batch_size = batch_size
  config.model.unet.channels = channels
  config.model.unet.attention = (size // 2,)
  config.model.dtype = dtype
  return config


def images(count: int, size: int, channels: int = 3, seed: int = 0) -> np.ndarray:
  """Random uint8 [count, size, size, channels]."""
  return np.random.default_rng(seed).integers(0, 256, (count, size, size, channels), np.uint8)


def fields(size: int, channels: int = 3) -> dict[str, Field]:
  """The fields of data of such images."""
  return {"image": Field((size, size, channels), "uint8")}


def new_state(parts: experiment.Experiment) -> state.TrainState:
  """The state before the first step."""
  key = keys.seed(0)
  return state.create(parts.task.init(key), parts.optimizer, parts.averages, key, parts.task.start())


def training(
  config: ConfigDict, pixels: np.ndarray, steps: int = 1
) -> tuple[Callable, state.TrainState, Callable[[], Mapping]]:
  """The chunk of `steps` steps as main.py compiles it, a state, and what places the same uint8 images [B, H, W, C].

  The first is called as take(state, {}, placed()): no other run's parameters are used.
  """
  devices = parallel.create(config.parallel.mode)
  parts = experiment.create(config, fields(*pixels.shape[2:]))
  take = devices.train(make_chunk(make_step(parts)))
  index = np.arange(len(pixels), dtype=np.int32)
  batch = {"image": pixels, "index": index}
  batch = jax.tree.map(lambda x: np.broadcast_to(x, (steps, *x.shape)), batch)
  return take, devices.init(lambda: new_state(parts)), lambda: devices.place(batch, len(pixels))


def training_step(config: ConfigDict, pixels: np.ndarray, steps: int = 1) -> Callable[[], float]:
  """A call of the compiled chunk of `steps` steps after another, each on the same uint8 images [B, H, W, C]."""
  take, now, placed = training(config, pixels, steps)

  def step():
    nonlocal now
    now, metrics = take(now, {}, placed())
    return float(metrics["loss"][-1])

  return step


def network_call(
  config: ConfigDict, x: np.ndarray, t: np.ndarray, weights: Mapping | None = None
) -> tuple[jax.stages.Compiled, tuple]:
  """The network compiled as samplers compile it, and its inputs, weights prepared as they are before a walk.

  Args:
    config: of `cifar10`.
    x: images [B, H, W, C].
    t: times [B], in the network's own terms.
    weights: a diffusers network's (same_weights.py); random ones otherwise.
  """
  net, devices = config.model.unet, parallel.create(config.parallel.mode)
  (make,) = experiment.makers(config, "model", "name").values()
  model = make(out_channels=x.shape[-1], conditions=(), dtype=config.model.dtype)
  task = experiment.create(config, fields(*x.shape[2:])).task
  params = devices.init(lambda: task.init(keys.seed(0))["model"])
  if weights is not None:
    params = devices.init(lambda: converted(weights, params, len(net.multipliers), net.blocks))
  call = lambda params, batch: model.apply({"params": params}, *batch, {}, None)
  params = devices.init(lambda: prepared(lambda params: call(params, (x, t)), params))
  take = jax.jit(call, out_shardings=devices.cut(), compiler_options=devices.compiling("often"))
  inputs = params, devices.shard((x, t))
  return take.lower(*inputs).compile(), inputs


def sampling(
  config: ConfigDict, size: int, batch: int, walked: int, weights: Mapping | None = None
) -> Callable[[], np.ndarray]:
  """Draws images as --mode=sample does, but only the first `walked` - 1 steps of config's grid and the last denoising.

  Args:
    config: of `cifar10`.
    size: of an image.
    batch: images.
    walked: calls of the network.
    weights: a diffusers network's (same_weights.py); random ones otherwise.
  """
  devices = parallel.create(config.parallel.mode)
  parts, net = experiment.create(config, fields(size)), config.model.unet
  drawing = dataclasses.replace(parts.task.draw, stops=walked - 1)
  parts = dataclasses.replace(parts, task=dataclasses.replace(parts.task, draw=drawing))
  params = devices.init(lambda: parts.task.init(keys.seed(0)))
  if weights is not None:
    model = converted(weights, params["model"], len(net.multipliers), net.blocks)
    params = devices.init(lambda: {**params, "model": model})
  sampling, request = Sampling(parts, devices, batch), {"index": np.arange(batch, dtype=np.int32)}
  return lambda: sampling.draw(params, keys.seed(1), request)["image"]
