"""TensorFlow Datasets by name, read by random access and without TensorFlow.

Only TFDS's own download-and-prepare step needs TensorFlow; prepared array_record files do not.
"""

import dataclasses
import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from diffjax.data import cache, decoding
from diffjax.data.images import WHITE, Background, Picture, opened, pixels_of, rule, square
from diffjax.data.source import ArraySource, Field, Source, fingerprint
from diffjax.machine.byproducts import to_stderr
from diffjax.ranges import FREE, LOCAL, at_least
from diffjax.types import ConfigError, words

MEMORY = 2 << 30  # bytes of decoded images up to which a set is kept in memory
CHANNELS = {1: 1, 3: 3, 4: 3, None: 3}  # of an image by those of its feature; a fourth is its transparency


@dataclasses.dataclass(frozen=True)
class TfdsSource:
  """A set read from disk image by image; see tfds for the fields.

  Attributes:
    records: of TFDS by number, the images in them still as they are stored.
    read_by: by field, a record -> its value.
    fields, fingerprint: see Source.
  """

  records: Sequence[Mapping[str, Any]]
  read_by: Mapping[str, Callable[[Mapping[str, Any]], Any]]
  fields: Mapping[str, Field]
  fingerprint: str

  def __len__(self) -> int:
    """Number of images."""
    return len(self.records)

  def read(self, indices: np.ndarray, names: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Reads the records of these indices, and decodes their images where they are asked for."""
    names = names or tuple(self.fields)

    def example(i):
      record = self.records[int(i)]
      return {name: self.read_by[name](record) for name in names}

    rows = list(decoding.each(example, indices))
    return {name: np.asarray([row[name] for row in rows], self.fields[name].dtype) for name in names}


def tfds(
  split: str,
  name: str = "cifar10",
  data_dir: Annotated[str | None, FREE] = None,
  image: str = "image",
  label: str = "label",
  size: Annotated[int | None, at_least(1)] = None,
  background: Background = WHITE,
  train_split: str = "train",
  test_split: str = "test",
  cache_dir: Annotated[str | None, LOCAL, FREE] = None,
  memory: Annotated[int, at_least(0), FREE] = MEMORY,
) -> Source:
  """A TFDS set.

  Args:
    split: "train" or "test".
    name: the set's name, with config and version if wanted ("cifar10", "imagenet_resized/32x32").
    data_dir: where prepared sets lie; default $TFDS_DATA_DIR or ~/tensorflow_datasets.
    image: the set's feature that is the image; how one of any kind is read is said in images.py.
    label: the set's feature that is the class; "" to leave it out.
    size: crop to the central square and resize to this; needed where images differ in shape.
    background: the grey value on which transparent pictures lie.
    train_split: the set's split that is trained on, such as "train[:90%]".
    test_split: the set's held-out split, such as "train[90%:]".
    cache_dir: see cache.folder.
    memory: sets of at most this many decoded bytes are decoded once and kept in memory.

  Raises:
    ConfigError: unknown set or split, files that are not there, splits that overlap, features that are no image of 8 or
      16 bits or no class, images of many shapes and no size, or a label that is none.
  """
  split_names = {"train": train_split, "test": test_split}
  builder, records = _opened(name, data_dir, image, f"{split}_split", split_names[split])
  if split == "test":
    _apart(builder, train_split, test_split)
  shape = _shape(name, builder.info.features, image, size)
  fields, read_by = {"image": Field(shape, "uint8")}, {}

  def picture(record) -> Picture:
    return opened(io.BytesIO(record[image]), shape[2], background, f"an image of the TFDS set {name!r}")

  def pixels(frame: Picture) -> np.ndarray:
    if size:
      return square(frame.image, size)
    if (array := pixels_of(frame.image)).shape != shape:
      raise ConfigError(
        f"size is unset, but an image of {name!r} is {list(array.shape)}, and its feature says {list(shape)}; set it."
      )
    return array

  read_by["image"] = lambda record: pixels(picture(record))
  if classes := _classes(name, builder.info.features, label, split):
    fields["label"] = Field((), "int32", len(classes), classes)
    read_by["label"] = lambda record: _label(record[label], len(classes), name, split_names[split])
  files = [Path(path) for path in builder.info.splits[split_names[split]].filepaths]
  parts = [(one.skip, one.take) for one in builder.info.splits[split_names[split]].file_instructions]
  contents = cache.contents(f"{name} {split_names[split]}", files, cache_dir)
  key = fingerprint("tfds", split_names[split], image, label, size, background, parts, classes, contents)
  if len(records) * int(np.prod(shape)) > memory:
    return TfdsSource(records, read_by, fields, key)

  def decode(i):
    record, frame = records[i], picture(records[i])
    example = {"image": pixels(frame)}
    return example | ({"label": read_by["label"](record)} if classes else {}), frame.notes

  of = (name, str(builder.data_dir), split_names[split], image, label, size, background)
  entry = cache.place("decoded", of, (key, rule()), cache_dir)
  arrays = cache.decoded(f"{name} {split_names[split]}", entry, len(records), fields, decode)
  return ArraySource(arrays, key, {"label": len(classes)}, names={"label": classes})


def _opened(name: str, data_dir: str | None, image: str, option: str, split: str):
  """The set's builder, and the records of a split."""
  import tensorflow_datasets

  data_dir = data_dir or os.environ.get("TFDS_DATA_DIR")
  data_dir = data_dir and os.path.expanduser(data_dir)
  try:
    builder = tensorflow_datasets.builder(name, data_dir=data_dir)
  except tensorflow_datasets.core.DatasetNotFoundError:
    raise ConfigError(f"name is {name!r}, which TFDS does not know.") from None
  except (ValueError, KeyError) as error:
    raise ConfigError(f"name is {name!r}, which TFDS refuses: {words(error)}.") from None
  features = builder.info.features
  if features is not None and image not in features:
    raise ConfigError(f"image is {image!r}, which is no feature of {name!r}; it has {', '.join(features)}.")
  try:
    decoders = {image: tensorflow_datasets.decode.SkipDecoding()}
    return builder, builder.as_data_source(split=split, decoders=decoders)
  except (ValueError, KeyError) as error:
    there = ", ".join(builder.info.splits) or "none"
    raise ConfigError(
      f"{option} is {split!r}, which TFDS refuses ({words(error)}); {name!r} has "
      f"{there}. A part can be held out, as train_split = 'train[:90%]' and test_split = 'train[90%:]'."
    ) from None
  except (AssertionError, FileNotFoundError, NotImplementedError, ImportError):
    where = data_dir or "~/tensorflow_datasets"
    raise ConfigError(
      f"name is {name!r}, which is not prepared as array_record under {where}. Put the prepared files there (or "
      "name their folder by data_dir or TFDS_DATA_DIR), or prepare it with TensorFlow installed: pip install "
      f"tensorflow && tfds build {name} --file_format=array_record"
    ) from None


def _apart(builder, train_split: str, test_split: str) -> None:
  """Raises ConfigError where some of the held-out examples are trained on; all of them may be, which a line says."""

  def examples(split):
    files = {}
    for part in builder.info.splits[split].file_instructions:
      take = part.take if part.take >= 0 else part.examples_in_shard - part.skip
      files.setdefault(part.filename, set()).update(range(part.skip, part.skip + take))
    return files

  train, test = examples(train_split), examples(test_split)
  shared = sum(len(rows & train.get(file, set())) for file, rows in test.items())
  if train_split == test_split:
    to_stderr(
      f"test_split is {test_split!r}, as train_split is: held-out numbers are of the training examples themselves."
    )
  elif shared:
    raise ConfigError(
      f"test_split is {test_split!r}, of which {shared} examples are in train_split = {train_split!r} too; set that to "
      "the others, such as 'train[:90%]' beside 'train[90%:]'."
    )


def _shape(name: str, features: Mapping[str, Any], image: str, size: int | None) -> tuple[int, int, int]:
  """Of an image."""
  feature = features[image]
  dtype, shape = np.dtype(feature.np_dtype), tuple(feature.shape)
  if not hasattr(feature, "encoding_format") or dtype not in (np.uint8, np.uint16):
    raise ConfigError(
      f"image is {image!r}, which in {name!r} is a {type(feature).__name__} of {dtype.name} {list(shape)}; it must be "
      "an Image of uint8 or uint16, so that white is known."
    )
  if len(shape) != 3 or shape[2] not in CHANNELS:
    raise ConfigError(
      f"image is {image!r}, which in {name!r} has the shape {list(shape)}; it must be [H, W, C] with 1, 3 "
      "or 4 channels."
    )
  height, width = (size, size) if size else shape[:2]
  if None in (height, width):
    raise ConfigError(f"size is unset, but the images of {name!r} differ in shape; set it.")
  return height, width, CHANNELS[shape[2]]


def _classes(name: str, features: Mapping[str, Any], label: str, split: str) -> tuple[str, ...]:
  """The names of the classes; () where there are none."""
  if label not in features:
    return ()
  feature = features[label]
  if not hasattr(feature, "num_classes"):
    if split == "train":
      to_stderr(
        f"tfds: the feature {label!r} of {name!r} is a {type(feature).__name__}, which has no classes: it is left out."
      )
    return ()
  return tuple(map(str, feature.names or range(feature.num_classes)))


def _label(value: Any, classes: int, name: str, split: str) -> int:
  if not 0 <= int(value) < classes:
    raise ConfigError(
      f"label is a feature of {name!r} that is {int(value)} in its split {split!r}, where nobody knows the class "
      f"of 0 to {classes - 1}; choose a labelled split, or set it to '' and do without."
    )
  return int(value)
