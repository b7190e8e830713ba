"""The source that reads npz files."""

import numpy as np
import pytest

from diffjax.data import SOURCES
from diffjax.data.source import Field
from diffjax.types import ConfigError

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.integers(0, 256, (60, 4, 6, 3), np.uint8), np.arange(60) % 7
EMBEDDINGS = RNG.standard_normal((60, 5)).astype(np.float32)


def written(folder, name="a.npz", **arrays):
  np.savez(folder / name, **arrays)
  return str(folder / name)


def source(split, path, **options):
  return SOURCES["arrays"](split=split, path=path, **options)


def images(source):
  return source.arrays["image"]


def test_both_splits_together_are_the_file(tmp_path):
  path = written(tmp_path, images=IMAGES, labels=LABELS, embeddings=EMBEDDINGS, unread=np.zeros(3))
  train, test = (source(split, path, test_fraction=0.3) for split in ("train", "test"))
  assert 0 < len(test) < len(train) and train.fingerprint != test.fingerprint
  fields = {
    "image": Field((4, 6, 3), "uint8"),
    "label": Field((), "int32", 7),
    "embedding": Field((5,), "float32"),
  }
  for parts in (train, test):
    counts = tuple(np.bincount(parts.arrays["label"], minlength=7))
    assert parts.fields == fields | {"label": fields["label"]._replace(counts=counts)}

  def rows(*arrays):
    return sorted((x.tobytes(), int(y), z.tobytes()) for x, y, z in zip(*arrays, strict=True))

  both = [np.concatenate([train.arrays[name], test.arrays[name]]) for name in fields]
  assert rows(*both) == rows(IMAGES, LABELS, EMBEDDINGS)
  read = train.read(np.array([3, 0]))
  np.testing.assert_array_equal(read["image"], images(train)[[3, 0]])
  assert read["label"].dtype == np.int32


def test_new_images_move_no_others_and_equal_ones_stay_together(tmp_path):
  few = written(tmp_path, images=IMAGES[:40])
  more = written(tmp_path, "b.npz", images=np.concatenate([IMAGES, IMAGES[::-1]]))
  test = {one.tobytes() for one in images(source("test", few, test_fraction=0.3))}
  later = [one.tobytes() for one in images(source("test", more, test_fraction=0.3))]
  assert test <= set(later) and len(later) == 2 * len(set(later))


def test_a_second_file_is_the_test_split(tmp_path):
  path = written(tmp_path, x=IMAGES, y=LABELS, z=EMBEDDINGS)
  test_path = written(tmp_path, "b.npz", x=IMAGES[:5], y=LABELS[:5], z=EMBEDDINGS[:5])
  options = {"test_path": test_path, "image": "x", "label": "y", "embedding": "z"}
  np.testing.assert_array_equal(images(source("train", path, **options)), IMAGES)
  test = source("test", path, **options)
  np.testing.assert_array_equal(images(test), IMAGES[:5])
  np.testing.assert_array_equal(test.arrays["embedding"], EMBEDDINGS[:5])
  assert test.fields["label"].classes == 7


def test_a_file_without_labels_or_embeddings_has_no_such_fields(tmp_path):
  result = source("train", written(tmp_path, images=IMAGES))
  assert result.fields == {"image": Field((4, 6, 3), "uint8")}


def test_grey_images_need_no_axis_of_their_own(tmp_path):
  path = written(tmp_path, images=IMAGES[..., 0], labels=LABELS)
  with_axis = written(tmp_path, "b.npz", images=IMAGES[..., :1], labels=LABELS)
  result, other = source("train", path), source("train", with_axis)
  assert result.fields["image"] == Field((4, 6, 1), "uint8")
  np.testing.assert_array_equal(images(result), images(other))
  assert result.fingerprint == other.fingerprint


