"""The metric "classifier" on real digits, as if they were samples."""

import numpy as np
import pytest

from diffjax.data import SOURCES
from diffjax.data.source import ArraySource
from diffjax.metrics import METRICS
from diffjax.types import ConfigError


@pytest.fixture(scope="module")
def splits():
  return SOURCES["digits"](split="train"), SOURCES["digits"](split="test")


def test_real_images_get_the_floor_and_wrong_ones_do_not(splits):
  train, test = splits
  metric = METRICS["classifier"](train, test, None)
  itself = metric.score(test.images, test.labels)
  assert itself["frechet"] < 1e-6
  assert itself["agreement"] == metric.floor["agreement"] > 0.97
  as_samples = metric.score(train.images, train.labels)
  np.testing.assert_allclose(as_samples["frechet"], metric.floor["frechet"], rtol=1e-9)
  shifted = metric.score(test.images, (test.labels + 1) % 10)
  assert shifted["agreement"] < 0.03 and shifted["frechet"] == itself["frechet"]
  one_class = train.images[train.labels == 3]
  assert metric.score(one_class, None).keys() == {"frechet"}
  assert metric.score(one_class, None)["frechet"] > 5 * metric.floor["frechet"]
  with pytest.raises(ConfigError, match="at least 2 samples, and there are 1"):
    metric.score(test.images[:1], None)


def test_sets_it_is_not_for_are_refused(splits):
  unlabelled = ArraySource(splits[1].images, splits[1].labels, 0, "")
  with pytest.raises(ConfigError, match="the data carry no labels"):
    METRICS["classifier"](unlabelled, unlabelled, None)
