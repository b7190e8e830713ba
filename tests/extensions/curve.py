"""A schedule from outside: log-SNR(t) = high + (low - high) t^power."""

import dataclasses
from typing import Annotated

from diffjax.curves import pytree
from diffjax.ranges import above
from diffjax.schedules import SCHEDULES, Schedule


@pytree("power")
@dataclasses.dataclass(frozen=True)
class Bent:
  """A power of the time."""

  high: float
  low: float
  power: float

  def logsnr(self, t):
    """From high at 0 to low at 1."""
    return self.high + (self.low - self.high) * t**self.power

  def t_of(self, logsnr):
    """Inverts it."""
    return ((logsnr - self.high) / (self.low - self.high)) ** (1 / self.power)


def bent(high: float = 8.0, low: float = -8.0, power: Annotated[float, above(0)] = 0.5) -> Schedule:
  """The schedule."""
  return Schedule(Bent(high, low, power), "vp", t_min=1e-3)


SCHEDULES["bent"] = bent
