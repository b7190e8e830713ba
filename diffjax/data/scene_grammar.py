"""What captions of scenes mean: a grammar of digits, places and relations, and whether a scene shows what one says.

A scene is a canvas of 2 x 2 cells with one or two digits (`scenes`):

    single     a three | the digit 3 | a handwritten three          one digit, in any cell
    placed     a three in the top left                              one digit, in that cell
    beside     a three left of a seven | a seven right of a three   two digits, in one row
    above      a three above a seven | a seven below a three        two digits, in one column
    pair       a three and a seven                                  two digits, in any cells

A fifth or so of the facts (a, left | above, b) is novel: training shows and states none, in either wording.
"""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from diffjax.data.digits import NAMES
from diffjax.types import ConfigError

PLACES = ("top left", "top right", "bottom left", "bottom right")
KINDS = ("single", "placed", "beside", "above", "pair")
# The first cells of a row and of a column, and how far the second is: top left is cell 0, bottom right cell 3.
STARTS, STEPS = {"beside": (0, 2), "above": (0, 1)}, {"beside": 1, "above": 2}
EMPTY = -1


class Meanings(NamedTuple):
  """What captions mean.

  Attributes:
    kind: [n], a place in KINDS.
    first: [n] the digit; of two the one on the left, or above.
    second: [n] the other digit, or EMPTY.
    cell: [n] where a "placed" digit is, else EMPTY.
  """

  kind: Int[np.ndarray, "n"]
  first: Int[np.ndarray, "n"]
  second: Int[np.ndarray, "n"]
  cell: Int[np.ndarray, "n"]


@functools.cache
def novel() -> Bool[np.ndarray, "2 10 10"]:
  """Whether a fact is novel, by relation (left, above) and the two digits."""
  novelty = lambda *fact: hashlib.sha256(" ".join(map(str, fact)).encode()).digest()[0] % 5 == 0
  return np.array(
    [[[novelty(a, relation, b) for b in range(10)] for a in range(10)] for relation in ("left", "above")]
  )


def noun(digit: int) -> str:
  """A digit with its article."""
  return f"{'an' if digit == 8 else 'a'} {NAMES[digit]}"


def wordings(kind: str, first: int, second: int, cell: int) -> tuple[str, ...]:
  """All captions that mean the same."""
  a, b = noun(first), noun(second)
  return {
    "single": (a, f"the digit {first}", f"a handwritten {NAMES[first]}"),
    "placed": (f"{a} in the {PLACES[cell]}",),
    "beside": (f"{a} left of {b}", f"{b} right of {a}"),
    "above": (f"{a} above {b}", f"{b} below {a}"),
    "pair": (f"{a} and {b}",),
  }[kind]


@functools.cache
def grammar() -> Mapping[str, tuple[int, int, int, int]]:
  """What every caption says, by the caption: kind, first, second and cell as in Meanings."""
  captions = {}
  for kind, name in enumerate(KINDS):
    for first in range(10):
      seconds = range(10) if name in ("beside", "above", "pair") else (EMPTY,)
      for second in seconds:
        for cell in range(4) if name == "placed" else (EMPTY,):
          captions |= dict.fromkeys(wordings(name, first, second, cell), (kind, first, second, cell))
  return captions


def meanings(captions: Sequence[str]) -> Meanings:
  """What captions mean.

  Raises:
    ConfigError: one that the grammar does not have.
  """
  table = grammar()
  unknown = [caption for caption in captions if caption not in table]
  if unknown:
    raise ConfigError(f"{unknown[0]!r} is no caption of a scene; 'a two above a seven' is one, say.")
  return Meanings(*np.asarray([table[caption] for caption in captions], int).reshape(-1, 4).T)


def is_novel(meaning: Meanings) -> Bool[np.ndarray, "n"]:
  """Whether captions state a novel fact."""
  relation = meaning.kind - KINDS.index("beside")
  states = (relation == 0) | (relation == 1)
  return states & novel()[np.where(states, relation, 0), meaning.first, np.maximum(meaning.second, 0)]


def fact(cells: Int[np.ndarray, "*n 4"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Relation (0 left, 1 above, EMPTY none), first and second digit that cells of two digits show, each [*n]."""
  relation, first, second = (np.full(cells.shape[:-1], EMPTY) for _ in range(3))
  for number, name in enumerate(("beside", "above")):
    for start in STARTS[name]:
      pair = cells[..., start], cells[..., start + STEPS[name]]
      here = (pair[0] >= 0) & (pair[1] >= 0)
      relation, first, second = (
        np.where(here, value, old) for value, old in ((number, relation), (pair[0], first), (pair[1], second))
      )
  return relation, first, second


class Truth(NamedTuple):
  """Which parts of captions scenes show, each of the shape that the cells and the meanings make together.

  Attributes:
    digits: the digits that it names, and no others.
    layout: as many digits as it names, placed or related as it says, whichever they are.
    all: everything that it says.
  """

  digits: np.ndarray
  layout: np.ndarray
  all: np.ndarray


def truth(cells: Int[np.ndarray, "*n 4"], meaning: Meanings) -> Truth:
  """What of captions is true of scenes; shapes are broadcast, so that every scene may meet every caption.

  Args:
    cells: the digit in every cell, or EMPTY.
    meaning: the captions', arrays that broadcast with [*n].
  """
  count = (cells >= 0).sum(-1)
  there = np.sort(np.where(cells >= 0, cells, 10), axis=-1)  # the digits first
  pair = np.sort(np.stack([meaning.first, np.where(meaning.second >= 0, meaning.second, 10)], -1), axis=-1)
  digits = (there[..., :2] == pair).all(-1) & (there[..., 2] == 10)
  relation, first, second = fact(cells)
  kind = {name: meaning.kind == number for number, name in enumerate(KINDS)}
  at = np.where((cells >= 0).any(-1), (cells >= 0).argmax(-1), EMPTY)
  layout = (
    (kind["single"] & (count == 1))
    | (kind["placed"] & (count == 1) & (at == meaning.cell))
    | (kind["beside"] & (count == 2) & (relation == 0))
    | (kind["above"] & (count == 2) & (relation == 1))
    | (kind["pair"] & (count == 2))
  )
  related = kind["beside"] | kind["above"]
  ordered = ~related | ((first == meaning.first) & (second == meaning.second))
  return Truth(digits, layout, digits & layout & ordered)
