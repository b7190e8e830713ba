"""Plain arrays from an npz file that anybody may have written."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from diffjax.types import ConfigError, words


def read(
  path: str | Path, names: Collection[str] | None = None, what: str = ""
) -> tuple[dict[str, np.ndarray], list[str]]:
  """The arrays of a file by name, and the names of all; nothing in it is executed.

  Args:
    path: the npz.
    names: names of those that are read, which may be missing; None for all.
    what: how the message of an error begins; by default with the path.

  Raises:
    ConfigError: there is no such file, or it is no npz of plain arrays.
  """
  what = what or str(path)
  try:
    with np.load(path, allow_pickle=False) as archive:
      there = list(archive.files)
      arrays = {name: archive[name] for name in there if names is None or name in names}
    if odd := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
      raise ValueError(f"its member {odd[0]!r} is no array")
    return arrays, there
  except FileNotFoundError:
    raise ConfigError(f"{what} is not there.") from None
  except Exception as error:  # whatever zipfile, zlib and NumPy make of a stranger's bytes
    reason = words(error)
    if "allow_pickle" in reason:  # NumPy's advice, which would run what is in it
      reason = "it is none, or it holds pickled objects, which are never loaded"
    raise ConfigError(f"{what} is not an npz file of plain arrays: {reason}.") from None
