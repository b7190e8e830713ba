"""Which examples are held out: by a hash of their own, so that new ones move no others."""

import hashlib
from collections.abc import Iterable

import numpy as np

from diffjax.machine.byproducts import to_stderr
from diffjax.types import ConfigError


def held_out(names: Iterable[bytes], fraction: float) -> np.ndarray:
  """Whether an example belongs to the test split [N]: equal names fall on the same side."""
  numbers = (int.from_bytes(hashlib.sha256(name).digest()[:8], "big") for name in names)
  return np.asarray([number < fraction * 2**64 for number in numbers], bool)


def rows(split: str, names: Iterable[bytes], fraction: float) -> np.ndarray:
  """The numbers of a split's examples, ascending.

  Of a set whose hashes hold nothing out, and of a single example, both splits are the whole set, and a line says so:
  a network that learns one image, or ten, by heart is a sound first test.

  Args:
    split: "train" or "test".
    names: what an example is known by: its file's name, or its content.
    fraction: share that is held out.

  Raises:
    ConfigError: all of several are held out.
  """
  mask = held_out(names, fraction)
  if not mask.any() or len(mask) == 1:
    if split == "test":
      to_stderr(
        f"test_fraction = {fraction} holds out none of {len(mask)} examples: held-out numbers are of the training "
        "examples themselves."
      )
    return np.arange(len(mask))
  if mask.all():
    raise ConfigError(
      f"test_fraction is {fraction}, which holds out all {len(mask)} examples; choose a smaller one, or add examples."
    )
  return np.flatnonzero(mask == (split == "test"))
