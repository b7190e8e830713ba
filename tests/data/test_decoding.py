"""Functions of many items on all cores, in the items' order."""

import threading

import pytest

from diffjax.data import decoding


def test_results_come_in_order_and_items_are_worked_on_at_the_same_time():
  both = threading.Barrier(2, timeout=30)  # which one thread alone never passes

  def slow_at_first(i):
    if i < 2:
      both.wait()
    return 10 * i

  assert list(decoding.each(slow_at_first, range(9))) == [10 * i for i in range(9)]


def test_the_first_failure_by_order_is_raised_in_the_caller():
  later = threading.Event()

  def fails(i):
    if i == 3:
      later.wait(30)  # so that the later one fails first
    if i == 5:
      later.set()
    if i in (3, 5):
      raise ValueError(f"item {i}")
    return i

  with pytest.raises(ValueError, match="item 3"):
    list(decoding.each(fails, range(8)))
