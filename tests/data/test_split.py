"""Which examples are held out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffjax.data.split import rows
from diffjax.types import ConfigError

NAMES = st.lists(st.binary(min_size=1, max_size=4), min_size=2, max_size=30, unique=True)


@given(NAMES, st.floats(0, 0.99))
def test_splits_part_the_set_or_are_both_the_whole(names, fraction):
  try:
    train, test = (rows(split, names, fraction).tolist() for split in ("train", "test"))
  except ConfigError:
    return  # of few examples all may be held out
  if train == test:
    assert train == [*range(len(names))]
  else:
    assert test and sorted(train + test) == [*range(len(names))]


@given(NAMES, st.floats(0.01, 0.9))
def test_a_name_stays_on_its_side(names, fraction):
  more = [*names, *(name + b"more" for name in names)]
  try:
    before, after = (set(rows("test", some, fraction)) for some in (names, more))
  except ConfigError:
    return
  held = before if len(before) < len(names) else set()
  assert held <= after


@pytest.mark.parametrize("fraction", [0.0, 0.05, 0.9999])
def test_one_example_can_be_learned_by_heart(fraction, capsys):
  np.testing.assert_array_equal(rows("train", [b"one"], fraction), [0])
  assert not capsys.readouterr().err
  np.testing.assert_array_equal(rows("test", [b"one"], fraction), [0])
  assert "held-out numbers are of the training examples themselves" in capsys.readouterr().err


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_that_leaves_nothing_to_train_on_is_refused(split):
  with pytest.raises(
    ConfigError, match="test_fraction is 0.999.*holds out all 2 examples; choose a smaller one"
  ):
    rows(split, [b"one", b"two"], 0.999999)
