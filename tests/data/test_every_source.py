"""What every data source keeps to: fields as declared, reading what is named, a fingerprint of the content."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffjax.data import SOURCES
from diffjax.data.images import opened
from diffjax.data.pictured import PicturedSource
from diffjax.data.text import TOKENIZERS
from diffjax.data.tfds import TfdsSource
from diffjax.types import ConfigError

COUNT, CLASSES, SHAPE = 12, 3, (6, 5, 3)


def images(level):
  """[COUNT, *SHAPE], other ones for every level."""
  return np.random.default_rng(level).integers(0, 256, (COUNT, *SHAPE), np.uint8)


def digits(root, level, labelled):
  return {}


def image_folder(root, level, labelled):
  for i, image in enumerate(images(level)):
    place = root / (f"class{i % CLASSES}" if labelled else "") / f"{i}.bmp"
    place.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(place)
  return {"path": str(root), "size": 4, "test_fraction": 0.3}


def arrays(root, level, labelled):
  root.mkdir(parents=True, exist_ok=True)
  embeddings = np.random.default_rng(level).standard_normal((COUNT, 4)).astype(np.float32)
  value = {"labels": np.arange(COUNT) % CLASSES, "embeddings": embeddings} if labelled else {}
  np.savez(root / "set.npz", images=images(level), captions=captions_of(level), **value)
  return {"path": str(root / "set.npz"), "test_fraction": 0.3, "tokenizer": TOKENIZERS["words"]}


def captions_of(level):
  return [f"picture {i} of level {level}" for i in range(COUNT)]


def scenes(root, level, labelled):
  return {"count": 20, "test_count": 10, "seed": level, "tokenizer": TOKENIZERS["words"]}


def moving_digits(root, level, labelled):
  return {"count": 20, "test_count": 10, "seed": level, "stills": 0.2} | {
    "captions": True,
    "tokenizer": TOKENIZERS["words"],
  }


def video_folder(root, level, labelled):
  for i, image in enumerate(images(level)):
    place = root / f"{i}"
    place.mkdir(parents=True)
    for t in range(4):
      Image.fromarray(np.roll(image, t, axis=1)).save(place / f"{t}.bmp")
  return {"path": str(root), "size": 4, "frames": 2, "stride": 2, "test_fraction": 0.3}


def emoji(root, level, labelled):
  root.mkdir(parents=True, exist_ok=True)
  random = np.random.default_rng(level)
  pictures = {f"image_{s}": random.integers(0, 256, (COUNT, s, s, 3), np.uint8) for s in (32, 64)}
  strings = {name: np.array(captions_of(level)) for name in ("caption", "captions", "keywords", "category")}
  np.savez(
    root / "emoji.npz", skin=np.zeros(COUNT, np.uint8), held_out=np.arange(COUNT) > 7, **pictures, **strings
  )
  return {"path": str(root / "emoji.npz"), "tokenizer": TOKENIZERS["words"]}


def captions(root, level, labelled):
  root.mkdir(parents=True, exist_ok=True)
  for i, (image, caption) in enumerate(zip(images(level), captions_of(level), strict=True)):
    Image.fromarray(image).save(root / f"{i}.bmp")
    (root / f"{i}.txt").write_text(caption)
  return {"path": str(root), "size": 4, "test_fraction": 0.3, "tokenizer": TOKENIZERS["words"]}


def tfds(root, level, labelled):
  import tensorflow_datasets

  class Tiny(tensorflow_datasets.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tensorflow_datasets.core.Version("1.0.0")  # of every level: prepared anew

    def _info(self):
      kinds = tensorflow_datasets.features
      features = {"image": kinds.Image(shape=SHAPE)}
      features |= {"label": kinds.ClassLabel(num_classes=CLASSES)} if labelled else {}
      return tensorflow_datasets.core.DatasetInfo(builder=self, features=kinds.FeaturesDict(features))

    def _split_generators(self, _):
      return {"train": self._generate_examples(0, 8), "test": self._generate_examples(8, COUNT)}

    def _generate_examples(self, start, stop):
      for i in range(start, stop):
        label = {"label": i % CLASSES} if labelled else {}
        yield i, {"image": Image.fromarray(images(level)[i]), **label}

  Tiny(data_dir=str(root), file_format="array_record").download_and_prepare()
  return {"name": "tiny", "data_dir": str(root)}


WRITTEN = {
  "digits": digits,
  "tfds": tfds,
  "image_folder": image_folder,
  "arrays": arrays,
  "scenes": scenes,
  "moving_digits": moving_digits,
  "video_folder": video_folder,
  "emoji": emoji,
  "captions": captions,
}
LABELLED = {"digits", "moving_digits", "tfds", "image_folder", "arrays"}
MADE = {"digits", "moving_digits"}  # always with labels
CAPTIONED = {"moving_digits", "arrays", "scenes", "emoji", "captions"}
CACHED = ("tfds", "image_folder", "captions", "video_folder")
KINDS = [*SOURCES, *(f"{name}-lazy" for name in CACHED)]  # lazy: read image by image
picture_of = lambda source: "video" if "video" in source.fields else "image"
every_source = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def build(tmp_path):
  """(kind, ...) -> the source of a set that is written first, under a place of its own."""

  def make(kind, split="train", level=0, labelled=True, place="one"):
    name, *lazy = kind.split("-")
    root = tmp_path / place
    shutil.rmtree(root, ignore_errors=True)
    options = WRITTEN[name](root, level, labelled) | ({"memory": 0} if lazy else {})
    if name in CACHED:
      options["cache_dir"] = str(tmp_path / "cache")
    return SOURCES[name](split=split, **options)

  return make


def test_all_sources_are_here():
  assert WRITTEN.keys() == SOURCES.keys()


@every_source
def test_examples_are_as_their_fields_say(kind, build):
  for split in ("train", "test"):
    source = build(kind, split)
    read = source.read(np.arange(len(source)))
    name = kind.split("-")[0]
    own = (
      {picture_of(source)}
      | ({"label"} if name in LABELLED else set())
      | ({"text"} if name in CAPTIONED else set())
    )
    assert len(source) and read.keys() == source.fields.keys() >= own
    for name, field in source.fields.items():
      assert read[name].shape == (len(source), *field.shape) and read[name].dtype == field.dtype, name
      assert field.dtype in ("uint8", "int32", "float32") and (field.classes > 0) == (field.dtype == "int32")
    if "label" in own:
      label = source.fields["label"]
      assert {*np.unique(read["label"])} <= {*range(label.classes)}
      assert label.counts in ((), tuple(np.bincount(read["label"], minlength=label.classes)))
      assert len(label.names) in (0, label.classes)
    if "text" in own:
      tokenizer = source.fields["text"].tokenizer
      assert source.fields["text"].classes == tokenizer.vocabulary > read["text"].max() > 0
      assert tokenizer == build(kind, "test").fields["text"].tokenizer  # made of the training captions alone
      assert all(tokenizer.text(tokens) for tokens in read["text"])
    if kind.split("-")[0] != "video_folder":  # which is one kind of either
      assert isinstance(source, PicturedSource | TfdsSource) == ("lazy" in kind)


@every_source
def test_rows_are_read_by_number_in_the_order_asked_for(kind, build):
  source = build(kind)
  everything, rows = source.read(np.arange(len(source))), np.array([3, 0, 5, 3])
  several = 8 if kind == "emoji" else 1  # captions of a picture
  assert len(np.unique(everything[picture_of(source)], axis=0)) > len(source) / several / 2
  for name, value in source.read(rows).items():
    np.testing.assert_array_equal(value, everything[name][rows])


@every_source
def test_only_what_is_named_is_read(kind, build):
  source, rows = build(kind), np.array([2, 1])
  everything = source.read(rows)
  for name in source.fields:
    read = source.read(rows, (name,))
    assert read.keys() == {name}
    np.testing.assert_array_equal(read[name], everything[name])
  assert source.read(rows, tuple(source.fields)).keys() == everything.keys()
  if kind in ("image_folder-lazy", "captions-lazy"):
    source = dataclasses.replace(source, picture=lambda i: opened(Path("removed.png")))
    with pytest.raises(ConfigError, match="cannot be read as an image"):
      source.read(rows)
  if kind.startswith("video_folder"):
    cut = []
    dataclasses.replace(source, clips=lambda begins: cut.append(begins)).read(rows)
    np.testing.assert_array_equal(cut, [source.begins[rows]])
  if kind == "tfds-lazy":
    source = dataclasses.replace(source, read_by={**source.read_by, "image": lambda record: 1 / 0})
    with pytest.raises(ZeroDivisionError):
      source.read(rows)
  last = [*source.fields][-1]
  np.testing.assert_array_equal(source.read(rows, (last,))[last], everything[last])


@every_source
def test_a_fingerprint_is_of_the_content_alone(kind, build):
  first = build(kind)
  assert len(first.fingerprint) == 16 and int(first.fingerprint, 16) >= 0
  assert build(kind).fingerprint == build(kind, place="two").fingerprint == first.fingerprint
  assert build(kind, "test").fingerprint != first.fingerprint
  if kind != "digits":
    assert build(kind, level=1).fingerprint != first.fingerprint


@every_source
def test_a_set_without_labels_has_no_such_field(kind, build):
  if kind not in MADE:
    source = build(kind, labelled=False)
    text = {"text"} if kind.split("-")[0] in CAPTIONED else set()
    assert source.fields.keys() == source.read(np.arange(2)).keys() == {picture_of(source)} | text


@pytest.mark.parametrize("name", CACHED)
def test_what_is_read_image_by_image_is_what_is_kept_in_memory(name, build):
  kept = build(name)
  rows = np.arange(len(kept))
  lazy = build(f"{name}-lazy")
  kinds = lambda source: {name: (field[:3], field.names) for name, field in source.fields.items()}
  assert kinds(lazy) == kinds(kept) and len(lazy) == len(kept) and lazy.fingerprint == kept.fingerprint
  for field, value in lazy.read(rows).items():
    np.testing.assert_array_equal(value, kept.read(rows)[field])


def test_tfds_images_are_those_that_were_written(build):
  source = build("tfds-lazy", "test")
  read = source.read(np.arange(len(source)))
  want = {image.tobytes(): i % CLASSES for i, image in enumerate(images(0)[8:], start=8)}
  assert {image.tobytes(): label for image, label in zip(read["image"], read["label"], strict=True)} == want
