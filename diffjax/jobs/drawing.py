"""Drawing samples with given weights: batches over all devices, the walk in pieces.

Sample i draws from fold_in(key, i) and nothing else, so it is the same in every batch, on every device.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from diffjax import keys
from diffjax.data.source import Source
from diffjax.experiment import Experiment, within
from diffjax.machine import memory
from diffjax.machine.parallel import Parallel
from diffjax.types import ConfigError, Params

COLUMNS = 11  # of the picture of a walk
STRIPS = 4  # samples in it
AT_ONCE = 2  # batches, where a CPU is one device: XLA does not fill its cores with one batch
PROBED = 8  # samples a device in the batch by which the memory of a sample is found

Samples = dict[str, np.ndarray]  # fields [n, ...]


def image_of(samples: Mapping[str, np.ndarray]) -> np.ndarray | None:
  """The field that is a picture, uint8 [n, H, W, C] or a video [n, T, H, W, C]; or None."""
  return next((x for x in samples.values() if x.dtype == np.uint8 and x.ndim in (4, 5)), None)


class Sampling:
  """Draws samples as an experiment's task does; one compile serves every plan of one length and key.

  Attributes:
    batch_size: samples in a batch: config.sample's, or where that is 0 as many as fit the devices' memory.
  """

  def __init__(self, experiment: Experiment, parallel: Parallel, most: int, source: Source | None = None):
    """Compiles nothing yet, unless config.sample.batch_size is 0 and the memory has to be looked at.

    Args:
      experiment: the experiment.
      parallel: the devices.
      most: samples that will be asked for together; a batch need not be larger, nor larger than leaves one for
        each that is walked at the same time.
      source: the training data, where samples ask for rows of them and the memory has to be looked at.

    Raises:
      ConfigError: the task makes nothing.
    """
    drawing = experiment.task.draw
    if drawing is None:
      raise ConfigError(f"config.task.name is {experiment.config.task.name!r}, which makes no samples.")
    self._parallel, self._drawing, self._frozen = parallel, drawing, experiment.frozen
    self._at_once = AT_ONCE if parallel.platform == "cpu" and parallel.device_count == 1 else 1

    def begin(shared, batch):
      params, frozen, key, plan = shared
      return drawing.begin(params, frozen, plan, batch, keys.of_examples(key, batch["index"]))

    def advance(shared, batch):
      params, frozen, key, plan, start, stop = shared
      sample_keys = keys.of_examples(key, batch["request"]["index"])
      return drawing.advance(params, frozen, plan, batch["request"], sample_keys, batch["carry"], start, stop)

    def view(shared, x):
      params, frozen, place = shared
      return drawing.show(frozen, drawing.view(params, x, place))

    def show(frozen, x):
      finite = jnp.all(jnp.isfinite(x.reshape(len(x), -1)), axis=1)
      return drawing.show(frozen, x), finite

    self._begin, self._advance, self._show, self._view = map(parallel.batched, (begin, advance, show, view))
    batch_size = experiment.config.sample.batch_size
    if not batch_size:
      count, key, place = PROBED * parallel.batch_devices, keys.seed(0), jnp.zeros((), jnp.int32)
      params = jax.eval_shape(experiment.task.init, key)
      index = np.arange(count, dtype=np.int32)
      request = {"index": index} | experiment.task.request(index, source)
      request = jax.tree.map(lambda values: jax.ShapeDtypeStruct(values.shape, values.dtype), request)
      shared = (params, self._frozen, key, drawing.plan)
      batch = {"request": request, "carry": jax.eval_shape(begin, shared, request)}
      with within("sample"):
        batch_size = memory.fitting(parallel, advance, (*shared, place, place), batch, self._at_once)
    part = max(-(-most // self._at_once), min(most, STRIPS))
    self.batch_size = parallel.padded(min(batch_size, part))

  def walk(
    self, params: Params, key: Key[Array, ""], request: Mapping[str, np.ndarray], stops: np.ndarray
  ) -> Iterator[tuple[Array, Array]]:
    """Walks one batch and stops at places of the plan.

    Args:
      params: the weights.
      key: of the whole draw.
      request: [B] "index", the numbers of the samples, and the fields that they ask for.
      stops: ascending places.

    Yields:
      What is there at the stop, and the sample that it would be, both [B, ...].
    """
    request = {name: jnp.asarray(values) for name, values in request.items()}
    shared = (params, self._frozen, key, self._drawing.plan)
    carry, here = self._begin(shared, request), 0
    for stop in stops:
      ends = (jnp.asarray(here, jnp.int32), jnp.asarray(stop, jnp.int32))
      carry, x, sample = self._advance((*shared, *ends), {"request": request, "carry": carry})
      here = stop
      yield x, sample

  def _fields(self, x: Array) -> Samples:
    """The fields of what a walk yields.

    Raises:
      ConfigError: some of it is not finite.
    """
    fields, finite = self._parallel.fetch(self._show(self._frozen, x))
    if not finite.all():
      raise ConfigError(
        f"{np.sum(~finite)} of {len(finite)} samples are not finite; the network or the sampler is broken."
      )
    return fields

  def draw(
    self,
    params: Params,
    key: Key[Array, ""],
    request: Mapping[str, np.ndarray],
    report: Callable[[int], Any] = lambda count: None,
  ) -> Samples:
    """The samples of `request`, [n, ...] as in `walk`, by field; `report` hears their number."""
    count = len(request["index"])
    starts = range(0, count, self.batch_size)

    def batch(start):
      rows = np.minimum(np.arange(start, start + self.batch_size), count - 1)
      part = {name: values[rows] for name, values in request.items()}
      ((_, samples),) = self.walk(params, key, part, [self._drawing.stops])
      return self._fields(samples)

    parts, pool = [], ThreadPoolExecutor(self._at_once)
    try:
      for part in pool.map(batch, starts):
        parts.append(part)
        if len(parts) % self._at_once == 0 or len(parts) == len(starts):  # those walked together end together
          report(min(len(parts) * self.batch_size, count))
    finally:
      pool.shutdown(cancel_futures=True)
    return {name: np.concatenate([part[name] for part in parts])[:count] for name in parts[0]}

  def strip(
    self, params: Params, key: Key[Array, ""], request: Mapping[str, np.ndarray]
  ) -> tuple[np.ndarray, np.ndarray, list[str]] | None:
    """How the first samples come to be, for album.walk: x_T ... x_0 scaled to be looked at, the sample that each
    would be, both uint8 [S, n, ..., H, W, C], and the names of the stops; None where nothing is a picture.
    """
    count = min(len(request["index"]), STRIPS)
    stops = np.unique(np.linspace(0, self._drawing.stops, COLUMNS).round().astype(int))
    rows = np.minimum(np.arange(self.batch_size), len(request["index"]) - 1)
    xt, estimates = [], []
    points = self.walk(params, key, {name: values[rows] for name, values in request.items()}, stops)
    for stop, (x, sample) in zip(stops, points, strict=True):
      place = jnp.asarray(stop, jnp.int32)
      xt.append(image_of(self._parallel.fetch(self._view((params, self._frozen, place), x))))
      estimates.append(image_of(self._fields(sample)))
    if xt[0] is None:
      return None
    names = [self._drawing.name(int(stop)) for stop in stops]
    return np.stack(xt)[:, :count], np.stack(estimates)[:, :count], names
