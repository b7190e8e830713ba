"""The order of the data: a pure function of (seed, step).

Place p = step * batch_size + i of the endless stream is row p mod N of epoch p // N, and every epoch is a
permutation of its own, drawn by Philox from (seed, epoch). The stream does not depend on the batch size.
"""

import functools

import numpy as np


@functools.lru_cache(maxsize=4)
def permutation(seed: int, epoch: int, size: int) -> np.ndarray:
  """The order [size] of one epoch."""
  sequence = np.random.SeedSequence([seed, epoch])
  order = np.random.Generator(np.random.Philox(sequence)).permutation(size)
  order.setflags(write=False)
  return order


def indices(seed: int, step: int, batch_size: int, size: int) -> np.ndarray:
  """Global dataset indices [batch_size] of the batch of `step`."""
  places = step * batch_size + np.arange(batch_size, dtype=np.int64)
  epochs = places // size
  out = np.empty(batch_size, np.int64)
  for epoch in np.unique(epochs):
    here = epochs == epoch
    out[here] = permutation(seed, int(epoch), size)[places[here] % size]
  return out
