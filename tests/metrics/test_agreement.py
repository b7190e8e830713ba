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
  everything = lambda source: source.read(np.arange(len(source)))
  train, test = everything(train), everything(test)
  itself = metric.judge(test, test)
  assert itself["frechet_355"] < 1e-6
  assert itself["agreement"] == metric.floor["agreement"] > 0.97
  as_samples = metric.judge(train, train)
  np.testing.assert_allclose(
    as_samples["frechet"], metric.floor_at(len(train["image"]))["frechet"], rtol=1e-9
  )
  shifted = metric.judge(test, {"label": (test["label"] + 1) % 10})
  assert shifted["agreement"] < 0.03 and shifted["frechet_355"] == itself["frechet_355"]
  one_class = {"image": train["image"][train["label"] == 3]}
  name = f"frechet_{len(one_class['image'])}"
  assert metric.judge(one_class, {}).keys() == {name, "memory_ratio", "memory_share"}
  floors = [metric.floor_at(count)[f"frechet_{count}"] for count in (len(one_class["image"]), 1000)]
  assert metric.judge(one_class, {})[name] > 5 * floors[0]
  assert floors[0] > 1.2 * floors[1]  # so few real images are further off
  with pytest.raises(ConfigError, match="at least 2 samples, and there are 1"):
    metric.judge({"image": test["image"][:1]}, {})


def test_sets_it_is_not_for_are_refused(splits):
  unlabelled = ArraySource({"image": splits[1].arrays["image"]}, "")
  with pytest.raises(ConfigError, match="it needs labels, and the data carry none"):
    METRICS["classifier"](unlabelled, unlabelled, None)
