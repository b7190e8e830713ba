"""What a data source is: fields by index."""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from diffjax.data.text import Tokenizer
from diffjax.types import ConfigError

SHOWN = 20  # names of classes in a message


class Field(NamedTuple):
  """What an example holds under one name.

  Attributes:
    shape: of one example's.
    dtype: "uint8" for pixels, "int32" for labels and tokens, "float32".
    classes: the values of an int32 field lie below; 0: unbounded.
    names: of the classes; () where they have none.
    tokenizer: of a field of text, int32 [L], whose values are tokens, and negative where there is none.
    counts: of the examples of each class; () where they are not known.
  """

  shape: tuple[int, ...]
  dtype: str
  classes: int = 0
  names: tuple[str, ...] = ()
  tokenizer: Tokenizer | None = None
  counts: tuple[int, ...] = ()

  def number(self, option: str, value: str | int) -> int:
    """The class that is called so, or has this number; ConfigError, which begins with the option, if there is none."""
    value = str(value)
    if value in self.names:
      return self.names.index(value)
    numbered = self.names and all(name.isdecimal() for name in self.names)  # where a number is a name
    if value.isdecimal() and int(value) < self.classes and not numbered:
      return int(value)
    more = ", ..." if len(self.names) > SHOWN else ""
    listing = f" ({', '.join(self.names[:SHOWN])}{more})" if self.names else ""
    raise ConfigError(f"{option} is {value}; the data's classes are 0 to {self.classes - 1}{listing}.")


def class_field(labels: np.ndarray, classes: int, names: Sequence[str] = ()) -> Field:
  """The field of a set's labels [N]."""
  counts = np.bincount(labels, minlength=classes)
  return Field((), "int32", classes, tuple(names), counts=tuple(counts.tolist()))


class Source(Protocol):
  """Random access to examples, all of the same fields.

  Attributes:
    fields: what an example holds, by name.
    fingerprint: a short hash that changes with the content.
  """

  fields: Mapping[str, Field]
  fingerprint: str

  def __len__(self) -> int:
    """Number of examples."""

  def read(self, indices: np.ndarray, names: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """The fields of these examples, each [n, *shape] of its dtype; all of them, or those named and no others."""


@dataclasses.dataclass(frozen=True)
class ArraySource:
  """A set that fits in memory.

  Attributes:
    arrays: [N, *shape] by field.
    fingerprint: the hash of its content.
    classes: of the int32 fields that have any.
    names: of these classes, where they have any.
    tokenizers: of the fields of text.
  """

  arrays: Mapping[str, np.ndarray]
  fingerprint: str
  classes: Mapping[str, int] = dataclasses.field(default_factory=dict)
  names: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
  tokenizers: Mapping[str, Tokenizer] = dataclasses.field(default_factory=dict)

  @functools.cached_property
  def fields(self) -> dict[str, Field]:
    """What an example holds."""
    return {name: self._field(name, array) for name, array in self.arrays.items()}

  def _field(self, name: str, array: np.ndarray) -> Field:
    if tokenizer := self.tokenizers.get(name):
      return Field(array.shape[1:], str(array.dtype), tokenizer.vocabulary, tokenizer=tokenizer)
    classes = self.classes.get(name, 0)
    if classes and array.ndim == 1:
      return class_field(array, classes, self.names.get(name, ()))
    return Field(array.shape[1:], str(array.dtype), classes)

  def __len__(self) -> int:
    """Number of examples."""
    return len(next(iter(self.arrays.values())))

  def read(self, indices: np.ndarray, names: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Gathers the rows."""
    return {name: self.arrays[name][indices] for name in names or self.arrays}


def fingerprint(*parts) -> str:
  """A hash of strings and arrays, 16 hexadecimal digits."""
  digest = hashlib.sha256()
  for part in parts:
    digest.update(part.tobytes() if isinstance(part, np.ndarray) else repr(part).encode())
    digest.update(b"|")
  return digest.hexdigest()[:16]
