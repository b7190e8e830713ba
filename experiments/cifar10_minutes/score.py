"""FID of samples drawn slice by slice, as far as the time reaches."""

import dataclasses
import time
from collections.abc import Callable

import numpy as np

from diffjax.machine.parallel import Parallel
from diffjax.metrics.frechet import distance_to, fid_name
from diffjax.metrics.inception import POOL3, extractor
from diffjax.metrics.moments import Moments

SLICE = 10_000


@dataclasses.dataclass
class Scorer:
  """Features and the reference.

  Attributes:
    extract: uint8 images -> Features.
    reference: the training images' moments.
    distance: moments -> the Fréchet distance to the reference.
  """

  extract: Callable
  reference: Moments
  distance: Callable[[Moments], float]

  def moments(self, images: np.ndarray) -> Moments:
    """Of the images' pool3."""
    return Moments.empty(POOL3).add(self.extract(images).pool3)


def scorer(variables, images: np.ndarray, together: int, devices: Parallel) -> Scorer:
  """A scorer against all of `images`, uint8 [N, H, W, 3].

  Args:
    variables: of the published network (metrics/inception_weights.py).
    images: the training split.
    together: images that pass the network together.
    devices: where it runs.
  """
  extract = extractor(variables, batch_size=together, parallel=devices)
  reference = Moments.empty(POOL3)
  for start in range(0, len(images), SLICE):
    reference = reference.add(extract(images[start : start + SLICE]).pool3)
  return Scorer(extract, reference, distance_to(reference))


def choose(
  score: Scorer, draw: Callable[[float, np.ndarray], np.ndarray], weights, count: int, until: float
) -> dict[float, float]:
  """Guidance weight -> FID of `count` samples, for as many of `weights` as there is time for, at least one."""
  distances = {}
  for w in weights:
    began = time.monotonic()
    distances[w] = score.distance(score.moments(draw(w, np.arange(count))))
    if time.monotonic() + (time.monotonic() - began) > until:
      break
  return distances


def judged(
  score: Scorer,
  draw: Callable[[np.ndarray], np.ndarray],
  count: int,
  until: float,
  report: Callable[[dict[str, float]], None],
) -> None:
  """FID of the samples 0.., reported after every slice of all so far; ends early where another slice would be late."""
  total = Moments.empty(POOL3)
  for start in range(0, count, SLICE):
    began = time.monotonic()
    images = draw(np.arange(start, min(start + SLICE, count)))
    total = total.merge(score.moments(images))
    report({fid_name(total.count): score.distance(total)})
    if time.monotonic() + (time.monotonic() - began) > until:
      return
