"""Scenes of scanned digits with captions that can be checked: embedded, and as many as are asked for.

A scene is a black canvas of 2 x 2 cells with one or two of scikit-learn's digits, each in the middle of its cell:
24 x 24 pixels, where the digits are as they were scanned, or 32 x 32, where a cubic spline enlarges them to 12 x 12.
scene_grammar.py has the captions and their meanings.

Example i is a function of (split, seed, i), drawn by a hash of these. No training scene shows a novel fact, and no
training caption states one. Half of the test split shows nothing else, and all of it shows digits that training does
not see.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from diffjax.data.digits import digits
from diffjax.data.hashing import hashed
from diffjax.data.scene_grammar import EMPTY, KINDS, Meanings, fact, grammar, novel, wordings
from diffjax.data.source import Field, fingerprint
from diffjax.data.text import Tokenizer
from diffjax.ranges import Count, Whole
from diffjax.types import ConfigError

SHARES = np.cumsum([0.1, 0.2, 0.3, 0.3])  # of the kinds but for the last
SIDES = {24: (12, 8), 32: (16, 12)}  # canvas: (cell, digit)


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


class Scenes(NamedTuple):
  """Scenes before they are painted.

  Attributes:
    cells: [n, 4] the digit in every cell, or EMPTY.
    scans: [n, 4] numbers that choose which scan of the digit.
    meaning: what their captions mean.
    wording: [n] numbers that choose between captions of one meaning.
  """

  cells: np.ndarray
  scans: np.ndarray
  meaning: Meanings
  wording: np.ndarray


def draw(split: str, seed: int, indices: Int[np.ndarray, "n"]) -> Scenes:
  """The scenes of these numbers; one that may not show its fact is drawn again."""
  indices = np.asarray(indices, np.int64)
  wants_novel = (indices % 2 == 1) & (split == "test")
  attempt, open_ = np.zeros(len(indices), np.int64), np.ones(len(indices), bool)
  cells, meaning = np.zeros((len(indices), 4), int), Meanings(*np.zeros((4, len(indices)), int))
  while open_.any():
    rows = np.flatnonzero(open_)
    cells[rows], new, fine = _attempt(split, seed, indices[rows], attempt[rows], wants_novel[rows])
    for part, numbers in zip(meaning, new, strict=True):
      part[rows] = numbers
    open_[rows], attempt[rows] = ~fine, attempt[rows] + 1
  at = ("train", "test").index(split)
  scans = hashed(seed, at, indices[:, None], 100 + np.arange(4))
  return Scenes(cells, scans, meaning, hashed(seed, at, indices, 99))


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
  meaning = Meanings(kind, first, np.where(one, EMPTY, second), np.where(kind == 1, place, EMPTY))
  relation, a, b = fact(cells)
  shows_novel = (relation >= 0) & novel()[np.maximum(relation, 0), np.maximum(a, 0), np.maximum(b, 0)]
  return cells, meaning, shows_novel == wants_novel


@functools.cache
def _scans(split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """The digits of a split sorted by class, uint8 [N, 8, 8]; where each class begins [10], and how many it has [10]."""
  read = digits(split).arrays
  order = np.argsort(read["label"], kind="stable")
  counts = np.bincount(read["label"], minlength=10)
  return read["image"][order, ..., 0], np.cumsum(counts) - counts, counts


def paint(split: str, scenes: Scenes, size: int) -> UInt8[np.ndarray, "n s s 1"]:
  """The pictures of scenes, size x size."""
  (cell, side), (scans, starts, counts) = SIDES[size], _scans(split)
  there = scenes.cells >= 0
  digit = scenes.cells[there]
  glyphs = scans[starts[digit] + (scenes.scans[there] % counts[digit].astype(np.uint64)).astype(int)]
  if side != 8:
    matrix = _enlarging(side)[0]
    glyphs = np.clip(np.rint(matrix @ glyphs.astype(float) @ matrix.T), 0, 255).astype(np.uint8)
  canvas, margin = np.zeros((len(there), 4, cell, cell), np.uint8), (cell - side) // 2
  inner = canvas[..., margin : margin + side, margin : margin + side]
  inner[there] = glyphs
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
    scenes = draw(self.split, self.seed, indices)
    return _captions(scenes)

  def read(self, indices: np.ndarray, names: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Draws the scenes, and paints them where pictures are asked for."""
    scenes, (places, tokens) = draw(self.split, self.seed, indices), self._tokens
    read = {
      "image": lambda: paint(self.split, scenes, self.size),
      "text": lambda: tokens[[places[caption] for caption in _captions(scenes)]],
    }
    return {name: read[name]() for name in names or read}


def _captions(scenes: Scenes) -> list[str]:
  captions = []
  for kind, *meaning, wording in zip(
    *(part.tolist() for part in scenes.meaning), scenes.wording.tolist(), strict=True
  ):
    same = _wordings(KINDS[kind], *meaning)
    captions.append(same[wording % len(same)])
  return captions


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
