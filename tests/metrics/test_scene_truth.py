"""The metric "scenes": real scenes to the reader's own error, others' captions by the arithmetic of chance."""

import itertools

import numpy as np
import pytest

from diffjax.data import SOURCES
from diffjax.data.scene_grammar import EMPTY, KINDS, Meanings, meanings, novel, truth, wordings
from diffjax.data.scenes import draw
from diffjax.data.text import TOKENIZERS
from diffjax.metrics import METRICS
from diffjax.metrics.scenes import score
from diffjax.types import ConfigError


def test_real_scenes_are_true_and_others_as_often_as_chance_says():
  train, test = (
    SOURCES["scenes"](split=split, tokenizer=TOKENIZERS["words"], size=32) for split in ("train", "test")
  )
  metric = METRICS["scenes"](train, test, None)
  data = train.read(np.arange(600))
  result = metric.judge(data, data)
  assert result["true"] > 0.98 and result["digits"] > 0.98 and result["layout"] == 1
  assert metric.floor["true_seen"] > 0.96 and metric.floor["true_novel"] > 0.94 and "true_novel" not in result
  others = metric.judge(data, {"text": np.roll(data["text"], 1, 0)})
  assert others["true"] < 0.05 and abs(others["shuffled"] - result["shuffled"]) < 1e-9
  # The digits' looks hang on no caption; mirrored ones are other digits, and an empty picture has none.
  assert others["frechet_600"] == result["frechet_600"] == metric.floor_at(600)["frechet_600"]
  mirrored = metric.judge({"image": data["image"][:, :, ::-1]}, data)
  assert mirrored["frechet_600"] > 5 * result["frechet_600"]
  empty = metric.judge({"image": np.zeros_like(data["image"])}, data)
  assert not any(name.startswith("frechet") for name in empty)
  with pytest.raises(ConfigError, match="is no caption of a scene"):
    metric.judge(data, {"text": np.full_like(data["text"], 5)})
  with pytest.raises(ConfigError, match="'scenes', but the samples were not told by text"):
    metric.judge(data, {"label": np.zeros(600, np.int32)})


def test_another_s_caption_is_true_by_the_arithmetic_of_the_kinds():
  """Every scene of training, with its probability, meets every caption."""
  rows, columns, shares = ((0, 1), (2, 3)), ((0, 2), (1, 3)), (0.1, 0.2, 0.3, 0.3, 0.1)
  places = ([(c,) for c in range(4)],) * 2 + (rows, columns, [*itertools.permutations(range(4), 2)])
  every = []
  for kind, share, where in zip(KINDS, shares, places, strict=True):
    for cells in where:
      for digits in itertools.product(range(10), repeat=len(cells)):
        novel_here = any(
          novel()[relation, digits[cells.index(a)], digits[cells.index(b)]]
          for relation, pairs in enumerate((rows, columns))
          for a, b in pairs
          if {a, b} == {*cells}
        )
        if not novel_here:
          scene = [digits[cells.index(c)] if c in cells else EMPTY for c in range(4)]
          caption = wordings(kind, digits[0], digits[-1], cells[0])[0]
          every.append((scene, caption, share / len(where) / 10 ** len(cells)))
  scenes, captions, weights = zip(*every, strict=True)
  weights, message = np.array(weights) / sum(weights), meanings(captions)
  each = truth(np.array(scenes)[:, None], Meanings(*(part[None] for part in message))).all
  result = draw("train", 0, np.arange(2000))
  shuffled = score({"cells": result.cells, **result.meaning._asdict()})["shuffled"]
  np.testing.assert_allclose(shuffled, weights @ each @ weights, rtol=0.1)


def test_shares_are_of_their_own_captions():
  captions = [
    "a three left of a seven",
    "a six",
    "a five above a one",
    "a four in the top left",
    "a one and a two",
  ]
  cells = np.array([[3, 7, -1, -1], [-1, -1, -1, 6], [1, -1, 5, -1], [4, -1, -1, 5], [2, -1, -1, 1]])
  result = score({"cells": cells, **meanings(captions)._asdict()})
  assert result["true"] == pytest.approx(3 / 5) and result["true_single"] == 1 and result["true_pair"] == 1
  assert result["true_placed"] == 0 and result["true_relation"] == pytest.approx(1 / 2)
  assert result["digits"] == pytest.approx(4 / 5) and result["layout"] == pytest.approx(4 / 5)
  assert result["shuffled"] == pytest.approx(3 / 25)
  nothing = {"cells": np.full((2, 4), EMPTY), **meanings(captions[:2])._asdict()}
  assert score(nothing)["true"] == score(nothing)["layout"] == 0


def test_every_scene_s_own_cells_are_true():
  scenes = draw("test", 0, np.arange(500))
  result = score({"cells": scenes.cells, **scenes.meaning._asdict()})
  assert (
    result["true"] == result["true_novel"] == result["true_seen"] == result["digits"] == result["layout"] == 1
  )


def test_other_data_are_refused():
  digits = SOURCES["digits"]
  with pytest.raises(ConfigError, match="needs the source 'scenes'"):
    METRICS["scenes"](digits("train"), digits("test"), None)
