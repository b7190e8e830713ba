"""Timing in turn: A B A B ..., so that whatever else the machine does meets all alike."""

import dataclasses
import gc
import time
from collections.abc import Callable, Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class Times:
  """Seconds of one candidate, a number for every round.

  Attributes:
    wall: by the clock.
    cpu: of all threads of this process together; where others share the machine it wavers less.
  """

  wall: tuple[float, ...]
  cpu: tuple[float, ...]

  @property
  def median(self) -> float:
    """Of the wall times."""
    return float(np.median(self.wall))

  @property
  def spread(self) -> float:
    """Half the distance between the quartiles, as a share of the median."""
    low, high = np.quantile(self.wall, (0.25, 0.75))
    return float((high - low) / 2 / self.median)

  def ratio(self, other: "Times") -> float:
    """Median over the rounds of own time / other's time in the same round."""
    return float(np.median(np.divide(self.wall, other.wall)))

  def ratios(self, other: "Times") -> tuple[float, float]:
    """The least and the largest of the rounds' ratios."""
    quotients = np.divide(self.wall, other.wall)
    return float(quotients.min()), float(quotients.max())

  def per(self, count: int) -> "Times":
    """Of one of `count` equal parts of the work."""
    return Times(*(tuple(t / count for t in times) for times in (self.wall, self.cpu)))

  def cpu_ratio(self, other: "Times") -> float:
    """The same of the processor times."""
    return float(np.median(np.divide(self.cpu, other.cpu)))


def in_turn(
  candidates: Mapping[str, Callable[[], object]], rounds: int, warm: int = 2, before: int = 0
) -> dict[str, Times]:
  """Runs every candidate once a round, the order reversed from round to round.

  Args:
    candidates: functions that return when their work is done; a function that one returns is called outside
      of its time.
    rounds: at least 1.
    warm: rounds before, which are not counted; the first compiles.
    before: calls at the beginning of a candidate's turn that are not counted. What a process frees goes back to the
      system, and in a virtual machine soon to its host; a step of training follows a step and finds it still there.
  """
  wall, cpu = ({name: [] for name in candidates} for _ in range(2))
  order = list(candidates)
  for number in range(-warm, rounds):
    gc.collect()
    for name in order:
      for _ in range(before):
        if callable(after := candidates[name]()):
          after()
      clock, processor = time.perf_counter(), time.process_time()
      after = candidates[name]()
      took = time.perf_counter() - clock, time.process_time() - processor
      if number >= 0:
        wall[name].append(took[0])
        cpu[name].append(took[1])
      if callable(after):
        after()
    order.reverse()
  return {name: Times(tuple(wall[name]), tuple(cpu[name])) for name in candidates}
