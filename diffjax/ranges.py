"""Which numbers or names an option may be, said beside it in its annotation:

    def adam(b1: Rate = 0.9, ...)                          # one of the aliases at the end
    def sigmoid(tau: Annotated[float, above(0)] = 1.0, ...)
    def ancestral(variance: Annotated[str, one_of(VARIANCES)] = "fixed_large")

`checked` holds an entry to them wherever it is called. A number whose annotation says nothing must be finite. Of a
tuple every element counts, with tuple[Count, ...] as its annotation.
"""

import dataclasses
import functools
import inspect
import math
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

import numpy as np

from diffjax.types import ConfigError, Trained


@dataclasses.dataclass(frozen=True)
class Range:
  """The numbers, or the names, that an option may be.

  Attributes:
    holds: whether a value is one of them; never true of NaN.
    text: what comes after "it must be".
    kinds: the types that it speaks of; a value of another passes.
    once: whether of a tuple every element must be another.
  """

  holds: Callable[[Any], bool]
  text: str
  kinds: tuple[type, ...] = (int, float)
  once: bool = False


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


def each_once(numbers: Range) -> Range:
  """The same, none of them twice in a tuple."""
  return dataclasses.replace(numbers, once=True)


def one_of(names: Iterable[str]) -> Range:
  """The names themselves."""
  return Range(lambda value: value in names, f"one of {', '.join(names)}", (str,))


LOCAL = Range(
  lambda value: (
    "://" not in value and all(len(name.encode(errors="replace")) < 256 for name in value.split("/"))
  ),
  "a path; what lies in a bucket must be mounted or copied first, and names end at 255 letters",
  (str,),
)


def of(annotation: Any) -> Range:
  """The range that an annotation says, of a tuple its elements'; FINITE where it says none."""
  if is_tuple(annotation):
    annotation = typing.get_args(_bare(annotation))[0]
  metadata = getattr(annotation, "__metadata__", ())
  return next((mark for mark in metadata if isinstance(mark, Range)), FINITE)


def kinds(annotation: Any) -> tuple[type, ...]:
  """The types that a value may have, of a tuple's its elements."""
  annotation = _bare(annotation)
  if is_tuple(annotation):
    return kinds(typing.get_args(annotation)[0])
  types = typing.get_args(annotation) or (annotation,)
  return tuple(kind for kind in types if kind in (bool, int, float, str, type(None)))


def is_tuple(annotation: Any) -> bool:
  """Whether a value is a tuple."""
  return typing.get_origin(_bare(annotation)) is tuple


def _bare(annotation: Any) -> Any:
  return typing.get_args(annotation)[0] if typing.get_origin(annotation) is Annotated else annotation


def fitted(name: str, value: Any, annotation: Any) -> Any:
  """The value with the type that an annotation says, whole numbers as floats where it says float.

  Raises:
    ConfigError: it is of another type.
  """
  allowed, many = kinds(annotation), is_tuple(annotation)
  if not allowed:
    return value
  if many != isinstance(value, tuple | list):
    such = f"a tuple, such as ({value!r},)" if many else f"of type {allowed[0].__name__}"
    raise ConfigError(f"{name} is {value!r}; it must be {such}.")
  plain = lambda each: each.item() if isinstance(each, np.generic) else each
  value = tuple(map(plain, value)) if many else plain(value)
  for each in value if many else (value,):
    if type(each) not in allowed and not (float in allowed and type(each) is int):
      every = "every element" if many else "it"
      raise ConfigError(f"{name} is {value!r}; {every} must be of type {allowed[0].__name__}.")
  fit = lambda each: float(each) if type(each) is int and int not in allowed else each
  return tuple(map(fit, value)) if many else fit(value)


def check(name: str, value: Any, allowed: Range) -> None:
  """Raises ConfigError if the value of option `name`, or an element of it, is outside a range."""
  for each in value if isinstance(value, tuple) else (value,):
    if isinstance(each, allowed.kinds) and not isinstance(each, bool) and not allowed.holds(each):
      every = "every element" if isinstance(value, tuple) else "it"
      raise ConfigError(f"{name} is {value!r}; {every} must be {allowed.text}.")
  if allowed.once and len(set(value)) < len(value):
    raise ConfigError(f"{name} is {value!r}; none may stand there twice.")


def checked(entries: Mapping[str, Any]) -> dict[str, Any]:
  """The entries of a dict, each refusing arguments outside the ranges that its annotations say."""
  return {name: _checked(entry) if callable(entry) else entry for name, entry in entries.items()}


def _checked(entry: Callable) -> Callable:
  signature = inspect.signature(entry)
  allowed = {name: of(p.annotation) for name, p in signature.parameters.items()}

  @functools.wraps(entry)
  def call(*arguments, **options):
    for name, value in signature.bind(*arguments, **options).arguments.items():
      check(name, value, allowed[name])
    return entry(*arguments, **options)

  return call


Positive = Annotated[float, above(0)]
NotNegative = Annotated[float, at_least(0)]
Rate = Annotated[float, half_open(0, 1)]
Share = Annotated[float, closed(0, 1)]
Count = Annotated[int, at_least(1)]
Whole = Annotated[int, at_least(0)]


FREE = object()  # says of a field or an option that a run may change it while it goes on


@dataclasses.dataclass(frozen=True)
class Uses:
  """Says of an option that it names a workdir, whose trained task must be able to do this; or, if optional, none."""

  can: str
  optional: bool = False


def Run(can: str, optional: bool = False) -> Any:
  """The annotation of an option that names a run; the entry is called with what was trained there, a Trained."""
  return Annotated[str | Trained, Uses(can, optional), LOCAL]


def uses(annotation: Any) -> Uses | None:
  """What a run that an option names must be able to do; None where the option names no run."""
  return next((mark for mark in getattr(annotation, "__metadata__", ()) if isinstance(mark, Uses)), None)
