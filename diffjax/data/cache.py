"""What is computed once of the data and kept between runs, in files whose names hold all that decides their content.

A file is called KIND-OF-VERSION: what it is, a hash of what it is made from, which may change, and a hash of that as
it was and of how it was made. It is written beside its place and renamed when whole. One that is written takes the
place of other versions of the same, and of anything that nobody has read for UNREAD days.
"""

import collections
import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffjax.data import decoding, images, npz
from diffjax.data.source import Field, fingerprint
from diffjax.machine import atomic
from diffjax.machine.byproducts import ByProducts, to_stderr
from diffjax.types import ConfigError

DEFAULT = "~/.cache/diffjax"
KINDS = ("decoded", "encoded", "contents", "statistics")
UNREAD = 60  # days
SAID = 5000  # examples between two lines about them


def folder(path: str | None = None) -> Path:
  """The cache folder: `path`, else $DIFFJAX_CACHE, else ~/.cache/diffjax."""
  return Path(path or os.environ.get("DIFFJAX_CACHE") or DEFAULT).expanduser()


class Place(NamedTuple):
  """Where the cache keeps something.

  Attributes:
    folder: of the cache.
    head: the beginning of its files' names, which all versions of it share.
    version: what follows.
  """

  folder: Path
  head: str
  version: str

  def file(self, ending: str) -> Path:
    """One of its files."""
    return self.folder / f"{self.head}-{self.version}{ending}"


def place(kind: str, of: Any, version: Any = (), cache_dir: str | None = None) -> Place:
  """The place of something: the one function that names files of the cache.

  Args:
    kind: one of KINDS.
    of: what it is made from and how, as plain data: another version of the same is of no more use.
    version: all else that decides the content, as plain data.
    cache_dir: see `folder`.
  """
  assert kind in KINDS
  return Place(folder(cache_dir), f"{kind}-{fingerprint(of)}", fingerprint(version))


def tidy(entry: Place) -> None:
  """Removes other versions of what was just written, and what nobody has read for long."""
  own, before = entry.file("").name, time.time() - UNREAD * 24 * 3600
  for path in (path for kind in KINDS for path in entry.folder.glob(f"{kind}-*")):
    with contextlib.suppress(OSError):  # of another user, or gone by now
      old = path.name.startswith(f"{entry.head}-") or path.stat().st_mtime < before
      if old and not path.name.startswith(own):
        path.unlink()


def keeping(path: Path) -> contextlib.AbstractContextManager[None]:
  """A block that writes what was computed to a folder of the cache, or may not: see ByProducts."""
  return ByProducts().may_fail(f"keeping what was computed in {path}")


def save(path: Path, array: np.ndarray) -> None:
  """Writes an array; a reader sees the whole file or none."""
  with atomic.writing(path) as file:
    np.save(file, array, allow_pickle=False)


def load(path: Path, count: int, mapped: bool = False) -> np.ndarray | None:
  """A cached array with `count` rows, or None where there is none that is whole.

  Args:
    path: of the file.
    count: rows.
    mapped: whether it stays in the file until it is read.
  """
  try:
    array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    if not isinstance(array, np.ndarray) or not array.ndim or len(array) != count:
      return None
  except (OSError, ValueError, EOFError, MemoryError):
    return None
  touch(path)
  return array


def touch(path: Path) -> None:
  """Says that a file is still in use."""
  with contextlib.suppress(OSError):  # of another user
    os.utime(path)


def save_fields(path: Path, fields: Mapping[str, np.ndarray]) -> None:
  """Writes arrays by name as an npz; a reader sees the whole file or none."""
  with atomic.writing(path) as file:
    np.savez(file, **fields)


def load_fields(path: Path, count: int) -> dict[str, np.ndarray] | None:
  """Cached arrays with `count` rows each, or None where they are not there as a whole."""
  try:
    fields, _ = npz.read(path)
  except ConfigError:
    return None
  return fields if all(array.ndim and len(array) == count for array in fields.values()) else None


Decode = Callable[[int], tuple[Mapping[str, Any], Sequence[str]]]


def decoded(
  name: str, entry: Place, count: int, fields: Mapping[str, Field], decode: Decode
) -> dict[str, np.ndarray]:
  """Fields of all examples, each [N, ...], from the cache or decoded into it.

  Args:
    name: what the progress line calls them.
    entry: where they lie.
    count: N.
    fields: that an example has.
    decode: number -> the fields of that example, and notes about it, which are counted on the terminal.

  Raises:
    ConfigError: some examples cannot be decoded; the first of them are named.
  """
  arrays = {field: load(entry.file(f".{field}.npy"), count) for field in fields}
  if all(arrays[name] is not None and arrays[name].shape[1:] == fields[name].shape for name in fields):
    return arrays
  arrays = {field: np.empty((count, *of.shape), of.dtype) for field, of in fields.items()}
  notes, errors = collections.Counter(), []

  def put(i):
    try:
      example, noted = decode(i)
    except ConfigError as error:
      return (), error
    for field, values in example.items():
      arrays[field][i] = values
    return noted, None

  for start in range(0, count, SAID):
    stop = min(start + SAID, count)
    for noted, error in decoding.each(put, range(start, stop)):
      notes.update(noted)
      errors += [error] if error else []
    remarks = "".join(f", {number} {note}" for note, number in sorted(notes.items()))
    to_stderr(f"decoding {name}: {stop} of {count}{remarks}")
  if errors:
    raise images.broken(errors)
  with keeping(entry.folder):
    for field, values in arrays.items():
      save(entry.file(f".{field}.npy"), values)
    tidy(entry)
  return arrays


def contents(name: str, files: Sequence[Path], cache_dir: str | None = None) -> np.ndarray:
  """SHA-256 of every file, uint8 [N, 32]; each is read once, and again when its size or times have changed.

  Args:
    name: what the progress line calls them; other files of a folder have another, and are kept beside them.
    files: in order.
    cache_dir: see `folder`.
  """
  stats = [path.stat() for path in files]
  stamps = [(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for stat in stats]
  names = [(path.parent.name, path.name) for path in files]
  folders = sorted({str(path.parent.resolve()) for path in files})
  entry = place("contents", (name, folders), (names, stamps), cache_dir)
  if (digests := load(entry.file(".npy"), len(files))) is not None:
    return digests
  digests = np.empty((len(files), 32), np.uint8)
  for i, path in enumerate(files):
    with path.open("rb") as file:
      digests[i] = np.frombuffer(hashlib.file_digest(file, "sha256").digest(), np.uint8)
    if (i + 1) % 20000 == 0:
      to_stderr(f"reading {name}: {i + 1} of {len(files)} files")
  with keeping(entry.folder):
    save(entry.file(".npy"), digests)
    tidy(entry)
  return digests
