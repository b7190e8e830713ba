"""What a data source is: images by index."""

import dataclasses
import hashlib
from typing import Protocol

import numpy as np


class Source(Protocol):
  """Random access to uint8 images of one shape.

  Attributes:
    image_shape: (H, W, C).
    num_classes: 0 if the images carry no labels.
    fingerprint: a short hash that changes with the content.
    in_memory: whether reading is a gather.
  """

  image_shape: tuple[int, int, int]
  num_classes: int
  fingerprint: str
  in_memory: bool

  def __len__(self) -> int:
    """Number of images."""

  def read(self, indices: np.ndarray) -> dict[str, np.ndarray]:
    """{"image": uint8 [n, H, W, C], "label": int32 [n]}; labels are 0 where there are none."""


@dataclasses.dataclass(frozen=True)
class ArraySource:
  """A set that fits in memory.

  Attributes:
    images: uint8 [N, H, W, C].
    labels: int32 [N].
    num_classes: 0 for an unlabelled set.
    fingerprint: the hash of its content.
  """

  images: np.ndarray
  labels: np.ndarray
  num_classes: int
  fingerprint: str
  in_memory: bool = True

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """(H, W, C)."""
    return self.images.shape[1:]

  def __len__(self) -> int:
    """Number of images."""
    return len(self.images)

  def read(self, indices: np.ndarray) -> dict[str, np.ndarray]:
    """Gathers the rows."""
    return {"image": self.images[indices], "label": self.labels[indices]}


def fingerprint(*parts) -> str:
  """A hash of strings and arrays, 16 hexadecimal digits."""
  digest = hashlib.sha256()
  for part in parts:
    digest.update(part.tobytes() if isinstance(part, np.ndarray) else repr(part).encode())
    digest.update(b"|")
  return digest.hexdigest()[:16]
