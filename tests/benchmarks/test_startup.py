"""The parts of a start, of times that are known."""

import pytest

from benchmarks import startup


@pytest.mark.parametrize(
  "spans, seconds",
  [([], 0), ([(1, 3)], 2), ([(1, 5), (2, 3)], 4), ([(2, 3), (1, 2.5), (7, 8)], 3)],
)
def test_spans_that_lie_in_each_other_count_once(spans, seconds):
  assert startup.covered(spans) == seconds


def test_the_parts_are_in_order_and_their_sum_is_the_whole():
  trace, lower, build = startup.KINDS.values()
  told = [
    ("imports", "", 2, 2),  # event, name, end, seconds
    (trace, "inner", 4, 1),
    (trace, "init", 5, 2),  # from 3 on, with the one before within it
    (lower, "init", 6, 1),
    (build, "init", 8, 2),
    (trace, "whole", 11, 0.5),  # of something else with its name
    (trace, "whole", 12, 2),
    (lower, "jit(whole)", 13, 1),
    (build, "jit(whole)", 18, 5),
    (build, "sampler", 30, 4),
  ]
  events = [dict(zip(("event", "name", "end", "seconds"), each, strict=True)) for each in told]
  assert startup.parts(events, began=0, ended=20) == {
    "imports": 2,
    "1 programs before the step": 5,
    "checks, data and the rest before the step": 3,
    "the step traced": 2,
    "the step lowered": 1,
    "the step compiled": 5,
    "the step run, and the rest": 2,
  }
