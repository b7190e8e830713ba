"""A file is written beside its place and renamed when whole, so that a reader sees all of it or none.

JSON is written here alone, and strictly: it has no NaN and no infinities, which become null.
"""

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO


@contextlib.contextmanager
def writing(path: str | os.PathLike) -> Iterator[BinaryIO]:
  """A binary file that takes the place of `path` when the block ends, and vanishes if the block raises."""
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f".{path.name}.{os.getpid()}")
  try:
    with temporary.open("wb") as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    temporary.replace(path)
  finally:
    temporary.unlink(missing_ok=True)


def as_json(value: Any, indent: int | None = None) -> str:
  """Plain data as JSON that every language reads: what is not finite is null."""
  return json.dumps(_finite(value), indent=indent, allow_nan=False)


def write_json(path: str | os.PathLike, value: Any) -> None:
  """Writes plain data as a file for people to read."""
  with writing(path) as file:
    file.write(as_json(value, indent=2).encode() + b"\n")


def _finite(value: Any) -> Any:
  if isinstance(value, Mapping):
    return {name: _finite(each) for name, each in value.items()}
  if isinstance(value, list | tuple):
    return [_finite(each) for each in value]
  return None if isinstance(value, float) and not math.isfinite(value) else value
