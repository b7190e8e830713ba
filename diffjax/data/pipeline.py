"""Batches of a run, read ahead of the device.

Images stay uint8 until the device; flips and scaling happen inside the training step. A background thread gathers
what is in memory, and has all cores decode what is not (decoding.py). The order is order.py's.
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from diffjax.data import order
from diffjax.data.source import Source


def chunk_reader(
  source: Source, names: Sequence[str], seed: int, batch_size: int, rows: np.ndarray, chunk: int
) -> Callable[[int], dict[str, np.ndarray]]:
  """A function from a chunk's first step to this process's share of its batches, `rows` of each.

  Returns:
    step -> the fields, each [chunk, B_local, ...], and "index", int32 [chunk, B_local], the place in the global
    batch.
  """
  local, index = len(rows), rows.astype(np.int32)

  def read(step):
    places = [order.indices(seed, step + k, batch_size, len(source))[rows] for k in range(chunk)]
    batch = source.read(np.concatenate(places), names)
    batch = {name: value.reshape(chunk, local, *value.shape[1:]) for name, value in batch.items()}
    return batch | {"index": np.broadcast_to(index, (chunk, local))}

  return read


@contextlib.contextmanager
def batches(
  source: Source,
  names: Sequence[str] = (),
  *,
  seed: int,
  start_step: int,
  batch_size: int,
  rows: np.ndarray | None = None,
  chunk: int = 1,
  prefetch: int = 2,
) -> Iterator[Iterator[dict[str, np.ndarray]]]:
  """A context whose value is the endless iterator of chunks from `start_step` on.

  Args:
    source: the data.
    names: of the fields that are read; () for all.
    seed: of the order.
    start_step: the first step; nothing else is needed to resume.
    batch_size: the global batch.
    rows: the places in every global batch that this process reads; default all.
    chunk: steps per item.
    prefetch: items read ahead.
  """
  rows = np.arange(batch_size) if rows is None else rows
  read = chunk_reader(source, names, seed, batch_size, rows, chunk)
  with _in_thread(read, start_step, chunk, prefetch) as iterator:
    yield iterator


@contextlib.contextmanager
def _in_thread(read, start_step, chunk, prefetch):
  ready, stopped = queue.Queue(maxsize=prefetch), threading.Event()

  def work():
    step = start_step
    while not stopped.is_set():
      try:
        item = read(step)
      except BaseException as error:  # carried to the consumer, who raises it
        return ready.put(error)
      ready.put(item)
      step += chunk

  def items():
    while True:
      item = ready.get()
      if isinstance(item, BaseException):
        raise item
      yield item

  thread = threading.Thread(target=work, daemon=True)
  thread.start()
  try:
    yield items()
  finally:
    stopped.set()
    with contextlib.suppress(queue.Empty):
      ready.get_nowait()  # makes room for the one item that the thread may still have to put
    thread.join()


def in_order(source: Source, batch_size: int, names: Sequence[str] = ()) -> Iterator[dict[str, np.ndarray]]:
  """The whole set once, in its own order; the last batch may be smaller."""
  for start in range(0, len(source), batch_size):
    rows = np.arange(start, min(start + batch_size, len(source)))
    yield source.read(rows, names) | {"index": rows.astype(np.int32)}
