"""The share of the time that steps wait for the input, and what is timed of a reading."""

import argparse
import contextlib
import itertools
import time

import pytest

from benchmarks import data, ours

GIVEN = argparse.Namespace(batch=8, batches=20, chunk=2)


@contextlib.contextmanager
def slow(images, given):
  yield (time.sleep(0.02) for _ in itertools.count())


def test_a_slow_source_is_waited_for_and_a_fast_one_is_not(monkeypatch):
  images = ours.images(64, 4)
  assert data.waited(images, GIVEN, 0.01) < 0.2
  monkeypatch.setattr(data, "reading", slow)
  assert data.waited(images, GIVEN, 0.01) == pytest.approx(0.5, abs=0.15)  # 20 of 20 + 2 * 10 ms


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
