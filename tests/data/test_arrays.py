"""The source that reads npz files."""

import numpy as np
import pytest

from diffjax.data import SOURCES
from diffjax.types import ConfigError

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.integers(0, 256, (60, 4, 6, 3), np.uint8), np.arange(60) % 7


def written(folder, name="a.npz", **arrays):
  np.savez(folder / name, **arrays)
  return str(folder / name)


def source(split, path, **options):
  return SOURCES["arrays"](split=split, path=path, **options)


def test_both_splits_together_are_the_file(tmp_path):
  path = written(tmp_path, images=IMAGES, labels=LABELS)
  train, test = (source(split, path, test_fraction=0.3) for split in ("train", "test"))
  assert 0 < len(test) < len(train) and train.num_classes == test.num_classes == 7
  assert train.image_shape == (4, 6, 3) and train.fingerprint != test.fingerprint
  both = [
    (one.tobytes(), label) for s in (train, test) for one, label in zip(s.images, s.labels, strict=True)
  ]
  assert sorted(both) == sorted((one.tobytes(), label) for one, label in zip(IMAGES, LABELS, strict=True))
  read = train.read(np.array([3, 0]))
  np.testing.assert_array_equal(read["image"], train.images[[3, 0]])
  assert read["label"].dtype == np.int32


def test_new_images_move_no_others_and_equal_ones_stay_together(tmp_path):
  few = written(tmp_path, images=IMAGES[:40])
  more = written(tmp_path, "b.npz", images=np.concatenate([IMAGES, IMAGES[::-1]]))
  test = {one.tobytes() for one in source("test", few, test_fraction=0.3).images}
  later = [one.tobytes() for one in source("test", more, test_fraction=0.3).images]
  assert test <= set(later) and len(later) == 2 * len(set(later))


def test_a_second_file_is_the_test_split(tmp_path):
  path = written(tmp_path, x=IMAGES, y=LABELS)
  test_path = written(tmp_path, "b.npz", x=IMAGES[:5], y=LABELS[:5])
  options = {"test_path": test_path, "image": "x", "label": "y"}
  np.testing.assert_array_equal(source("train", path, **options).images, IMAGES)
  test = source("test", path, **options)
  np.testing.assert_array_equal(test.images, IMAGES[:5])
  assert test.num_classes == 7


def test_a_file_without_labels_has_no_classes(tmp_path):
  found = source("train", written(tmp_path, images=IMAGES))
  assert found.num_classes == 0 and not found.labels.any()


@pytest.mark.parametrize(
  "arrays, said",
  [
    ({}, "no array 'images' but none"),
    ({"pictures": IMAGES}, "no array 'images' but pictures"),
    ({"images": IMAGES / 255}, "float64"),
    ({"images": IMAGES[..., :2]}, r"\[60, 4, 6, 2\]"),
    ({"images": IMAGES, "labels": LABELS[:-1]}, "one for each of the 60"),
    ({"images": IMAGES, "labels": LABELS - 1}, "whole numbers from 0"),
    ({"images": IMAGES, "labels": LABELS * 1.0}, "float64"),
    ({"images": np.array([{}])}, "plain arrays"),
  ],
)
def test_what_is_no_set_of_images_is_refused(arrays, said, tmp_path):
  with pytest.raises(ConfigError, match=said):
    source("train", written(tmp_path, **arrays))


def test_files_that_do_not_fit_are_refused(tmp_path):
  path = written(tmp_path, images=IMAGES, labels=LABELS)
  (tmp_path / "text.npz").write_text("hello")
  for file, said in (("", "is ''"), ("nowhere.npz", "not there"), ("text.npz", "plain arrays")):
    with pytest.raises(ConfigError, match=said):
      source("train", str(tmp_path / file) if file else "")
  other = written(tmp_path, "b.npz", images=IMAGES[:, :2], labels=LABELS)
  beyond = written(tmp_path, "c.npz", images=IMAGES, labels=LABELS + 1)
  for file, said in ((other, "images of"), (beyond, "classes 0 to 6")):
    with pytest.raises(ConfigError, match=said):
      source("test", path, test_path=file)
  with pytest.raises(ConfigError, match="train split is empty"):
    source("train", path, test_fraction=1 - 1e-9)
