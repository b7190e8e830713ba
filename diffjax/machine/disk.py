"""What the file system refuses, in words: the place, why, and what to do."""

import errno
import os
import shutil
from pathlib import Path

from diffjax.types import ConfigError

REMEDIES = {
  errno.ENOSPC: "make room there",
  errno.EDQUOT: "make room there",
  errno.EACCES: "allow this user to use it, or name another place",
  errno.EPERM: "allow this user to use it, or name another place",
  errno.EROFS: "name another place, by --workdir or --out",
  errno.ENOENT: "it is not there; look whether it was moved or removed meanwhile",
  errno.EEXIST: "something else is in the way; move it, or name another place",
  errno.ENOTDIR: "a file is in the way; move it, or name another place",
  errno.EISDIR: "a folder is in the way; move it, or name another place",
  errno.EMFILE: "allow more open files (ulimit -n)",
}


def reason(error: BaseException) -> str:
  """One line for an error: of the file system's the place and why, of others their type and first line."""
  if isinstance(error, OSError) and error.strerror:
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror}"
  first = str(error).strip().split("\n")[0]
  return first if isinstance(error, ConfigError) else f"{type(error).__name__}: {first}".rstrip(": ")


def paragraph(error: OSError) -> str:
  """The error as a paragraph for the user, with the remedy."""
  remedy = REMEDIES.get(error.errno, "look at this place and its disk")
  return f"{reason(error)}. The file system refuses this: {remedy}, and give the same command again."


def size(count: float) -> str:
  """Bytes in the largest unit that fits, to three digits."""
  for unit in ("bytes", "kB", "MB", "GB"):
    if count < 1000:
      return f"{count:.3g} {unit}"
    count /= 1000
  return f"{count:.3g} TB"


def free(place: Path) -> int:
  """Bytes that may still be written at a place, which need not exist yet."""
  return shutil.disk_usage(_existing(place)).free


def _existing(place: Path) -> Path:
  place = place.absolute()
  return next(p for p in (place, *place.parents) if p.exists())


def make_folder(place: Path, what: str) -> None:
  """Makes a folder; raises ConfigError, which begins with `what`, where the file system refuses."""
  try:
    place.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise ConfigError(f"{what} cannot be made: {reason(error)}; name another folder.") from None


def require_folder(place: Path, what: str, writes: bool = True) -> None:
  """Raises ConfigError, which begins with `what`, where a folder cannot be, or cannot be written to."""
  there = _existing(place)
  if not there.is_dir():
    raise ConfigError(f"{what} cannot be made: {there} is a file; move it, or name another folder.")
  if writes and not os.access(there, os.W_OK | os.X_OK):
    raise ConfigError(
      f"{what} cannot be written to: {there} is read-only for this user; allow it, or name another folder."
    )
