"""Images that stand as an array in an npz file: what a program of one's own wrote, or brought along."""

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np

from diffjax.data.source import ArraySource, fingerprint
from diffjax.data.text import Tokenizer
from diffjax.ranges import FREE, inside
from diffjax.types import ConfigError

FIELDS = "config.data.arrays"


def arrays(
  split: str,
  path: Annotated[str, FREE] = "",
  test_path: Annotated[str, FREE] = "",
  image: str = "images",
  label: str = "labels",
  embedding: str = "embeddings",
  caption: str = "captions",
  tokenizer: Callable[..., Tokenizer] | None = None,
  test_fraction: Annotated[float, inside(0, 1)] = 0.05,
) -> ArraySource:
  """The images of an npz file, and their labels, embeddings and captions where it has any.

  Its arrays are the images, uint8 [N, H, W, 1 or 3] or [N, H, W], field "image"; whole numbers [N], field "label",
  whose classes are 0 to the largest label of the file at `path`; float32 [N, D], field "embedding"; and strings [N],
  whose tokens are the field "text".

  Args:
    split: "train" or "test".
    path: the npz.
    test_path: another that holds the test split; without one, test_fraction of the images are held out.
    image: name of the images' array.
    label: name of the labels' array.
    embedding: name of the embeddings' array.
    caption: name of the captions' array.
    tokenizer: maker of the tokenizer, called with all training captions; without one captions are not read.
    test_fraction: share of the images that are held out, chosen by a hash of their pixels.

  Raises:
    ConfigError: no such file or array, an array of another type or shape, or an empty split.
  """
  if not path:
    raise ConfigError(f"{FIELDS}.path is '', which is no file; name an npz of images.")
  names = {"image": image, "label": label, "embedding": embedding} | ({"text": caption} if tokenizer else {})
  train = found = _read(path, f"{FIELDS}.path", names)
  classes = {"label": int(found["label"].max()) + 1} if "label" in found else {}
  if test_path and split == "test":
    found = _read(test_path, f"{FIELDS}.test_path", names)
    _fit(train, found)
  elif not test_path:
    held = _held_out(found["image"], test_fraction)
    train = {field: array[~held] for field, array in found.items()}
    found = {field: array[held] for field, array in found.items()} if split == "test" else train
  if not len(found["image"]):
    raise ConfigError(
      f"{FIELDS}.path is {path!r}, whose {split} split is empty with {FIELDS}.test_fraction = {test_fraction}; choose "
      f"another fraction, or name a file by {FIELDS}.test_path."
    )
  tokenizers = {}
  if "text" in found:
    tokenizers["text"] = read = tokenizer([str(text) for text in train["text"]])
    found["text"] = read([str(text) for text in found["text"]])
  parts = (part for field, array in found.items() for part in (field, array.shape, array))
  kinds = [read.fingerprint for read in tokenizers.values()]
  return ArraySource(
    found, fingerprint("arrays", split, classes, *parts, *kinds), classes, tokenizers=tokenizers
  )


def _held_out(images: np.ndarray, fraction: float) -> np.ndarray:
  """Whether an image belongs to the test split [N]: equal images fall on the same side."""
  numbers = (int.from_bytes(hashlib.sha256(one.tobytes()).digest()[:8], "big") for one in images)
  return np.fromiter((number < fraction * 2**64 for number in numbers), bool, len(images))


def _fit(train: dict[str, np.ndarray], test: dict[str, np.ndarray]) -> None:
  """Raises ConfigError unless the two files hold the same kind of examples."""
  kinds = [{field: list(array.shape[1:]) for field, array in found.items()} for found in (train, test)]
  if kinds[0] != kinds[1]:
    said = [", ".join(f"{field} {shape}" for field, shape in kind.items()) for kind in kinds]
    raise ConfigError(f"{FIELDS}.test_path holds examples of {said[1]}, and {FIELDS}.path of {said[0]}.")
  if "label" in train and test["label"].max() > (last := train["label"].max()):
    raise ConfigError(
      f"{FIELDS}.test_path has the label {test['label'].max()}, but the classes of {FIELDS}.path are 0 to {last}."
    )


def _read(path: str, option: str, names: dict[str, str]) -> dict[str, np.ndarray]:
  """The arrays of a file by field, each checked."""
  file, said = Path(path).expanduser(), f"{option} is {path!r}, "
  try:
    with np.load(file, allow_pickle=False) as archive:
      there = archive.files
      found = {field: archive[name] for field, name in names.items() if name in there}
  except FileNotFoundError:
    raise ConfigError(f"{said}which is not there; name an npz of images.") from None
  except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
    raise ConfigError(f"{said}which is not an npz file of plain arrays: {error}.") from None
  if "image" not in found:
    raise ConfigError(
      f"{said}which has no array {names['image']!r} but {', '.join(there) or 'none'}; name the images' by "
      f"{FIELDS}.image."
    )
  seen = {field: f"{said}whose {names[field]} are {a.dtype} {list(a.shape)}; " for field, a in found.items()}
  images = found["image"]
  if images.ndim == 3:
    images = images[..., None]
  if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
    raise ConfigError(
      f"{seen['image']}images are uint8 [N, H, W, 3], or [N, H, W, 1] or [N, H, W] if they are grey."
    )
  return {"image": images} | {
    field: CHECKS[field](found[field], len(images), seen[field]) for field in found if field != "image"
  }


def _labels(labels: np.ndarray, count: int, seen: str) -> np.ndarray:
  if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
    raise ConfigError(f"{seen}labels are whole numbers from 0 on, one for each of the {count} images.")
  if labels.max() >= np.iinfo(np.int32).max:
    raise ConfigError(f"{seen}one of them is {labels.max()}, which is no class.")
  return labels.astype(np.int32)


def _embeddings(embeddings: np.ndarray, count: int, seen: str) -> np.ndarray:
  shaped = embeddings.ndim == 2 and len(embeddings) == count and embeddings.shape[1]
  if embeddings.dtype != np.float32 or not shaped or not np.isfinite(embeddings).all():
    raise ConfigError(f"{seen}embeddings are finite and float32 [N, D], one for each of the {count} images.")
  return embeddings


def _captions(captions: np.ndarray, count: int, seen: str) -> np.ndarray:
  if (
    captions.shape != (count,)
    or captions.dtype.kind != "U"
    or not all(str(text).strip() for text in captions)
  ):
    raise ConfigError(f"{seen}captions are strings that say something, one for each of the {count} images.")
  return captions


CHECKS = {"label": _labels, "embedding": _embeddings, "text": _captions}
