"""Images that stand as an array in an npz file: what a program of one's own wrote, or brought along."""

import hashlib
import zipfile
from pathlib import Path
from typing import Annotated

import numpy as np

from diffjax.data.source import ArraySource, fingerprint
from diffjax.ranges import inside
from diffjax.types import ConfigError

FIELDS = "config.data.arrays"


def arrays(
  split: str,
  path: str = "",
  test_path: str = "",
  image: str = "images",
  label: str = "labels",
  test_fraction: Annotated[float, inside(0, 1)] = 0.05,
) -> ArraySource:
  """The images of an npz file, uint8 [N, H, W, 1 or 3], and their labels where it has any, whole numbers [N].

  The classes are 0 to the largest label of the file at `path`.

  Args:
    split: "train" or "test".
    path: the npz.
    test_path: another that holds the test split; without one, test_fraction of the images are held out.
    image: name of the images' array.
    label: name of the labels' array.
    test_fraction: share of the images that are held out, chosen by a hash of their pixels.

  Raises:
    ConfigError: no such file or array, an array of another type or shape, or an empty split.
  """
  if not path:
    raise ConfigError(f"{FIELDS}.path is '', which is no file; name an npz of images.")
  images, labels = _read(path, f"{FIELDS}.path", image, label)
  classes = 0 if labels is None else int(labels.max()) + 1
  if test_path and split == "test":
    shape = images.shape[1:]
    images, labels = _read(test_path, f"{FIELDS}.test_path", image, label)
    if images.shape[1:] != shape:
      raise ConfigError(
        f"{FIELDS}.test_path holds images of {images.shape[1:]}, and {FIELDS}.path of {shape}."
      )
    if (labels is None) != (classes == 0) or (labels is not None and labels.max() >= classes):
      raise ConfigError(
        f"{FIELDS}.test_path has other labels than {FIELDS}.path: both need classes 0 to {classes - 1}."
      )
  elif not test_path:
    held = _held_out(images, test_fraction)
    chosen = held if split == "test" else ~held
    images, labels = images[chosen], None if labels is None else labels[chosen]
  if not len(images):
    raise ConfigError(
      f"{FIELDS}.path is {path!r}, whose {split} split is empty with {FIELDS}.test_fraction = {test_fraction}; choose "
      f"another fraction, or name a file by {FIELDS}.test_path."
    )
  labels = np.zeros(len(images), np.int32) if labels is None else labels
  return ArraySource(images, labels, classes, fingerprint("arrays", split, classes, images, labels))


def _held_out(images: np.ndarray, fraction: float) -> np.ndarray:
  """Whether an image belongs to the test split [N]: equal images fall on the same side."""
  numbers = (int.from_bytes(hashlib.sha256(one.tobytes()).digest()[:8], "big") for one in images)
  return np.fromiter((number < fraction * 2**64 for number in numbers), bool, len(images))


def _read(path: str, field: str, image: str, label: str) -> tuple[np.ndarray, np.ndarray | None]:
  try:
    with np.load(Path(path).expanduser(), allow_pickle=False) as file:
      found = {name: file[name] for name in (image, label) if name in file.files}
      names = file.files
  except FileNotFoundError:
    raise ConfigError(f"{field} is {path!r}, which is not there; name an npz of images.") from None
  except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
    raise ConfigError(f"{field} is {path!r}, which is not an npz file of plain arrays: {error}.") from None
  if image not in found:
    raise ConfigError(
      f"{field} is {path!r}, which has no array {image!r} but {', '.join(names) or 'none'}; name the images' by "
      f"{FIELDS}.image."
    )
  images, labels = found[image], found.get(label)
  if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
    raise ConfigError(
      f"{field} is {path!r}, whose {image} are {images.dtype} {list(images.shape)}; images are uint8 [N, H, W, 3], or "
      "[N, H, W, 1] if they are grey."
    )
  if labels is None:
    return images, None
  if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
    raise ConfigError(
      f"{field} is {path!r}, whose {label} are {labels.dtype} {list(labels.shape)}; labels are whole numbers from 0 "
      f"on, one for each of the {len(images)} images."
    )
  return images, labels.astype(np.int32)
