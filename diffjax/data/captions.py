r"""Images of your own with captions, in the conventions of the field:

    a folder with metadata.jsonl   a line {"file_name": "a.jpg", "text": "a red heart"} an image
    a folder of images             beside each a text file of its name, a.jpg and a.txt
    a folder of tar files          members KEY.jpg and KEY.txt, or KEY.json with "caption" (webdataset)

Tar files are read member by member and never unpacked. The test split is chosen by a hash of the images' names.
"""

import io
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

from diffjax.data import cache
from diffjax.data import split as splits
from diffjax.data.folder import MEMORY
from diffjax.data.images import ENDINGS, WHITE, Background, Channels, Picture, opened
from diffjax.data.listing import root_of
from diffjax.data.pictured import PicturedSource, pictured
from diffjax.data.source import Field, Source, fingerprint
from diffjax.data.text import Tokenizer
from diffjax.ranges import FREE, LOCAL, Count, Whole, half_open
from diffjax.types import ConfigError

METADATA = "metadata.jsonl"
CAPTION_KEYS = ("text", "caption")


class Stored(NamedTuple):
  """Bytes in a file.

  Attributes:
    file: the file.
    start: where they begin.
    size: how many they are; 0 for the whole file.
  """

  file: Path
  start: int = 0
  size: int = 0

  def read(self) -> bytes:
    """The bytes."""
    with self.file.open("rb") as file:
      file.seek(self.start)
      return file.read(self.size or -1)


class Pair(NamedTuple):
  """An image and its caption.

  Attributes:
    name: of the image, within the folder.
    image: where it is stored.
    caption: its caption.
  """

  name: str
  image: Stored
  caption: str


def picture_of(pair: Pair, channels: int, background: int) -> Picture:
  """The picture; ConfigError where it is none."""
  return opened(io.BytesIO(pair.image.read()), channels, background, pair.name)


def pairs_of(root: Path) -> list[Pair]:
  """All pairs of a folder, sorted by name.

  Raises:
    ConfigError: none are there; an image without a caption, or a caption that is empty, or not UTF-8.
  """
  tars = sorted(root.glob("*.tar"))
  if (root / METADATA).is_file():
    pairs = _of_metadata(root)
  elif tars:
    pairs = (pair for tar in tars for pair in _of_tar(root, tar))
  else:
    pairs = _of_texts(root)
  pairs = sorted(pairs)
  for pair in pairs:
    if not pair.caption:
      raise ConfigError(f"{pair.name} has an empty caption; write one, or remove the image.")
  return pairs


def _text(data: bytes, place: str) -> str:
  try:
    return data.decode("utf-8-sig").strip()
  except UnicodeDecodeError as error:
    raise ConfigError(f"{place} is not UTF-8 ({error}); save it as UTF-8.") from None


def _of_json(data: bytes, place: str, keys: Sequence[str]) -> tuple[dict, str]:
  """A JSON object, and the caption in it."""
  try:
    record = json.loads(_text(data, place))
  except ValueError as error:
    raise ConfigError(f"{place} is not JSON ({error}); mend it.") from None
  caption = next((record[key] for key in keys if key in record), None) if isinstance(record, dict) else None
  if not isinstance(caption, str):
    raise ConfigError(f"{place} has no caption; it stands under {' or '.join(map(repr, keys))}.")
  return record, " ".join(caption.split())


def _of_metadata(root: Path) -> Iterator[Pair]:
  lines = (root / METADATA).read_bytes().splitlines()
  for number, line in enumerate(lines, 1):
    if not line.strip():
      continue
    place = f"{root / METADATA}:{number}"
    record, caption = _of_json(line, place, CAPTION_KEYS)
    name = record.get("file_name")
    file = root / str(name)
    if not isinstance(name, str) or not file.resolve().is_relative_to(root.resolve()) or not file.is_file():
      raise ConfigError(f"{place} names the image {name!r}, which is no file in {root}.")
    yield Pair(name, Stored(file), caption)


