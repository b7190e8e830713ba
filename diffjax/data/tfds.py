"""TensorFlow Datasets by name, read by random access and without TensorFlow.

Only TFDS's own download-and-prepare step needs TensorFlow; prepared array_record files do not.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from PIL import Image

from diffjax.data import cache
from diffjax.data.crop import square
from diffjax.data.source import ArraySource, Field, Source, fingerprint
from diffjax.ranges import FREE, at_least
from diffjax.types import ConfigError

MEMORY = 2 << 30  # bytes of decoded images up to which a set is kept in memory


@dataclasses.dataclass(frozen=True)
class TfdsSource:
  """A set read from disk image by image; see tfds for the fields.

  Attributes:
    records: of TFDS by number, the images in them still as they are stored.
    image: a record -> its image uint8 [H, W, C].
    fields, fingerprint, in_memory: see Source.
  """

  records: Sequence[Mapping[str, Any]]
  image: Callable[[Mapping[str, Any]], np.ndarray]
  fields: Mapping[str, Field]
  fingerprint: str
  in_memory: bool = False

  def __len__(self) -> int:
    """Number of images."""
    return len(self.records)

  def read(self, indices: np.ndarray, names: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Reads the records of these indices, and decodes their images where they are asked for."""
    records = [self.records[int(i)] for i in indices]
    read = {
      "image": lambda: np.stack([self.image(record) for record in records]),
      "label": lambda: np.asarray([record["label"] for record in records], np.int32),
    }
    return {name: read[name]() for name in names or self.fields}


def tfds(
  split: str,
  name: str = "cifar10",
  data_dir: Annotated[str | None, FREE] = None,
  size: int | None = None,
  test_split: str = "test",
  cache_dir: Annotated[str | None, FREE] = None,
  memory: Annotated[int, at_least(0), FREE] = MEMORY,
) -> Source:
  """A TFDS set.

  Args:
    split: "train" or "test".
    name: the set's name, with config and version if wanted ("cifar10", "imagenet_resized/32x32").
    data_dir: where prepared sets lie; default $TFDS_DATA_DIR or ~/tensorflow_datasets.
    size: crop to the central square and resize to this; needed where images differ in shape.
    test_split: the set's name for its held-out split.
    cache_dir: see cache.folder.
    memory: sets of at most this many decoded bytes are decoded once and kept in memory.

  Raises:
    ConfigError: unknown set or split, files that are not there, or images of many shapes and no size.
  """
  import tensorflow_datasets

  data_dir = data_dir or os.environ.get("TFDS_DATA_DIR")
  wanted = test_split if split == "test" else split
  try:
    builder = tensorflow_datasets.builder(name, data_dir=data_dir)
    stored = {"image": tensorflow_datasets.decode.SkipDecoding()}
    records = builder.as_data_source(split=wanted, decoders=stored)
  except tensorflow_datasets.core.DatasetNotFoundError:
    raise ConfigError(f"config.data.tfds.name is {name!r}, which TFDS does not know.") from None
  except (ValueError, KeyError) as error:
    raise ConfigError(f"config.data.tfds: TFDS refuses split {wanted!r} of {name!r}: {error}") from None
  except (AssertionError, FileNotFoundError, NotImplementedError, ImportError):
    where = data_dir or "~/tensorflow_datasets"
    raise ConfigError(
      f"TFDS set {name!r} is not prepared as array_record under {where}. Put the prepared files there (or "
      "name their folder by config.data.tfds.data_dir or TFDS_DATA_DIR), or prepare it with TensorFlow "
      f"installed: pip install tensorflow && tfds build {name} --file_format=array_record"
    ) from None
  features = builder.info.features
  if "image" not in features:
    raise ConfigError(f"config.data.tfds.name is {name!r}, which has no feature 'image': {list(features)}.")
  shape = (size, size, features["image"].shape[-1] or 3) if size else features["image"].shape
  if None in shape:
    raise ConfigError(f"config.data.tfds.size is unset, but the images of {name!r} differ in shape; set it.")
  labelled = "label" in features
  classes = features["label"].num_classes if labelled else 0
  names = tuple(features["label"].names or ()) if labelled else ()

  def image(record):
    decoded = np.asarray(features["image"].decode_example_np(record["image"]), np.uint8)
    return square(Image.fromarray(decoded.squeeze()), size, shape[-1]) if size else decoded

  version = str(builder.version)
  key = fingerprint(name, version, wanted, size, len(records))
  if len(records) * int(np.prod(shape)) > memory:
    fields = {"image": Field(tuple(shape), "uint8")}
    return TfdsSource(
      records, image, fields | ({"label": Field((), "int32", classes, names)} if labelled else {}), key
    )

  def decode(i):
    record = records[i]
    return image(record), int(record["label"]) if labelled else 0

  safe = name.replace("/", "-")
  images, labels = cache.decoded(
    f"{safe}-{wanted}", fingerprint(key, data_dir), len(records), decode, cache_dir
  )
  arrays = {"image": images} | ({"label": labels} if labelled else {})
  return ArraySource(arrays, key, {"label": classes}, names={"label": names})
