"""The share of the time that steps wait for the input, and what is timed of a reading."""

import argparse
import contextlib
import itertools

import numpy as np
import pytest

from benchmarks import data, ours

GIVEN = argparse.Namespace(batch=8, batches=20, chunk=2)


class Clock:
  """Time that passes only where somebody sleeps."""

  now = 0.0

  def sleep(self, seconds):
    self.now += seconds

  def perf_counter(self):
    return self.now


def test_a_reading_goes_through_all_images():
  images = ours.images(64, 4)
  with data.reading(images, GIVEN) as items:
    read = np.concatenate([item["image"].reshape(-1, 4, 4, 3) for item in itertools.islice(items, 4)])
  np.testing.assert_array_equal(np.sort(read, axis=0), np.sort(images, axis=0))


@pytest.mark.parametrize("item_s, share", [(0.0, 0.0), (0.02, 0.5), (0.06, 0.75)])  # of item_s + 2 * 10 ms
def test_the_share_is_of_the_time_in_which_nothing_is_ready(monkeypatch, item_s, share):
  clock = Clock()
  monkeypatch.setattr(data, "time", clock)
  monkeypatch.setattr(
    data, "reading", lambda *_: contextlib.nullcontext(clock.sleep(item_s) for _ in itertools.count())
  )
  assert data.waited(ours.images(64, 4), GIVEN, 0.01) == pytest.approx(share)


def test_closing_a_reading_is_not_in_its_time(monkeypatch):
  closed = []

  @contextlib.contextmanager
  def watched(images, given):
    yield ({"image": images[:8]} for _ in itertools.count())
    closed.append(True)

  monkeypatch.setattr(data, "reading", watched)
  finish = data.ours(ours.images(64, 4), GIVEN)()
  assert not closed
  finish()
  assert closed