def _of_texts(root: Path) -> Iterator[Pair]:
  for file in root.rglob("*"):
    hidden = any(part.startswith(".") for part in file.relative_to(root).parts)
    if file.suffix.lower() in ENDINGS and file.is_file() and not hidden:
      beside = file.with_suffix(".txt")
      if not beside.is_file():
        raise ConfigError(
          f"{file} has no caption; write one into {beside.name} beside it, or remove the image."
        )
      yield Pair(
        str(file.relative_to(root)), Stored(file), " ".join(_text(beside.read_bytes(), str(beside)).split())
      )


def _of_tar(root: Path, path: Path) -> Iterator[Pair]:
  images, captions = {}, {}
  try:
    with tarfile.open(path, "r:") as tar:
      for member in tar:
        key, dot, ending = member.name.rpartition(".")
        if not member.isfile() or not dot:
          continue
        entry, place = Stored(path, member.offset_data, member.size), f"{path}:{member.name}"
        if f".{ending.lower()}" in ENDINGS:
          images[key] = Pair(f"{path.relative_to(root)}/{member.name}", entry, "")
        elif ending == "txt":
          captions[key] = " ".join(_text(entry.read(), place).split())
        elif ending == "json" and key not in captions:
          captions[key] = _of_json(entry.read(), place, CAPTION_KEYS[::-1])[1]
  except tarfile.TarError as error:
    raise ConfigError(f"{path} cannot be read as a tar file ({error}); mend or remove it.") from None
  for key, pair in images.items():
    if key not in captions:
      raise ConfigError(f"{pair.name} has no caption; add the member {key}.txt or {key}.json, or remove it.")
    yield pair._replace(caption=captions[key])


def captions(
  split: str,
  tokenizer: Callable[..., Tokenizer],
  path: Annotated[str, LOCAL, FREE] = "",
  size: Count = 64,
  channels: Channels = 3,
  background: Background = WHITE,
  test_fraction: Annotated[float, half_open(0, 1)] = 0.05,
  cache_dir: Annotated[str | None, LOCAL, FREE] = None,
  memory: Annotated[Whole, FREE] = MEMORY,
) -> Source:
  """Images with captions; see the module's docstring.

  Args:
    split: "train" or "test".
    tokenizer: maker of the tokenizer, called with all training captions.
    path: the folder.
    size: images are cropped to the central square and resized to size x size.
    channels: 3 or 1.
    background: the grey value on which transparent pictures lie.
    test_fraction: share of the images that are held out; 0, or where none is held out: the training images are.
    cache_dir: see cache.folder.
    memory: sets of at most this many decoded bytes are decoded once and kept in memory.

  Raises:
    ConfigError: no such folder, no images, or see pairs_of.
  """
  root = root_of(path, "images with captions")
  pairs = pairs_of(root)
  if not pairs:
    raise ConfigError(f"path is {path!r}, which holds no images with captions.")
  names = [pair.name.encode() for pair in pairs]
  train, examples = ([pairs[i] for i in splits.rows(side, names, test_fraction)] for side in ("train", split))
  read = tokenizer([pair.caption for pair in train])
  tokens = read([pair.caption for pair in examples])
  files = sorted({pair.image.file for pair in pairs})
  contents = dict(zip(files, cache.contents(path, files, cache_dir), strict=True))
  parts = [(pair.name, pair.image.start, contents[pair.image.file].tobytes()) for pair in examples]
  key = fingerprint("captions", split, size, channels, background, parts, tokens, read.fingerprint)
  text = Field(tokens.shape[1:], "int32", read.vocabulary, tokenizer=read)
  fields = {"image": Field((size, size, channels), "uint8"), "text": text}
  picture = lambda i: picture_of(examples[i], channels, background)
  source = PicturedSource(picture, {"text": tokens}, fields, key, len(examples))
  of = (str(root.resolve()), split, size, channels, background, test_fraction, "captions")
  return pictured(path, source, of, cache_dir, memory, tokenizers={"text": read})
