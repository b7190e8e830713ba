"""Images that stand as an array in an npz file: what a program of one's own wrote, or brought along."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np

from diffjax.data import npz
from diffjax.data import split as splits
from diffjax.data.source import ArraySource, fingerprint
from diffjax.data.text import Tokenizer
from diffjax.ranges import FREE, LOCAL, half_open
from diffjax.types import ConfigError


def arrays(
  split: str,
  path: Annotated[str, LOCAL, FREE] = "",
  test_path: Annotated[str, LOCAL, FREE] = "",
  image: str = "images",
  label: str = "labels",
  embedding: str = "embeddings",
  caption: str = "captions",
  tokenizer: Callable[..., Tokenizer] | None = None,
  test_fraction: Annotated[float, half_open(0, 1)] = 0.05,
) -> ArraySource:
  """The images of an npz file, and their labels, embeddings and captions where it has any.

  Its arrays are the images, uint8 [N, H, W, 1 or 3] or [N, H, W], field "image"; whole numbers [N], field "label",
  whose classes are 0 to the largest label of the file at `path`; float32 [N, D], field "embedding"; and strings [N],
  whose tokens are the field "text".

  Args:
    split: "train" or "test".
    path: the npz.
    test_path: another, or the same, that holds the test split; without one, test_fraction of the images are held out.
    image: name of the images' array; {split} in a name becomes "train" or "test".
    label: name of the labels' array.
    embedding: name of the embeddings' array.
    caption: name of the captions' array.
    tokenizer: maker of the tokenizer, called with all training captions; without one captions are not read.
    test_fraction: share of the images that are held out, chosen by a hash of their pixels; 0, or where none is held
      out: the training images are.

  Raises:
    ConfigError: no such file or array, an array of another type or shape, or none to train on.
  """
  if not path:
    raise ConfigError("path is '', which is no file; name an npz of images.")
  names = {"image": image, "label": label, "embedding": embedding} | ({"text": caption} if tokenizer else {})
  names_of = lambda split: {field: name.replace("{split}", split) for field, name in names.items()}
  train = data = _read(path, "path", names_of("train"))
  classes = {"label": int(data["label"].max()) + 1} if "label" in data else {}
  if test_path and split == "test":
    data = _read(test_path, "test_path", names_of("test"))
    _fit(train, data)
  elif not test_path:
    pixels = [one.tobytes() for one in train["image"]]
    train, data = (
      {field: array[splits.rows(side, pixels, test_fraction)] for field, array in train.items()}
      for side in ("train", split)
    )
  tokenizers = {}
  if "text" in data:
    tokenizers["text"] = read = tokenizer([str(text) for text in train["text"]])
    data["text"] = read([str(text) for text in data["text"]])
  parts = (part for field, array in data.items() for part in (field, array.shape, array))
  kinds = [read.fingerprint for read in tokenizers.values()]
  key = fingerprint("arrays", split, classes, *parts, *kinds)
  return ArraySource(data, key, classes, tokenizers=tokenizers)


def _fit(train: dict[str, np.ndarray], test: dict[str, np.ndarray]) -> None:
  """Raises ConfigError unless the two files hold the same kind of examples."""
  kinds = [{field: list(array.shape[1:]) for field, array in data.items()} for data in (train, test)]
  if kinds[0] != kinds[1]:
    descriptions = [", ".join(f"{field} {shape}" for field, shape in kind.items()) for kind in kinds]
    raise ConfigError(f"test_path holds examples of {descriptions[1]}, and path of {descriptions[0]}.")
  if "label" in train and test["label"].max() > (last := train["label"].max()):
    raise ConfigError(
      f"test_path has the label {test['label'].max()}, but the classes of path are 0 to {last}."
    )


def _read(path: str, option: str, names: dict[str, str]) -> dict[str, np.ndarray]:
  """The arrays of a file by field, each checked."""
  prefix = f"{option} is {path!r}, "
  arrays, there = npz.read(Path(path).expanduser(), tuple(names.values()), f"{prefix}which")
  data = {field: arrays[name] for field, name in names.items() if name in arrays}
  if "image" not in data:
    raise ConfigError(
      f"{prefix}which has no array {names['image']!r} but {', '.join(there) or 'none'}; name the images' by image."
    )
  prefixes = {
    field: f"{prefix}whose {names[field]} are {a.dtype} {list(a.shape)}; " for field, a in data.items()
  }
  images = data["image"]
  if images.ndim == 3 and images.shape[2] not in (3, 4):  # which is one picture
    images = images[..., None]
  if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
    raise ConfigError(
      f"{prefixes['image']}images are uint8 [N, H, W, 3], or [N, H, W, 1] or [N, H, W] if they are grey."
    )
  return {"image": images} | {
    field: CHECKS[field](data[field], len(images), prefixes[field]) for field in data if field != "image"
  }


def _labels(labels: np.ndarray, count: int, prefix: str) -> np.ndarray:
  if labels.shape != (count,) or labels.dtype.kind not in "iu" or labels.min() < 0:
    raise ConfigError(f"{prefix}labels are whole numbers from 0 on, one for each of the {count} images.")
  if labels.max() >= np.iinfo(np.int32).max:
    raise ConfigError(f"{prefix}one of them is {labels.max()}, which is no class.")
  return labels.astype(np.int32)


def _embeddings(embeddings: np.ndarray, count: int, prefix: str) -> np.ndarray:
  shaped = embeddings.ndim == 2 and len(embeddings) == count and embeddings.shape[1]
  if embeddings.dtype != np.float32 or not shaped or not np.isfinite(embeddings).all():
    raise ConfigError(
      f"{prefix}embeddings are finite and float32 [N, D], one for each of the {count} images."
    )
  return embeddings


def _captions(captions: np.ndarray, count: int, prefix: str) -> np.ndarray:
  if (
    captions.shape != (count,)
    or captions.dtype.kind != "U"
    or not all(str(text).strip() for text in captions)
  ):
    raise ConfigError(f"{prefix}captions are strings that say something, one for each of the {count} images.")
  return captions


CHECKS = {"label": _labels, "embedding": _embeddings, "text": _captions}
