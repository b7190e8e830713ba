"""The figure of memory: how near samples lie to the training images, beside how near held-out images lie.

With d(x) the distance of an image, all its pixels as one vector, to the nearest training image,

    memory_ratio   median d of the samples / median d of the held-out images                          (1)
    memory_share   share of the samples whose d is below the 5 % quantile of the held-out images'     (2)

A model that draws new images of the data's distribution has 1 and 0.05, as held-out images do; one that copies has a
ratio near 0 and a share near 1, and one that blurs or errs a ratio above 1. A Fréchet distance does not see the
difference: training images have the best there is.

Not more than 50,000 training images are looked at, nor more than a GiB of them, and 2,048 held-out ones. Videos are
vectors of all their frames.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from diffjax.data.source import Source

MOST, BYTES = 50_000, 2**30  # of training images
HELD_OUT = 2048
QUANTILE = 0.05
BLOCK = 1024  # images on either side that are compared at once


@dataclasses.dataclass(frozen=True)
class Memorization:
  """The figure, made once of the data.

  Attributes:
    train: training images.
    held_out: d of the held-out images.
  """

  train: UInt8[np.ndarray, "n *t h w c"]
  held_out: Float[np.ndarray, "m"]

  @property
  def reference(self) -> str:
    """In words."""
    return f"{len(self.train)} training images, {len(self.held_out)} held-out ones"

  @property
  def floor(self) -> dict[str, float]:
    """Of the held-out images."""
    return self.score({"nearest": self.held_out})

  def features(self, images: np.ndarray) -> dict[str, np.ndarray]:
    """d of each image, [n]; nothing of images that have not the size of the data's."""
    if images.shape[1:] != self.train.shape[1:]:
      return {}
    return {"nearest": nearest(images, self.train)}

  def score(self, features: dict[str, np.ndarray]) -> dict[str, float]:
    """Equations (1) and (2); nothing where held-out images are training images."""
    middle = np.median(self.held_out)
    if "nearest" not in features or not middle:
      return {}
    share = np.mean(features["nearest"] < np.quantile(self.held_out, QUANTILE))
    return {"memory_ratio": float(np.median(features["nearest"]) / middle), "memory_share": float(share)}


FIGURES = ("memory_ratio", "memory_share")  # held-out images have 1 and 5 %, the best of both


def memorization(train: Source, test: Source, field: str = "image") -> Memorization:
  """The figure for a set of images, or of videos."""
  count = looked_at(train, train.fields[field].shape)
  reference, held_out = (
    source.read(np.arange(min(len(source), most)), (field,))[field]
    for source, most in ((train, count), (test, HELD_OUT))
  )
  return Memorization(reference, nearest(held_out, reference))


def looked_at(train: Source, shape: tuple[int, ...]) -> int:
  """How many training images of this shape are looked at."""
  return min(len(train), MOST, max(BYTES // int(np.prod(shape)), 1))


def nearest(
  images: UInt8[np.ndarray, "n *t h w c"], reference: UInt8[np.ndarray, "m *t h w c"]
) -> np.ndarray:
  """The distance [n] of each image to the nearest of the reference, root mean square of pixels in 0..255.

  Which is nearest is found in matrix products, and its distance from the differences, whose digits the products lose.
  """
  differences = images.astype(np.float32) - reference[places(images, reference)]
  return np.sqrt(np.mean(differences**2, axis=tuple(range(1, images.ndim))))


def places(images: UInt8[np.ndarray, "n *t h w c"], reference: UInt8[np.ndarray, "m *t h w c"]) -> np.ndarray:
  """The index [n], in the reference, of the image nearest to each, block by block."""
  indices = [np.zeros(0, int)]
  for start in range(0, len(images), BLOCK):
    part = images[start : start + BLOCK]
    best, place = np.full(len(part), np.inf), np.zeros(len(part), int)
    for first in range(0, len(reference), BLOCK):
      here, index = map(np.asarray, _nearest(_padded(part), _padded(reference[first : first + BLOCK])))
      closer = here[: len(part)] < best
      best[closer], place[closer] = here[: len(part)][closer], first + index[: len(part)][closer]
    indices.append(place)
  return np.concatenate(indices)


def _padded(images: np.ndarray) -> np.ndarray:
  """A block of one size, its last image repeated, so that one compile serves all."""
  return images[np.minimum(np.arange(BLOCK), len(images) - 1)]


@jax.jit
def _nearest(images: Array, reference: Array) -> tuple[Array, Array]:
  """Half the least squared distance to a block's images, up to a constant a row, and that image's index; [n] each."""
  rows, others = (x.reshape(len(x), -1).astype(jnp.float32) / 127.5 - 1 for x in (images, reference))
  products = jnp.matmul(rows, others.T, precision=jax.lax.Precision.HIGHEST)
  halves = jnp.square(others).sum(1) / 2 - products
  return halves.min(1), halves.argmin(1)
