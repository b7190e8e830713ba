"""Scenes of scanned digits with captions that can be checked: embedded, and as many as are asked for.

A scene is a black canvas of 2 x 2 cells with one or two of scikit-learn's digits, each in the middle of its cell:
24 x 24 pixels, where the digits are as they were scanned, or 32 x 32, where a cubic spline enlarges them to 12 x 12.

    single     a three | the digit 3 | a handwritten three          one digit, in any cell
    placed     a three in the top left                              one digit, in that cell
    beside     a three left of a seven | a seven right of a three   two digits, in one row
    above      a three above a seven | a seven below a three        two digits, in one column
    pair       a three and a seven                                  two digits, in any cells

Example i is a function of (split, seed, i), drawn by a hash of these. A fifth or so of the facts (a, left | above, b)
is novel: no training scene shows one, and no training caption states one, in either wording. Half of the test
split shows nothing else, and all of it shows digits that training does not see.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, NamedTuple

import numpy as np
from jaxtyping import Bool, Int, UInt8

from diffjax.data.digits import NAMES, digits
from diffjax.data.hashing import hashed
from diffjax.data.source import Field, fingerprint
from diffjax.data.text import Tokenizer
from diffjax.ranges import Count, Whole
from diffjax.types import ConfigError

PLACES = ("top left", "top right", "bottom left", "bottom right")
KINDS = ("single", "placed", "beside", "above", "pair")
SHARES = np.cumsum([0.1, 0.2, 0.3, 0.3])  # of the kinds but for the last
# The first cells of a row and of a column, and how far the second is: top left is cell 0, bottom right cell 3.
STARTS, STEPS = {"beside": (0, 2), "above": (0, 1)}, {"beside": 1, "above": 2}
SIDES = {24: (12, 8), 32: (16, 12)}  # canvas: (cell, digit)
EMPTY = -1


class Meanings(NamedTuple):
  """What captions say.

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
  chosen = lambda *fact: hashlib.sha256(" ".join(map(str, fact)).encode()).digest()[0] % 5 == 0
  return np.array(
    [[[chosen(a, relation, b) for b in range(10)] for a in range(10)] for relation in ("left", "above")]
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
  found = {}
  for kind, name in enumerate(KINDS):
    for first in range(10):
      seconds = range(10) if name in ("beside", "above", "pair") else (EMPTY,)
      for second in seconds:
        for cell in range(4) if name == "placed" else (EMPTY,):
          found |= dict.fromkeys(wordings(name, first, second, cell), (kind, first, second, cell))
  return found


def meanings(captions: Sequence[str]) -> Meanings:
  """What captions say.

  Raises:
    ConfigError: one that the grammar does not have.
  """
  known = grammar()
  unknown = [caption for caption in captions if caption not in known]
  if unknown:
    raise ConfigError(f"{unknown[0]!r} is no caption of a scene; 'a two above a seven' is one, say.")
  return Meanings(*np.asarray([known[caption] for caption in captions], int).reshape(-1, 4).T)


def is_novel(said: Meanings) -> Bool[np.ndarray, "n"]:
  """Whether captions state a novel fact."""
  relation = said.kind - KINDS.index("beside")
  states = (relation == 0) | (relation == 1)
  return states & novel()[np.where(states, relation, 0), said.first, np.maximum(said.second, 0)]


def _fact(cells: Int[np.ndarray, "*n 4"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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


def truth(cells: Int[np.ndarray, "*n 4"], said: Meanings) -> Truth:
  """What of captions is true of scenes; shapes are broadcast, so that every scene may meet every caption.

  Args:
    cells: the digit in every cell, or EMPTY.
    said: the captions' meanings, arrays that broadcast with [*n].
  """
  count = (cells >= 0).sum(-1)
  there = np.sort(np.where(cells >= 0, cells, 10), axis=-1)  # the digits first
  named = np.sort(np.stack([said.first, np.where(said.second >= 0, said.second, 10)], -1), axis=-1)
  digits = (there[..., :2] == named).all(-1) & (there[..., 2] == 10)
  relation, first, second = _fact(cells)
  kind = {name: said.kind == number for number, name in enumerate(KINDS)}
  at = np.where((cells >= 0).any(-1), (cells >= 0).argmax(-1), EMPTY)
  layout = (
    (kind["single"] & (count == 1))
    | (kind["placed"] & (count == 1) & (at == said.cell))
    | (kind["beside"] & (count == 2) & (relation == 0))
    | (kind["above"] & (count == 2) & (relation == 1))
    | (kind["pair"] & (count == 2))
  )
  related = kind["beside"] | kind["above"]
  ordered = ~related | ((first == said.first) & (second == said.second))
  return Truth(digits, layout, digits & layout & ordered)


@functools.cache
def _enlarging(side: int) -> tuple[np.ndarray, np.ndarray]:
  """A cubic spline through 8 samples read at `side` places, [side, 8]; and its left inverse, [8, side]."""
  from scipy.interpolate import CubicSpline

  at = np.clip((np.arange(side) + 0.5) * 8 / side - 0.5, 0, 7)
  matrix = np.stack([CubicSpline(np.arange(8), row, bc_type="natural")(at) for row in np.eye(8)], 1)
  return matrix, np.linalg.pinv(matrix)


def as_cells(images: UInt8[np.ndarray, "n s s 1"]) -> UInt8[np.ndarray, "n 4 8 8 1"]:
  """The 8 x 8 pixels in the middle of every cell, made small again where digits were enlarged.

  Raises:
    ConfigError: images of no scene's size.
  """
  n, size = images.shape[:2]
  if size not in SIDES or images.shape[1:] != (size, size, 1):
    raise ConfigError(
      f"scenes are of 24x24 or 32x32 grey pixels, and these images are {list(images.shape[1:])}."
    )
  cell, side = SIDES[size]
  margin = (cell - side) // 2
  parts = images.reshape(n, 2, cell, 2, cell).swapaxes(2, 3).reshape(n, 4, cell, cell)
  parts = parts[..., margin : margin + side, margin : margin + side]
  if side != 8:
    back = _enlarging(side)[1]
    parts = np.clip(np.rint(back @ parts.astype(float) @ back.T), 0, 255).astype(np.uint8)
  return parts[..., None]


class Drawn(NamedTuple):
  """Scenes before they are painted.

  Attributes:
    cells: [n, 4] the digit in every cell, or EMPTY.
    scans: [n, 4] numbers that choose which scan of the digit.
    said: what their captions mean.
    wording: [n] numbers that choose between captions of one meaning.
  """

  cells: np.ndarray
  scans: np.ndarray
  said: Meanings
  wording: np.ndarray


def drawn(split: str, seed: int, indices: Int[np.ndarray, "n"]) -> Drawn:
  """The scenes of these numbers; one that may not show its fact is drawn again."""
  indices = np.asarray(indices, np.int64)
  wants_novel = (indices % 2 == 1) & (split == "test")
  attempt, open_ = np.zeros(len(indices), np.int64), np.ones(len(indices), bool)
  found = None
  while open_.any():
    rows = np.flatnonzero(open_)
    cells, said, fine = _attempt(split, seed, indices[rows], attempt[rows], wants_novel[rows])
    if found is None:
      found = cells, said
    else:
      found[0][rows] = cells
      for old, new in zip(found[1], said, strict=True):
        old[rows] = new
    open_[rows], attempt[rows] = ~fine, attempt[rows] + 1
  cells, said = found if found else (np.zeros((0, 4), int), Meanings(*np.zeros((4, 0), int)))
  at = ("train", "test").index(split)
  scans = hashed(seed, at, indices[:, None], 100 + np.arange(4))
  return Drawn(cells, scans, said, hashed(seed, at, indices, 99))


def _attempt(split, seed, indices, attempt, wants_novel):
  """Cells [n, 4] and meanings of one try each, and whether their facts are as they should be [n]."""

  def below(count, number):
    """Whole numbers below a count, [n]."""
    numbers = hashed(seed, ("train", "test").index(split), indices, number, attempt)
    return ((numbers >> np.uint64(11)) % np.uint64(count)).astype(int)

  kind = np.searchsorted(SHARES, below(1_000_000, 0) / 1_000_000, "right")
  kind = np.where(wants_novel, 2 + below(2, 1), kind)
  first, second, place = below(10, 2), below(10, 3), below(4, 4)
  other = (place + 1 + below(3, 5)) % 4
  half = below(2, 6)
  one = kind <= 1
  beside, above = kind == 2, kind == 3
  start = np.where(beside, 2 * half, np.where(above, half, place))
  end = np.where(beside, 2 * half + 1, np.where(above, half + 2, other))
  cells, rows = np.full((len(indices), 4), EMPTY), np.arange(len(indices))
  cells[rows, start] = first
  cells[rows[~one], end[~one]] = second[~one]
  said = Meanings(kind, first, np.where(one, EMPTY, second), np.where(kind == 1, place, EMPTY))
  relation, a, b = _fact(cells)
  shows_novel = (relation >= 0) & novel()[np.maximum(relation, 0), np.maximum(a, 0), np.maximum(b, 0)]
  return cells, said, shows_novel == wants_novel


@functools.cache
def _scans(split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """The digits of a split sorted by class, uint8 [N, 8, 8]; where each class begins [10], and how many it has [10]."""
  read = digits(split).arrays
  order = np.argsort(read["label"], kind="stable")
  counts = np.bincount(read["label"], minlength=10)
  return read["image"][order, ..., 0], np.cumsum(counts) - counts, counts


def painted(split: str, scenes: Drawn, size: int) -> UInt8[np.ndarray, "n s s 1"]:
  """The pictures of scenes, size x size."""
  (cell, side), (scans, starts, counts) = SIDES[size], _scans(split)
  there = scenes.cells >= 0
  digit = scenes.cells[there]
  chosen = scans[starts[digit] + (scenes.scans[there] % counts[digit].astype(np.uint64)).astype(int)]
  if side != 8:
    matrix = _enlarging(side)[0]
    chosen = np.clip(np.rint(matrix @ chosen.astype(float) @ matrix.T), 0, 255).astype(np.uint8)
  canvas, margin = np.zeros((len(there), 4, cell, cell), np.uint8), (cell - side) // 2
  inner = canvas[..., margin : margin + side, margin : margin + side]
  inner[there] = chosen
  return canvas.reshape(-1, 2, 2, cell, cell).swapaxes(2, 3).reshape(-1, size, size, 1)


@dataclasses.dataclass(frozen=True)
class ScenesSource:
  """Scenes by number, painted when they are read; see `scenes`."""

  split: str
  seed: int
  size: int
  count: int
  tokenizer: Tokenizer
  fingerprint: str

  @property
  def fields(self) -> dict[str, Field]:
    """The picture, and its caption."""
    text = Field((self.tokenizer.length,), "int32", self.tokenizer.vocabulary, tokenizer=self.tokenizer)
    return {"image": Field((self.size, self.size, 1), "uint8"), "text": text}

  def __len__(self) -> int:
    """Number of scenes."""
    return self.count

  @functools.cached_property
  def _tokens(self) -> tuple[dict[str, int], np.ndarray]:
    """Of every caption of the grammar its number, and the tokens [captions, L]."""
    captions = list(grammar())
    return {caption: i for i, caption in enumerate(captions)}, self.tokenizer(captions)

  def captions(self, indices: np.ndarray) -> list[str]:
    """The captions of scenes."""
    scenes = drawn(self.split, self.seed, indices)
    return _captions(scenes)

  def read(self, indices: np.ndarray, names: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Draws the scenes, and paints them where pictures are asked for."""
    scenes, (places, tokens) = drawn(self.split, self.seed, indices), self._tokens
    read = {
      "image": lambda: painted(self.split, scenes, self.size),
      "text": lambda: tokens[[places[caption] for caption in _captions(scenes)]],
    }
    return {name: read[name]() for name in names or read}


def _captions(scenes: Drawn) -> list[str]:
  found = []
  for kind, *said, wording in zip(
    *(part.tolist() for part in scenes.said), scenes.wording.tolist(), strict=True
  ):
    same = _wordings(KINDS[kind], *said)
    found.append(same[wording % len(same)])
  return found


_wordings = functools.cache(wordings)


def scenes(
  split: str,
  tokenizer: Callable[..., Tokenizer],
  size: Annotated[int, "24 or 32"] = 24,
  count: Count = 1_000_000,
  test_count: Count = 4096,
  seed: Whole = 0,
) -> ScenesSource:
  """Captioned scenes; see the module's docstring.

  Args:
    split: "train" or "test".
    tokenizer: maker of the tokenizer, called with all captions that there are.
    size: of the pictures, 24 or 32 pixels.
    count: scenes of the training split; none is stored.
    test_count: scenes of the test split.
    seed: of the scenes.

  Raises:
    ConfigError: another size.
  """
  if size not in SIDES:
    raise ConfigError(f"size is {size}; scenes are of 24 or 32 pixels.")
  read, number = tokenizer(list(grammar())), count if split == "train" else test_count
  key = fingerprint("scenes", split, seed, size, number, read.fingerprint, digits(split).fingerprint)
  return ScenesSource(split, seed, size, number, read, key)