def test_the_fingerprint_is_of_the_content_and_not_of_the_place(tmp_path):
  arrays = {"images": IMAGES, "labels": LABELS, "embeddings": EMBEDDINGS}
  kept = source("train", written(tmp_path, **arrays)).fingerprint
  assert source("train", written(tmp_path, "moved.npz", **arrays)).fingerprint == kept
  others = [
    {"images": IMAGES ^ np.uint8(1)},
    {"images": IMAGES.reshape(60, 6, 4, 3)},
    {"labels": LABELS[::-1]},
    {"embeddings": -EMBEDDINGS},
  ]
  # every image in the training split, so that none of these changes merely chooses other images
  whole = {"test_path": "unread"}
  prints = {source("train", written(tmp_path, **arrays), **whole).fingerprint}
  for other in others:
    prints.add(source("train", written(tmp_path, **(arrays | other)), **whole).fingerprint)
  assert len(prints) == 1 + len(others)


@pytest.mark.parametrize(
  "arrays, message",
  [
    ({}, "no array 'images' but none"),
    ({"pictures": IMAGES}, "no array 'images' but pictures"),
    ({"images": IMAGES / 255}, "float64"),
    ({"images": IMAGES[..., :2]}, r"\[60, 4, 6, 2\]"),
    ({"images": IMAGES[0, 0]}, r"\[6, 3\]"),
    ({"images": IMAGES[:0]}, r"\[0, 4, 6, 3\]"),
    ({"images": IMAGES, "labels": LABELS[:-1]}, "one for each of the 60"),
    ({"images": IMAGES, "labels": LABELS - 1}, "whole numbers from 0"),
    ({"images": IMAGES, "labels": LABELS * 1.0}, "float64"),
    ({"images": IMAGES, "labels": LABELS + 2**31}, "no class"),
    ({"images": IMAGES, "embeddings": EMBEDDINGS[:-1]}, "one for each of the 60"),
    ({"images": IMAGES, "embeddings": EMBEDDINGS[:, 0]}, r"\[60\]"),
    ({"images": IMAGES, "embeddings": EMBEDDINGS * np.float64(1)}, "embeddings are float64"),
    ({"images": IMAGES, "embeddings": EMBEDDINGS * np.inf}, "finite"),
    ({"images": np.array([{}])}, "plain arrays"),
  ],
)
def test_what_is_no_set_of_images_is_refused(arrays, message, tmp_path):
  with pytest.raises(ConfigError, match=message):
    source("train", written(tmp_path, **arrays))


def test_a_file_may_hold_both_splits_by_name(tmp_path):
  path = written(tmp_path, train_image=IMAGES, test_image=IMAGES[:7] // 2, train_y=LABELS, test_y=LABELS[:7])
  names = {"test_path": path, "image": "{split}_image", "label": "{split}_y"}
  for split, images, labels in (("train", IMAGES, LABELS), ("test", IMAGES[:7] // 2, LABELS[:7])):
    result = source(split, path, **names)
    np.testing.assert_array_equal(result.arrays["image"], images)
    np.testing.assert_array_equal(result.arrays["label"], labels)


def test_files_that_do_not_fit_are_refused(tmp_path):
  path = written(tmp_path, images=IMAGES, labels=LABELS)
  (tmp_path / "text.npz").write_text("hello")
  for file, message in (("", "is ''"), ("nowhere.npz", "not there"), ("text.npz", "plain arrays")):
    with pytest.raises(ConfigError, match=message):
      source("train", str(tmp_path / file) if file else "")
  others = {
    r"holds examples of image \[2, 6, 3\]": {"images": IMAGES[:, :2], "labels": LABELS},
    r"holds examples of image \[4, 6, 3\], and": {"images": IMAGES},
    r"embedding \[5\], and": {"images": IMAGES, "labels": LABELS, "embeddings": EMBEDDINGS},
    "the label 7, but the classes .* are 0 to 6": {"images": IMAGES, "labels": LABELS + 1},
  }
  for message, arrays in others.items():
    with pytest.raises(ConfigError, match=message):
      source("test", path, test_path=written(tmp_path, "b.npz", **arrays))
  with pytest.raises(ConfigError, match="test_fraction is .* holds out all 60 examples"):
    source("train", path, test_fraction=1 - 1e-9)
