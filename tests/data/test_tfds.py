"""TFDS sets of other kinds than most: each becomes the declared fields, or one sentence that names the option."""

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_datasets
from PIL import Image

from diffjax.data import SOURCES
from diffjax.types import ConfigError

COUNT = 10
PARTS = {
  "train": ("a", 0, 10),
  "train[:80%]": ("a", 0, 8),
  "train[80%:]": ("a", 8, -1),
  "train[50%:]": ("a", 5, 5),
  "test": ("b", 0, 10),
}


class Text:
  """A feature without classes."""


class Splits(dict):
  def __init__(self, folder):
    super().__init__({"train": None, "test": None})
    self.folder = folder

  def __getitem__(self, split):
    file, skip, take = PARTS[split]
    part = SimpleNamespace(filename=file, skip=skip, take=take, examples_in_shard=COUNT)
    return SimpleNamespace(filepaths=[self.folder / file], file_instructions=[part])


@pytest.fixture
def build(tmp_path, monkeypatch):
  """(images, labels, ...) -> the source of a set of which TFDS says that it holds them."""

  def make(
    images, labels=None, split="train", shape=None, dtype="uint8", classes=("ant", "bee", "cow"), **options
  ):
    feature = lambda **fields: SimpleNamespace(**fields)
    features = {
      "image": feature(np_dtype=np.dtype(dtype), shape=shape or images[0].shape, encoding_format="png"),
      "video": feature(np_dtype=np.dtype("uint8"), shape=(3, 4, 4, 3)),
    }
    if labels is not None:
      features["label"] = feature(num_classes=len(classes), names=classes) if classes else Text()
    for name in "ab":
      (tmp_path / name).write_bytes(b"".join(image.tobytes() for image in images) + repr(labels).encode())

    def as_data_source(split, decoders):
      if split not in PARTS:
        raise ValueError(f"Unknown split {split!r}.")
      _, skip, take = PARTS[split]
      rows = range(skip, skip + take if take >= 0 else COUNT)
      records = []
      for i in rows:
        file = io.BytesIO()
        Image.fromarray(images[i % len(images)].squeeze()).save(file, "PNG")
        records.append({"image": file.getvalue()} | ({} if labels is None else {"label": labels[i]}))
      return records

    info = SimpleNamespace(features=features, splits=Splits(Path(tmp_path)))
    builder = SimpleNamespace(info=info, data_dir=tmp_path, as_data_source=as_data_source)
    monkeypatch.setattr(tensorflow_datasets, "builder", lambda name, data_dir: builder)
    return SOURCES["tfds"](split=split, name="fake", cache_dir=str(tmp_path / "cache"), **options)

  return make


def everything(source):
  return source.read(np.arange(len(source)))


IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 5, 4, 3), np.uint8)
LABELS = np.arange(COUNT) % 3
memory = pytest.mark.parametrize("memory", [0, 2**20], ids=["lazy", "in memory"])


@memory
def test_sixteen_bits_are_scaled(build, memory):
  deep = (np.arange(COUNT * 20).reshape(COUNT, 5, 4, 1) * 327).astype(np.uint16)
  result = everything(build(deep, dtype="uint16", memory=memory))["image"]
  np.testing.assert_array_equal(result, np.round(deep / 257))


@memory
def test_a_fourth_channel_is_transparency(build, memory):
  images = np.concatenate([IMAGES, np.full((COUNT, 5, 4, 1), 51, np.uint8)], axis=3)
  source = build(images, background=100, memory=memory)
  assert source.fields["image"].shape == (5, 4, 3)
  np.testing.assert_allclose(everything(source)["image"], 0.2 * IMAGES + 0.8 * 100, atol=1.01)


@memory
def test_names_of_classes_are_kept_and_labels_without_a_class_are_refused(build, memory):
  source = build(IMAGES, LABELS, memory=memory)
  assert source.fields["label"].names == ("ant", "bee", "cow")
  np.testing.assert_array_equal(everything(source)["label"], LABELS)
  unknown = np.where(np.arange(COUNT) == 7, -1, LABELS)
  with pytest.raises(ConfigError, match="label is a feature of 'fake' that is -1 in its split 'train'"):
    everything(build(IMAGES, unknown, memory=memory))
  assert everything(build(IMAGES, unknown, memory=memory, label="")).keys() == {"image"}


def test_labels_that_are_no_classes_are_left_out_and_said(build, capsys):
  assert build(IMAGES, ["a text"] * COUNT, classes=()).fields.keys() == {"image"}
  assert (
    "the feature 'label' of 'fake' is a Text, which has no classes: it is left out" in capsys.readouterr().err
  )


@pytest.mark.parametrize(
  "message, options",
  [
    ("image is 'image', which in 'fake' is a .* of float32 ", {"dtype": "float32"}),
    ("image is 'image', which in 'fake' is a .* of int64 ", {"dtype": "int64"}),
    (r"image is 'image', which in 'fake' has the shape \[5, 4, 2\]", {"shape": (5, 4, 2)}),
    ("image is 'video', which in 'fake' is a SimpleNamespace of uint8", {"image": "video"}),
    ("image is 'picture', which is no feature of 'fake'; it has image, video", {"image": "picture"}),
    ("size is unset, but the images of 'fake' differ in shape", {"shape": (None, None, 3)}),
    (
      r"size is unset, but an image of 'fake' is \[5, 4, 3\], and its feature says \[6, 4, 3\]",
      {"shape": (6, 4, 3)},
    ),
    ("train_split is 'nope', which TFDS refuses .* 'fake' has train, test. A part", {"train_split": "nope"}),
    (
      "test_split is 'train.80%:.', of which 2 examples are in train_split = 'train' too",
      {"split": "test", "test_split": "train[80%:]"},
    ),
    (
      "test_split is 'train.50%:.', of which 3 examples are in",
      {"split": "test", "train_split": "train[:80%]", "test_split": "train[50%:]"},
    ),
  ],
)
def test_what_cannot_be_read_is_refused_by_the_option_s_name(build, message, options):
  with pytest.raises(ConfigError, match=message):
    build(IMAGES, **options)


def test_parts_of_a_split_are_held_out(build, capsys):
  splits = {"train_split": "train[:80%]", "test_split": "train[80%:]"}
  parts = [everything(build(IMAGES, LABELS, split, **splits))["image"] for split in ("train", "test")]
  np.testing.assert_array_equal(np.concatenate(parts), IMAGES)
  assert not [line for line in capsys.readouterr().err.splitlines() if "held-out" in line]
  build(IMAGES, LABELS, "test", test_split="train")
  assert "held-out numbers are of the training examples themselves" in capsys.readouterr().err


def test_a_set_prepared_anew_is_another(build):
  first = build(IMAGES, LABELS)
  again = build(255 - IMAGES, LABELS)
  np.testing.assert_array_equal(everything(again)["image"], 255 - IMAGES)
  assert first.fingerprint != again.fingerprint
