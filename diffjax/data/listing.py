"""What a folder of pictures holds: files, classes, and what is passed over."""

import collections
import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diffjax.data.images import ENDINGS
from diffjax.machine.byproducts import to_stderr
from diffjax.types import ConfigError


class Listing(NamedTuple):
  """The pictures below a folder.

  Attributes:
    files: in the order of their names.
    names: of the files below the folder, with "/".
    classes: names of the sub-folders in natural order; () where the pictures lie in the folder itself.
    labels: int32 [N], each the number of a class; zeros where there are none.
    skipped: how many were passed over, by their kind.
  """

  files: tuple[Path, ...]
  names: tuple[str, ...]
  classes: tuple[str, ...]
  labels: np.ndarray
  skipped: dict[str, int]

  def say(self, what: str) -> None:
    """A line on the terminal about what was passed over, if anything was."""
    if self.skipped:
      kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.skipped.items()))
      to_stderr(f"{what}: passed over {kinds}; {len(self.files)} pictures.")


def natural(name: str) -> tuple:
  """A key that sorts numbers in names as numbers: 1, 2, 10."""
  parts = re.split(r"([0-9]+)", name)
  return [int(part) if k % 2 else part for k, part in enumerate(parts)], name


def root_of(path: str, of: str) -> Path:
  """The folder that the option `path` names; ConfigError where it is none."""
  root = Path(path).expanduser()
  if not path or not root.is_dir():
    raise ConfigError(f"path is {path!r}, which is not a folder; name a folder of {of}.")
  return root


def listed(root: Path, what: str) -> Listing:
  """The pictures of a folder, or of its sub-folders, which then are the classes.

  What begins with a dot is passed over at every level, and so are files with other endings.

  Args:
    root: the folder.
    what: how the message of an error begins.

  Raises:
    ConfigError: no pictures, or pictures at other depths.
  """
  files, skipped = _walked(root)
  names = [path.relative_to(root).as_posix() for path in files]
  if not files:
    besides = f" but {', '.join(f'{n} {kind}' for kind, n in sorted(skipped.items()))}" if skipped else ""
    raise ConfigError(f"{what} holds no images{besides} ({', '.join(sorted(ENDINGS))}).")
  depths = np.asarray([name.count("/") for name in names])
  if depths.min() != depths.max():
    one, other = names[int(depths.argmin())], names[int(depths.argmax())]
    raise ConfigError(
      f"{what} has images at different depths, such as {one} and {other}; put them all in it, or all in one sub-folder "
      "a class."
    )
  if depths[0] > 1:
    raise ConfigError(
      f"{what} has its images in folders within folders, such as {names[0]}; name the folder that holds those of the "
      "classes."
    )
  of_file = [path.parent.name for path in files] if depths[0] else []
  classes = sorted(set(of_file), key=natural)
  numbers = {name: number for number, name in enumerate(classes)}
  labels = np.asarray([numbers[name] for name in of_file] or [0] * len(files), np.int32)
  return Listing(tuple(files), tuple(names), tuple(classes), labels, dict(skipped))


def _walked(root: Path) -> tuple[list[Path], collections.Counter]:
  """The picture files, and the number of others by kind; links are followed, each folder once."""
  files, skipped, folders = [], collections.Counter(), set()

  def refuse(error):
    raise error

  for folder, inner, names in os.walk(root, onerror=refuse, followlinks=True):
    real = os.path.realpath(folder)
    if real in folders:
      inner.clear()
      continue
    folders.add(real)
    skipped["hidden"] += sum(name.startswith(".") for name in (*inner, *names))
    inner[:] = [name for name in inner if not name.startswith(".")]
    for name in names:
      path = Path(folder, name)
      if name.startswith("."):
        continue
      if path.suffix.lower() in ENDINGS and path.is_file():
        files.append(path)
      else:
        skipped["broken links" if path.is_symlink() else path.suffix.lower() or "without an ending"] += 1
  return sorted(files), +skipped
