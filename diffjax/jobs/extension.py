"""Clips longer than a model's: drawn in blocks, each given the last frames of what there is.

run = diffjax.load("runs/clips")                                     # with the guide "frames", given = (0, 1)
first = run.sample(8)["video"]
longer = extended(lambda seen, block: run.sample(8, seed=block, video=seen)["video"], first, given=2, blocks=3)
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8

from diffjax.ranges import inside
from diffjax.types import ConfigError

Video = UInt8[np.ndarray, "n t h w c"]


def extended(draw: Callable[[Video, int], Video], first: Video, given: int, blocks: int) -> Video:
  """The clips [n, T + blocks (T - given), H, W, C] that begin with `first`.

  Args:
    draw: (clips [n, T, H, W, C] whose first `given` frames count, number of the block) -> clips that begin with them.
    first: clips of the model.
    given: frames of which each block knows.
    blocks: how many are drawn.

  Raises:
    ConfigError: as many frames are given as there are, or none.
  """
  frames = first.shape[1]
  if not inside(0, frames).holds(given):
    raise ConfigError(
      f"given is {given}; it must be greater than 0 and less than the {frames} frames of a clip."
    )
  whole = first
  for block in range(1, blocks + 1):
    start = np.zeros_like(first)
    start[:, :given] = whole[:, -given:]
    whole = np.concatenate([whole, draw(start, block)[:, given:]], axis=1)
  return whole
