"""Previews, caches, trackers and log files: what may fail without ending the run, which says so once."""

import contextlib
import sys
from collections.abc import Callable, Iterator

from diffjax.machine import disk

Errors = type[Exception] | tuple[type[Exception], ...]


def to_stderr(text: str) -> None:
  """A line where no reporter is."""
  print(text, file=sys.stderr, flush=True)


class ByProducts:
  """The by-products of one run; a failure is said the first time that something of its name fails."""

  def __init__(self, say: Callable[[str], None] = to_stderr):
    """Takes what says a line."""
    self._say, self._reported = say, set()

  @contextlib.contextmanager
  def may_fail(self, what: str, errors: Errors = OSError) -> Iterator[None]:
    """A block whose errors of these types, by default the file system's, end the block alone."""
    try:
      yield
    except errors as error:
      if what not in self._reported:
        self._reported.add(what)
        self._say(f"warning: {what} failed, and the run goes on without: {disk.reason(error)}")
