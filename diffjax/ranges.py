"""Which numbers an option may be, said beside it in its annotation:

    def adam(b1: Rate = 0.9, ...)                          # one of the aliases at the end
    def sigmoid(tau: Annotated[float, above(0)] = 1.0, ...)

What a config names is checked so before it is called (config.py). A number whose annotation says nothing must be
finite. Of a tuple every element counts, with tuple[Count, ...] as its annotation.
"""

import dataclasses
import math
import typing
from collections.abc import Callable
from typing import Annotated, Any

from diffjax.types import ConfigError


@dataclasses.dataclass(frozen=True)
class Range:
  """The numbers that an option may be.

  Attributes:
    holds: whether a number is one of them; never true of NaN.
    text: what comes after "it must be".
  """

  holds: Callable[[float], bool]
  text: str


FINITE = Range(math.isfinite, "finite")


def at_least(low: float) -> Range:
  """[low, inf)."""
  return Range(lambda value: low <= value < math.inf, f"at least {low}")


def above(low: float) -> Range:
  """(low, inf)."""
  return Range(lambda value: low < value < math.inf, f"greater than {low}")


def closed(low: float, high: float) -> Range:
  """[low, high]."""
  return Range(lambda value: low <= value <= high, f"between {low} and {high}")


def half_open(low: float, high: float) -> Range:
  """[low, high)."""
  return Range(lambda value: low <= value < high, f"at least {low} and less than {high}")


def up_to(low: float, high: float) -> Range:
  """(low, high]."""
  return Range(lambda value: low < value <= high, f"greater than {low} and at most {high}")


def inside(low: float, high: float) -> Range:
  """(low, high)."""
  return Range(lambda value: low < value < high, f"greater than {low} and less than {high}")


def or_infinite(numbers: Range) -> Range:
  """The same and infinity."""
  return Range(lambda value: numbers.holds(value) or value == math.inf, f"{numbers.text}, or inf")


def of(annotation: Any) -> Range:
  """The range that an annotation says, of a tuple its elements'; FINITE where it says none."""
  if typing.get_origin(annotation) is tuple:
    annotation = typing.get_args(annotation)[0]
  said = getattr(annotation, "__metadata__", ())
  return next((found for found in said if isinstance(found, Range)), FINITE)


def check(path: str, value: Any, allowed: Range) -> None:
  """Raises ConfigError if config.<path>, or an element of it, is a number outside a range."""
  for number in value if isinstance(value, tuple) else (value,):
    if isinstance(number, int | float) and not isinstance(number, bool) and not allowed.holds(number):
      every = "every element" if isinstance(value, tuple) else "it"
      raise ConfigError(f"config.{path} is {value}; {every} must be {allowed.text}.")


Positive = Annotated[float, above(0)]
NotNegative = Annotated[float, at_least(0)]
Rate = Annotated[float, half_open(0, 1)]
Share = Annotated[float, closed(0, 1)]
Count = Annotated[int, at_least(1)]
Whole = Annotated[int, at_least(0)]
