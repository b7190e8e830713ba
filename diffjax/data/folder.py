"""A folder of images, optionally with one sub-folder a class."""

from pathlib import Path
from typing import Annotated

import numpy as np

from diffjax.data import cache
from diffjax.data import split as splits
from diffjax.data.images import WHITE, Background, Channels, broken, opened, pixels_of
from diffjax.data.listing import listed, root_of
from diffjax.data.pictured import PicturedSource, pictured
from diffjax.data.source import Field, Source, class_field, fingerprint
from diffjax.machine.byproducts import to_stderr
from diffjax.ranges import FREE, LOCAL, Count, Whole, half_open
from diffjax.types import ConfigError

MEMORY = 2 << 30


def image_folder(
  split: str,
  path: Annotated[str, LOCAL, FREE] = "",
  size: Count = 32,
  channels: Channels = 3,
  background: Background = WHITE,
  test_fraction: Annotated[float, half_open(0, 1)] = 0.05,
  cache_dir: Annotated[str | None, LOCAL, FREE] = None,
  memory: Annotated[Whole, FREE] = MEMORY,
) -> Source:
  """The images of a folder, or of its sub-folders, which then are the classes in natural order.

  What begins with a dot is passed over. How a picture of any kind is read is said in images.py.

  Args:
    split: "train" or "test".
    path: the folder.
    size: images are cropped to the central square and resized to size x size.
    channels: 3 or 1.
    background: the grey value on which transparent pictures lie.
    test_fraction: share of the files that are held out; 0, or where none is held out: the training images are.
    cache_dir: see cache.folder.
    memory: sets of at most this many decoded bytes are decoded once and kept in memory.

  Raises:
    ConfigError: no such folder, no images, images beside class folders, a file that is no image, or none to train on.
  """
  root = root_of(path, "images")
  there = listed(root, f"path is {path!r}, which")
  rows = splits.rows(split, (name.encode() for name in there.names), test_fraction)
  if split == "train":
    there.say(path)
  files, labels = [there.files[i] for i in rows], there.labels[rows]
  contents = cache.contents(path, there.files, cache_dir)[rows]
  names = [there.names[i] for i in rows]
  key = fingerprint("image_folder", split, size, channels, background, there.classes, names, contents)
  fields = {"image": Field((size, size, channels), "uint8")}
  if there.classes:
    fields["label"] = class_field(labels, len(there.classes), there.classes)
  arrays = {"label": labels} if there.classes else {}
  source = PicturedSource(lambda i: opened(files[i], channels, background), arrays, fields, key, len(files))
  of = (str(root.resolve()), split, size, channels, background, test_fraction)
  about = (
    {"classes": {"label": len(there.classes)}, "names": {"label": there.classes}} if there.classes else {}
  )
  return pictured(path, source, of, cache_dir, memory, **about)


def images_of(
  path: Path, channels: int | None = None, wanted: str = "the data's size"
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
  """All images of a folder in their own size, whatever made them; transparent ones on white.

  Args:
    path: the folder.
    channels: 3 or 1; None: 1 if all are grey.
    wanted: the size that they should have, in words.

  Returns:
    Images uint8 [N, H, W, 1 or 3]; labels int32 [N]; and the names of the classes, ()
    where there are no sub-folders.

  Raises:
    ConfigError: no such folder, no images, a file that is no image, or images of several sizes.
  """
  if not path.is_dir():
    raise ConfigError(f"--images={path} is not a folder; name a folder of images.")
  there, pictures, errors = listed(path, f"--images={path}"), [], []
  there.say(f"--images={path}")
  for file in there.files:
    try:
      pictures.append(opened(file, channels))
    except ConfigError as error:
      errors.append(error)
  if errors:
    raise broken(errors)
  for note in sorted({note for picture in pictures for note in picture.notes}):
    count = sum(note in picture.notes for picture in pictures)
    to_stderr(f"--images={path}: {count} of {len(pictures)} {note}.")
  sizes = [picture.image.size for picture in pictures]
  other = next((i for i, size in enumerate(sizes) if size != sizes[0]), None)
  if other is not None:
    raise ConfigError(
      f"--images={path} mixes sizes: {there.names[0]} is {'{}x{}'.format(*sizes[0])} and {there.names[other]} "
      f"{'{}x{}'.format(*sizes[other])}; resize them all to {wanted}."
    )
  images = [pixels_of(picture.image) for picture in pictures]
  shape = (*images[0].shape[:2], max(image.shape[2] for image in images))
  return np.stack([np.broadcast_to(image, shape) for image in images]), there.labels, there.classes
