"""The figure of memory: on points whose distances are known, on copies, and streamed as in one piece."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from diffjax.data import SOURCES
from diffjax.data.source import ArraySource
from diffjax.metrics import memorization as room
from diffjax.metrics.memorization import memorization, nearest


def source(images):
  return ArraySource({"image": images}, "")


@pytest.fixture(scope="module")
def digits():
  return [SOURCES["digits"](split=split).arrays["image"] for split in ("train", "test")]


@pytest.fixture(scope="module")
def figure(digits):
  return memorization(*map(source, digits))


def judged(figure, images):
  return figure.score(figure.features(images))


def test_distances_are_those_of_scipy_whatever_the_blocks(monkeypatch):
  monkeypatch.setattr(room, "BLOCK", 7)
  random = np.random.default_rng(0)
  known = random.integers(0, 256, (23, 3, 4, 2), np.uint8)
  images = np.concatenate([random.integers(0, 256, (15, 3, 4, 2), np.uint8), known[20:]])
  flat = lambda x: x.reshape(len(x), -1).astype(float)
  truth = cdist(flat(images), flat(known)).min(1) / 24**0.5
  np.testing.assert_allclose(nearest(images, known), truth, rtol=1e-6)
  assert (nearest(images, known)[15:] == 0).all() and nearest(images[:0], known).shape == (0,)


def test_held_out_digits_have_1_and_a_twentieth_and_copies_none_and_all(digits, figure):
  train, test = digits
  assert figure.floor == judged(figure, test)
  assert figure.floor["memory_ratio"] == 1 and abs(figure.floor["memory_share"] - 0.05) < 0.005
  assert judged(figure, train[::3]) == {"memory_ratio": 0, "memory_share": 1}
  noise = 127.5 / 10 * np.random.default_rng(1).normal(size=train.shape)
  noisy = judged(figure, np.clip(np.round(train + noise), 0, 255).astype(np.uint8))
  assert 0.28 < noisy["memory_ratio"] < 0.36 and noisy["memory_share"] > 0.99
  means = np.round((train.astype(float) + train[::-1]) / 2).astype(np.uint8)
  assert judged(figure, means)["memory_ratio"] > 1.1


def test_nothing_is_said_of_other_sizes_or_where_training_images_are_held_out(digits, figure):
  assert judged(figure, digits[1][:, :4]) == {}
  assert judged(memorization(source(digits[0]), source(digits[0])), digits[1]) == {}
