"""Samples with a guidance that is an argument: one compile to try several weights.

The grid's length is known when this is compiled, so that nothing waits for the host, and outside of the interval the
network is called for the conditional half alone.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from diffjax.denoisers import classifier_free, guidance_interval
from diffjax.experiment import Experiment
from diffjax.parallel import Parallel
from diffjax.samplers import base
from diffjax.types import Params


def guided_within(experiment: Experiment, params: Params, cond: Array, w: Array):
  """The denoiser of the labels [B], guided by w in config.sample.guidance_interval; its times are scalars."""
  conditional, null = (
    functools.partial(experiment.denoiser, params),
    jnp.full_like(cond, experiment.num_classes),
  )
  schedule = experiment.schedule_of(params)
  weight = guidance_interval(schedule, w, *experiment.config.sample.guidance_interval)
  guided, plain = classifier_free(conditional, cond, null, weight), conditional(cond)
  return lambda x, t: jax.lax.cond(weight(t) != 0, guided, plain, x, t)


def drawing(experiment: Experiment, devices: Parallel) -> Callable[..., np.ndarray]:
  """A function (params, key, w, index [N]) -> samples uint8 [N, H, W, C], the classes in turn.

  Sample i is drawn from fold_in(key, i), in batches of config.sample.batch_size.
  """
  settings, grid = experiment.config.sample, np.asarray(experiment.grid, np.float32)

  def draw(shared, batch):
    params, key, w = shared
    cond = batch["index"] % experiment.num_classes
    denoiser, schedule = guided_within(experiment, params, cond, w), experiment.schedule_of(params)
    shape = experiment.image_shape
    x0 = base.sample(
      denoiser,
      schedule,
      experiment.sampler,
      jnp.asarray(grid),
      len(grid),
      key,
      batch["index"],
      shape,
      settings.final,
    )
    return jnp.round(jnp.clip((x0 + 1) * 127.5, 0, 255)).astype(jnp.uint8)

  compiled, size = devices.batched(draw), devices.padded(settings.batch_size)

  def samples(params: Params, key: Key[Array, ""], w: float, index: np.ndarray) -> np.ndarray:
    shared, parts = (params, key, jnp.float32(w)), []
    for start in range(0, len(index), size):
      rows = np.minimum(np.arange(start, start + size), len(index) - 1)
      parts.append(compiled(shared, {"index": index[rows].astype(np.int32)}))
    return np.concatenate(devices.fetch(parts))[: len(index)]

  return samples
