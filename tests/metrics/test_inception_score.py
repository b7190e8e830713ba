"""The Inception score at its ends and against its formula."""

import numpy as np
import pytest

from diffjax.metrics.inception_score import inception_score
from diffjax.types import ConfigError


def test_the_same_prediction_for_all_scores_one():
  logits = np.tile(np.random.default_rng(0).normal(size=7), (50, 1))
  assert inception_score(logits, 5) == pytest.approx((1, 0, 5), abs=1e-12)


def test_sure_predictions_of_all_classes_score_their_number():
  logits = 1e4 * np.eye(7)[np.arange(700) % 7]
  assert inception_score(logits, 1).value == pytest.approx(7)


def test_the_formula():
  logits = 3 * np.random.default_rng(1).normal(size=(40, 6))
  p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  truth = np.exp(np.mean(np.sum(p * np.log(p / p.mean(axis=0)), axis=1)))
  assert inception_score(logits, 1).value == pytest.approx(truth, rel=1e-12)
  assert inception_score(logits + 100 * np.arange(40)[:, None], 1).value == pytest.approx(truth, rel=1e-12)


def test_images_sorted_by_class_are_dealt_to_all_parts():
  logits = 1e4 * np.eye(5)[np.repeat(np.arange(5), 200)]
  score = inception_score(logits)
  assert score.value > 4.7 and score.std < 0.2 and score.splits == 10


def test_what_cannot_be_scored_raises():
  with pytest.raises(ConfigError, match="class layer"):
    inception_score(None)
  with pytest.raises(ConfigError, match="4 images for 10 parts"):
    inception_score(np.zeros((4, 3)))
