"""Sampling from a run: batches over all devices, the walk in pieces, and main.py's --mode=sample.

Sample i draws from fold_in(key, i) and nothing else, so it is the same in every batch, on every device.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key
from ml_collections import ConfigDict

from diffjax import keys
from diffjax.experiment import Experiment
from diffjax.jobs import runs
from diffjax.machine import atomic, pictures, reporting
from diffjax.machine.parallel import Parallel
from diffjax.samplers import base
from diffjax.types import Params

COLUMNS = 10  # of the denoising strip, besides x_T
STRIPS = 8
GRID = 256  # samples in a grid
AT_ONCE = 2  # batches, where a CPU is one device: XLA does not fill its cores with one batch
PROBED = 8  # samples a device in the batch by which the memory of a sample is found


def labels_of(experiment: Experiment, index: np.ndarray) -> np.ndarray:
  """The classes int32 [n] of samples [n]: config.sample.label, or all in turn; 0 where there are none."""
  label = experiment.config.sample.label
  if label is not None:
    return np.full(len(index), label, np.int32)
  return (index % max(experiment.num_classes, 1)).astype(np.int32)


class Sampling:
  """Draws samples with an experiment's sampler; one compile serves every number of steps and key.

  Attributes:
    batch_size: samples in a batch: config.sample's, or where that is 0 as many as fit the devices' memory.
  """

  def __init__(self, experiment: Experiment, parallel: Parallel, most: int):
    """Compiles nothing yet, unless config.sample.batch_size is 0 and the memory has to be looked at.

    Args:
      experiment: the experiment.
      parallel: the devices.
      most: samples that will be asked for together; a batch need not be larger, nor larger than leaves one for
        each that is walked at the same time.
    """
    self._parallel = parallel
    self._at_once = AT_ONCE if parallel.platform == "cpu" and parallel.device_count == 1 else 1
    self._grid, length = base.padded(experiment.grid)
    self._last = int(length) - 1
    shape, sampler, final = experiment.image_shape, experiment.sampler, experiment.config.sample.final

    def begin(shared, batch):
      params, key = shared
      sample_keys = keys.of_examples(key, batch["index"])
      schedule = experiment.schedule_of(params)
      return sampler.start(base.prior(schedule, sample_keys, shape, experiment.grid[0]))

    def advance(shared, batch):
      params, key, grid, start, stop = shared
      carry, schedule = batch["carry"], experiment.schedule_of(params)
      denoiser = experiment.sampling_denoiser(params, batch["label"])
      sample_keys = keys.of_examples(key, batch["index"])
      carry = base.walk(denoiser, schedule, sampler, carry, grid, start, stop, sample_keys)
      return carry, base.FINALS[final](denoiser, carry.x, grid[stop])

    self._begin, self._advance = parallel.batched(begin), parallel.batched(advance)
    batch_size = experiment.config.sample.batch_size
    if not batch_size:
      count, key, place = PROBED * parallel.batch_devices, keys.seed(0), jnp.zeros((), jnp.int32)
      params = jax.eval_shape(experiment.init, key)
      batch = {name: jax.ShapeDtypeStruct((count,), jnp.int32) for name in ("index", "label")}
      batch["carry"] = jax.eval_shape(begin, (params, key), batch)
      shared = (params, key, self._grid, place, place)
      batch_size = parallel.fitting(advance, shared, batch, self._at_once)
    part = max(-(-most // self._at_once), min(most, STRIPS))
    self.batch_size = parallel.padded(min(batch_size, part))

  def walk(
    self, params: Params, key: Key[Array, ""], index: np.ndarray, labels: np.ndarray, stops: np.ndarray
  ) -> Iterator[tuple[Array, Array]]:
    """Walks one batch and stops at places of the grid.

    Args:
      params: the weights.
      key: of the whole draw.
      index: [B] numbers of the samples.
      labels: [B] their classes.
      stops: ascending places in the grid.

    Yields:
      x_t at the stop, and what `final` makes of it, both [B, H, W, C].
    """
    batch = {"index": jnp.asarray(index), "label": jnp.asarray(labels)}
    carry, here = self._begin((params, key), batch), 0
    for stop in stops:
      shared = (params, key, self._grid, jnp.asarray(here, jnp.int32), jnp.asarray(stop, jnp.int32))
      carry, final = self._advance(shared, batch | {"carry": carry})
      here = stop
      yield carry.x, final

  def draw(
    self,
    params: Params,
    key: Key[Array, ""],
    index: np.ndarray,
    labels: np.ndarray,
    done: Callable[[int], Any] = lambda count: None,
  ) -> np.ndarray:
    """The samples `index` [n] of the classes `labels` [n], uint8 [n, H, W, C]; `done` hears their number."""
    starts = range(0, len(index), self.batch_size)

    def batch(start):
      rows = np.minimum(np.arange(start, start + self.batch_size), len(index) - 1)
      ((_, images),) = self.walk(params, key, index[rows], labels[rows], [self._last])
      return pictures.to_uint8(self._parallel.fetch(images))

    parts, pool = [], ThreadPoolExecutor(self._at_once)
    try:
      for part in pool.map(batch, starts):
        parts.append(part)
        if len(parts) % self._at_once == 0 or len(parts) == len(starts):  # those walked together end together
          done(min(len(parts) * self.batch_size, len(index)))
    finally:
      pool.shutdown(cancel_futures=True)
    return np.concatenate(parts)[: len(index)]

  def strip(self, params: Params, key: Key[Array, ""], index: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """x_T ... x_0 of the first samples of `index`: uint8 [S, n, H, W, C], clipped for viewing."""
    stops = np.unique(np.linspace(0, self._last, COLUMNS).round().astype(int))
    rows = np.minimum(np.arange(self.batch_size), len(index) - 1)
    walked = list(self.walk(params, key, index[rows], labels[rows], stops))
    steps = [x for x, _ in walked] + [walked[-1][1]]
    return np.stack([pictures.to_uint8(self._parallel.fetch(x))[:STRIPS] for x in steps])[:, : len(index)]


def sample(config: ConfigDict, folder: Path) -> None:
  """main.py's --mode=sample: images, a grid and a denoising strip in <workdir>/samples.

  Raises:
    ConfigError: see run.start, and where nothing is trained yet.
  """
  run = runs.start(config, folder, "sample")
  ((step, weights, params),) = run.trained()
  settings = config.sample
  sampling, key = Sampling(run.experiment, run.parallel, settings.count), keys.seed(settings.seed)
  index = np.arange(settings.count)
  labels = labels_of(run.experiment, index)
  with reporting.create(folder, run.writes, log_every=settings.count) as reporter:
    show = lambda count: reporter.progress(count, settings.count, {})
    images = sampling.draw(params, key, index, labels, show)
    strip = sampling.strip(params, key, index, labels)
    if not run.writes:
      return
    place = folder / "samples"
    name = f"{step:08d}_{settings.sampler}_{len(run.experiment.grid)}_seed{settings.seed}"
    with atomic.writing(place / f"{name}.npz") as file:
      np.savez(file, images=images, labels=labels)
    pictures.save_png(place / f"{name}_grid.png", pictures.grid(images[:GRID]))
    pictures.save_png(place / f"{name}_strip.png", pictures.strip(strip))
    reporter.line(f"{len(images)} samples of step {step}, {weights} weights: {place / name}*.png, .npz")
