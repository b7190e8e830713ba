"""Retrieval by counting: ranks with ties as expectations over their orders, chance, and shuffled captions."""

import itertools

import numpy as np
import pytest

from diffjax.data.source import ArraySource
from diffjax.data.text import TOKENIZERS
from diffjax.metrics.retrieval import bag_of_words, hit, of_images, of_texts, recall


@pytest.mark.parametrize(
  "before, wrong, right, rank",
  [(0, 0, 1, 1), (0, 1, 1, 1), (1, 2, 1, 2), (1, 2, 2, 3), (2, 0, 1, 2), (0, 3, 2, 4)],
)
def test_ties_are_expectations_over_all_orders(before, wrong, right, rank):
  orders = [*itertools.permutations(range(wrong + right))]
  hits = [
    any(k < right for k in order[: max(rank - before, 0)]) for order in orders
  ]  # the first `right` are right
  np.testing.assert_allclose(hit(*(np.array([n]) for n in (before, wrong, right)), rank), np.mean(hits))


def test_ranks_are_those_of_a_sort():
  rng = np.random.default_rng(0)
  scores, right = rng.standard_normal((40, 9)), np.arange(9) == rng.integers(0, 9, 40)[:, None]
  for rank in (1, 3, 9):
    want = [right[i][np.argsort(-scores[i])[:rank]].any() for i in range(40)]
    np.testing.assert_array_equal(recall(scores, right, rank), want)


def test_equal_captions_are_one_and_what_knows_nothing_gets_chance():
  tokens = np.array([[1, 2], [1, 3], [1, 2], [1, 4]])
  eye = np.eye(3)[[0, 1, 0, 2]]
  perfect = of_images({"images": eye, "texts": eye, "tokens": tokens})
  assert perfect["text_of_image_r1"] == 1 and perfect["chance_r1"] == pytest.approx(1 / 3)
  assert of_texts({"images": eye, "texts": eye, "tokens": tokens})["image_of_text_r1"] == 1
  flat = of_images({"images": np.ones((4, 1)), "texts": np.ones((4, 1)), "tokens": tokens})
  assert flat["text_of_image_r1"] == pytest.approx(1 / 3) and flat["text_of_image_r5"] == 1


def test_the_bag_of_words_finds_what_pixels_say_of_words():
  rng = np.random.default_rng(0)
  words = ("red", "green", "blue")

  def make(count, read=None):
    which = rng.integers(0, 3, (count, 2))
    images = rng.integers(0, 60, (count, 4, 4, 3)).astype(np.uint8)
    for k in range(2):  # the left half's colour and the right half's
      images[np.arange(count)[:, None], :, 2 * k : 2 * k + 2, which[:, k, None]] += 120
    captions = [f"{words[a]} left {words[b]} right" for a, b in which]
    read = read or TOKENIZERS["words"](captions)
    return ArraySource({"image": images, "text": read(captions)}, "", tokenizers={"text": read}), read

  train, read = make(400)
  held_out, _ = make(60, read)
  result = bag_of_words(train, held_out.arrays)
  assert result["bag_of_words_r5"] > 0.9 > 5 / 9  # red left blue right holds the words of blue left red right
  blind = bag_of_words(train, {**held_out.arrays, "image": np.roll(held_out.arrays["image"], 7, 0)})
  assert blind["bag_of_words_r1"] < result["bag_of_words_r1"] - 0.2
