"""Scenes: what their captions say is what they show, novel facts are in the test split alone, and they repeat."""

import re

import numpy as np
import pytest

from diffjax.data.digits import NAMES
from diffjax.data.scene_grammar import EMPTY, PLACES, Meanings, grammar, is_novel, meanings, novel, truth
from diffjax.data.scenes import as_cells, draw, paint, scenes
from diffjax.data.text import TOKENIZERS
from diffjax.types import ConfigError

COUNT = 3000
READ = {split: draw(split, 0, np.arange(COUNT)) for split in ("train", "test")}


def make(split="train", **options):
  return scenes(split, TOKENIZERS["words"], **options)


def shows(caption, cells):
  """Whether cells [2][2] show what a caption says, read word by word."""
  number = {name: i for i, name in enumerate(NAMES)} | {str(i): i for i in range(10)}
  there = {(r, c): cells[r][c] for r in range(2) for c in range(2) if cells[r][c] != EMPTY}
  if match := re.fullmatch(r"an? (\w+) (left|right|above|below)( of)? an? (\w+)", caption):
    one, how, _, two = match.groups()
    step = {"left": (0, 1), "right": (0, -1), "above": (1, 0), "below": (-1, 0)}[how]
    return any(
      there == {(r, c): number[one], (r + step[0], c + step[1]): number[two]}
      for r in range(2)
      for c in range(2)
    )
  if match := re.fullmatch(r"an? (\w+) and an? (\w+)", caption):
    return sorted(there.values()) == sorted(number[name] for name in match.groups())
  if match := re.fullmatch(r"an? (\w+) in the (\w+ \w+)", caption):
    return there == {divmod(PLACES.index(match[2]), 2): number[match[1]]}
  return [*there.values()] == [number[caption.split()[-1]]]


@pytest.mark.parametrize("split", READ)
def test_a_scene_shows_what_its_caption_says_and_few_others_do(split):
  captions, cells = make(split).captions(np.arange(COUNT)), READ[split].cells
  meaning = meanings(captions)
  assert all(shows(caption, scene.reshape(2, 2)) for caption, scene in zip(captions, cells, strict=True))
  assert truth(cells, meaning).all.all()
  some = slice(0, 100)
  every = truth(cells[some, None], Meanings(*(part[None, some] for part in meaning)))
  byhand = [[shows(caption, scene.reshape(2, 2)) for caption in captions[some]] for scene in cells[some]]
  np.testing.assert_array_equal(every.all, byhand)
  assert 0.005 < np.mean(byhand) < 0.05


def test_parts_of_a_caption_may_be_true_alone():
  scene = np.array([[3, 7, EMPTY, EMPTY]])
  for caption, digits, layout, everything in (
    ("a three left of a seven", True, True, True),
    ("a seven left of a three", True, True, False),
    ("a three above a seven", True, False, False),
    ("a two left of a seven", False, True, False),
    ("a three in the top left", False, False, False),
    ("a seven and a three", True, True, True),
  ):
    result = truth(scene, meanings([caption]))
    assert (result.digits[0], result.layout[0], result.all[0]) == (digits, layout, everything), caption


def test_novel_facts_are_in_every_second_test_scene_and_nowhere_else():
  assert novel().sum() == 36
  for split, share in (("train", 0), ("test", 0.5)):
    captions = make(split).captions(np.arange(COUNT))
    stated = is_novel(meanings(captions))
    assert stated.mean() == share
    shown = np.zeros(COUNT, bool)
    for relation, pairs in enumerate((((0, 1), (2, 3)), ((0, 2), (1, 3)))):
      for a, b in pairs:
        one, two = READ[split].cells[:, a], READ[split].cells[:, b]
        shown |= (one >= 0) & (two >= 0) & novel()[relation, np.maximum(one, 0), np.maximum(two, 0)]
    np.testing.assert_array_equal(shown, stated)


def test_scenes_are_functions_of_their_number_and_other_ones_for_each():
  rows = np.array([2999, 5, 5, 17])
  for part, whole in zip(draw("train", 0, rows)[:2], READ["train"][:2], strict=True):
    np.testing.assert_array_equal(part, whole[rows])
  assert (
    len(np.unique(paint("train", READ["train"], 24), axis=0)) > 0.95 * COUNT
  )  # of single ones some repeat
  assert make().fingerprint != make(seed=1).fingerprint != make(size=32).fingerprint
  assert (draw("train", 1, np.arange(COUNT)).cells != READ["train"].cells).any(1).mean() > 0.9


def test_every_kind_digit_and_place_occurs_as_often_as_it_should():
  meaning = READ["train"].meaning
  shares = np.bincount(meaning.kind, minlength=5) / COUNT
  np.testing.assert_allclose(
    shares, [0.112, 0.223, 0.281, 0.281, 0.103], atol=0.03
  )  # of ten, less what is novel
  for values, count in ((meaning.first, 10), (meaning.cell[meaning.kind == 1], 4)):
    np.testing.assert_allclose(np.bincount(values, minlength=count) / len(values), 1 / count, atol=0.05)


@pytest.mark.parametrize("size", [24, 32])
def test_what_is_painted_is_read_again(size):
  few = draw("test", 0, np.arange(200))
  cells = as_cells(paint("test", few, size)).astype(float)[..., 0]
  scans = as_cells(paint("test", few, 24)).astype(float)[..., 0]
  ink = cells.mean((2, 3)) / 255
  assert ink[few.cells >= 0].min() > 0.16 and ink[few.cells < 0].max() == 0
  assert np.abs(cells - scans).mean() < (1e-9 if size == 24 else 4)


def test_the_tokens_are_those_of_the_caption():
  source = make("test")
  read, captions = source.read(np.arange(50)), source.captions(np.arange(50))
  assert [source.tokenizer.text(tokens) for tokens in read["text"]] == captions
  assert len(grammar()) == 30 + 40 + 400 + 100 and source.tokenizer.length == 8


def test_what_is_no_scene_is_refused():
  with pytest.raises(ConfigError, match="size is 16; scenes are of 24 or 32"):
    make(size=16)
  with pytest.raises(ConfigError, match="'a red heart' is no caption of a scene"):
    meanings(["a red heart"])
  with pytest.raises(ConfigError, match="scenes are of 24x24 or 32x32"):
    as_cells(np.zeros((1, 16, 16, 1), np.uint8))
