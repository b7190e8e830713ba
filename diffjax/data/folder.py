"""A folder of images, optionally with one sub-folder a class."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image, UnidentifiedImageError

from diffjax.data import cache
from diffjax.data.crop import square, upright
from diffjax.data.source import ArraySource, Field, Source, fingerprint
from diffjax.ranges import FREE, Count, Whole, inside
from diffjax.types import ConfigError

ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
MEMORY = 2 << 30
FIELDS = "config.data.image_folder"


@dataclasses.dataclass(frozen=True)
class FolderSource:
  """A folder read image by image; see image_folder for the fields."""

  files: tuple[Path, ...]
  labels: np.ndarray
  fields: Mapping[str, Field]
  fingerprint: str
  in_memory: bool = False

  def __len__(self) -> int:
    """Number of images."""
    return len(self.files)

  def read(self, indices: np.ndarray, names: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Decodes the images of these indices; a file that cannot be read is named."""
    size, _, channels = self.fields["image"].shape
    read = {
      "image": lambda: np.stack([load(self.files[i], size, channels) for i in indices]),
      "label": lambda: self.labels[indices],
    }
    return {name: read[name]() for name in names or self.fields}


def load(path: Path, size: int, channels: int) -> np.ndarray:
  """One file as uint8 [size, size, channels].

  Raises:
    ConfigError: the file is not a whole image.
  """
  try:
    with Image.open(path) as image:
      return square(image, size, channels)
  except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
    raise ConfigError(f"{path} cannot be read as an image ({error}); mend or remove it.") from None


def held_out(name: str, fraction: float) -> bool:
  """Whether a file belongs to the test split: by a hash of its name, so that new files move no other."""
  number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
  return number < fraction * 2**64


def _listed(root: Path, what: str) -> tuple[list[Path], list[str]]:
  """The image files below a folder in sorted order, and the names of the classes, if any."""
  files = sorted(f for f in root.rglob("*") if f.suffix.lower() in ENDINGS and f.is_file())
  if not files:
    raise ConfigError(f"{what} holds no images ({', '.join(sorted(ENDINGS))}).")
  depths = {len(f.relative_to(root).parts) for f in files}
  if depths not in ({1}, {2}):
    raise ConfigError(
      f"{what} mixes images at different depths; put them all in it, or all in one sub-folder a class."
    )
  return files, sorted({f.parent.name for f in files}) if depths == {2} else []


def _labels(files: list[Path], names: list[str]) -> np.ndarray:
  return np.asarray([names.index(f.parent.name) if names else 0 for f in files], np.int32)


def image_folder(
  split: str,
  path: Annotated[str, FREE] = "",
  size: Count = 32,
  channels: int = 3,
  test_fraction: Annotated[float, inside(0, 1)] = 0.05,
  cache_dir: Annotated[str | None, FREE] = None,
  memory: Whole = MEMORY,
) -> Source:
  """The images of a folder, or of its sub-folders, which then are the classes in sorted order.

  Args:
    split: "train" or "test".
    path: the folder.
    size: images are cropped to the central square and resized to size x size.
    channels: 3 or 1.
    test_fraction: share of the files that are held out.
    cache_dir: see cache.folder.
    memory: sets of at most this many decoded bytes are decoded once and kept in memory.

  Raises:
    ConfigError: no such folder, no images, images beside class folders, or a file that is no image.
  """
  root = Path(path).expanduser()
  if not path or not root.is_dir():
    raise ConfigError(f"{FIELDS}.path is {path!r}, which is not a folder; name a folder of images.")
  if channels not in (1, 3):
    raise ConfigError(f"{FIELDS}.channels is {channels}; it must be 1 or 3.")
  files, names = _listed(root, f"{FIELDS}.path is {path!r}, which")
  files = [f for f in files if held_out(str(f.relative_to(root)), test_fraction) == (split == "test")]
  if not files:
    raise ConfigError(
      f"{FIELDS}.path is {path!r}, whose {split} split is empty with {FIELDS}.test_fraction = "
      f"{test_fraction}; choose another fraction or add images."
    )
  labels = _labels(files, names)
  sizes = [(str(f.relative_to(root)), f.stat().st_size) for f in files]
  key = fingerprint("image_folder", split, size, channels, sizes)
  fields = {"image": Field((size, size, channels), "uint8")}
  fields |= {"label": Field((), "int32", len(names), tuple(names))} if names else {}
  source = FolderSource(tuple(files), labels, fields, key)
  if len(files) * size * size * channels > memory:
    return source
  stamp = fingerprint(key, str(root.resolve()), [f.stat().st_mtime_ns for f in files])

  def decode(i):
    return load(files[i], size, channels), labels[i]

  images, _ = cache.decoded(f"folder-{split}", stamp, len(files), decode, cache_dir)
  arrays = {"image": images} | ({"label": labels} if names else {})
  return ArraySource(
    arrays, fingerprint(key, images), {"label": len(names)}, names={"label": tuple(names)} if names else {}
  )


def images_of(path: Path) -> tuple[np.ndarray, np.ndarray, int]:
  """All images of a folder as they are, whatever made them.

  Returns:
    Images uint8 [N, H, W, 3], or [N, H, W, 1] if all are grey; labels int32 [N]; and the number of classes, 0
    where there are no sub-folders.

  Raises:
    ConfigError: no such folder, no images, a file that is no image, or images of several sizes.
  """
  if not path.is_dir():
    raise ConfigError(f"--images={path} is not a folder; name a folder of images.")
  files, names = _listed(path, f"--images={path}")
  found = []
  for file in files:
    try:
      with Image.open(file) as image:
        grey = image.mode in ("1", "L") or image.mode.startswith("I")
        found.append(np.asarray(upright(image, grey), np.uint8))
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
      raise ConfigError(f"{file} cannot be read as an image ({error}); mend or remove it.") from None
    if found[-1].shape[:2] != found[0].shape[:2]:
      raise ConfigError(
        f"--images={path} mixes sizes: {files[0].name} is {found[0].shape[1]}x{found[0].shape[0]} and "
        f"{file.name} {found[-1].shape[1]}x{found[-1].shape[0]}; resize them all to the data's size."
      )
  grey = all(image.ndim == 2 for image in found)
  as_rgb = lambda image: image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
  images = np.stack([image[..., None] if grey else as_rgb(image) for image in found])
  return images, _labels(files, names), len(names)
