"""Pictures decoded one by one, on all cores: while it decodes, Pillow lets other threads run."""

import functools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Given, Result = TypeVar("Given"), TypeVar("Result")


@functools.cache
def _threads() -> ThreadPoolExecutor:
  return ThreadPoolExecutor(thread_name_prefix="decoding")


def each(function: Callable[[Given], Result], items: Iterable[Given]) -> Iterator[Result]:
  """The results of a function for all items, in their order; it raises what the first that fails raises.

  All items are begun at once, so their results should fit into memory together. The function may not call this.
  """
  return _threads().map(function, items)
