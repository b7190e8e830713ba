"""Decoded images, kept as .npy files so that a set is decoded once.

A file is written beside its place and renamed when whole; its name holds a hash of all that decides its
content, and its shape is checked when it is opened.
"""

import os
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from diffjax.machine import atomic

DEFAULT = "~/.cache/diffjax"


def folder(path: str | None = None) -> Path:
  """The cache folder: `path`, else $DIFFJAX_CACHE, else ~/.cache/diffjax."""
  return Path(path or os.environ.get("DIFFJAX_CACHE") or DEFAULT).expanduser()


def save(path: Path, array: np.ndarray) -> None:
  """Writes an array; a reader sees the whole file or none."""
  with atomic.writing(path) as file:
    np.save(file, array, allow_pickle=False)


def load(path: Path, count: int) -> np.ndarray | None:
  """A cached array with `count` rows, or None where there is none that is whole."""
  try:
    array = np.load(path, allow_pickle=False)
  except (OSError, ValueError, EOFError):
    return None
  return array if len(array) == count else None


def save_fields(path: Path, fields: Mapping[str, np.ndarray]) -> None:
  """Writes arrays by name as an npz; a reader sees the whole file or none."""
  with atomic.writing(path) as file:
    np.savez(file, **fields)


def load_fields(path: Path, count: int) -> dict[str, np.ndarray] | None:
  """Cached arrays with `count` rows each, or None where they are not there as a whole."""
  try:
    with np.load(path, allow_pickle=False) as file:
      fields = {name: file[name] for name in file.files}
  except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError):
    return None
  return fields if all(len(array) == count for array in fields.values()) else None


def decoded(
  name: str, key: str, count: int, decode: Callable[[int], tuple[np.ndarray, int]], cache_dir: str | None
) -> tuple[np.ndarray, np.ndarray]:
  """Images uint8 [N, H, W, C] and labels int32 [N], from the cache or decoded into it.

  Args:
    name: what the progress line and the files are called.
    key: hash of all that decides the content.
    count: N.
    decode: index -> (image uint8 [H, W, C], label), all images of one shape.
    cache_dir: where the files lie; see `folder`.
  """
  places = [folder(cache_dir) / f"{name}-{key}-{part}.npy" for part in ("images", "labels")]
  images, labels = (load(place, count) for place in places)
  if images is not None and labels is not None:
    return images, labels
  first, _ = decode(0)
  images, labels = np.empty((count, *first.shape), np.uint8), np.empty(count, np.int32)
  for i in range(count):
    images[i], labels[i] = decode(i)
    if (i + 1) % 5000 == 0 or i + 1 == count:
      print(f"decoding {name}: {i + 1} of {count}", file=sys.stderr, flush=True)
  save(places[0], images)
  save(places[1], labels)
  return images, labels
