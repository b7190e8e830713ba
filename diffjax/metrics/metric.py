"""What a metric of samples is."""

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Metric:
  """A way to judge samples, made once from the data.

  Attributes:
    score: (images uint8 [N, H, W, C], the labels int32 [N] that were asked for, or None) -> values by name.
    floor: for some of the names, the value that real held-out data get.
    settings: what the values depend on besides the samples.
  """

  score: Callable[[np.ndarray, np.ndarray | None], dict[str, float]]
  floor: dict[str, float]
  settings: dict[str, object]
