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
  found = {}
  for w in weights:
    began = time.monotonic()
    found[w] = score.distance(score.moments(draw(w, np.arange(count))))
    if time.monotonic() + (time.monotonic() - began) > until:
      break
  return found


def judged(
  score: Scorer,
  draw: Callable[[np.ndarray], np.ndarray],
  count: int,
  until: float,
  told: Callable[[dict[str, float]], None],
) -> None:
  """FID of the samples 0.., told after every slice with all so far; it ends early where another would be late."""
  seen = Moments.empty(POOL3)
  for start in range(0, count, SLICE):
    began = time.monotonic()
    images = draw(np.arange(start, min(start + SLICE, count)))
    seen = seen.merge(score.moments(images))
    told({fid_name(seen.count): score.distance(seen)})
    if time.monotonic() + (time.monotonic() - began) > until:
      return
