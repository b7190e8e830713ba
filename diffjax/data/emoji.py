"""Emoji by two artists with their names and keywords: one npz, made from public packages, which is not downloaded here.

Of an emoji without skin tones and flags an example is a picture with one of its captions. Held-out emoji, told by
their name alone, are of concepts that training does not see. In training half of the examples of a picture are told by
its name and half by its short names and first keywords, in turn.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np

from diffjax.data import cache, npz
from diffjax.data.source import ArraySource, fingerprint
from diffjax.data.text import Tokenizer
from diffjax.ranges import FREE, LOCAL, Count, Whole
from diffjax.types import ConfigError

NAMES = ("caption", "captions", "keywords", "category", "skin", "held_out")


def emoji(
  split: str,
  tokenizer: Callable[..., Tokenizer],
  path: Annotated[str, LOCAL, FREE] = "",
  size: int = 32,
  keywords: Whole = 6,
  captions: Count = 8,
  variants: bool = False,
) -> ArraySource:
  """The emoji.

  Args:
    split: "train" or "test".
    tokenizer: maker of the tokenizer, called with all training captions.
    path: of the npz, with image_32 and image_64 [N, S, S, 3], caption, captions and keywords (several with | between
      them), category, skin and held_out [N]; by default emoji.npz in the cache.
    size: of the pictures, 32 or 64 pixels.
    keywords: of an emoji, by which it is called in training.
    captions: of a picture in training, each an example; 1, its name, is enough where none is read.
    variants: whether skin tones and flags are kept.

  Raises:
    ConfigError: no such file, another one, or another size.
  """
  if size not in (32, 64):
    raise ConfigError(f"size is {size}; emoji are of 32 or 64 pixels.")
  place = Path(path).expanduser() if path else cache.folder() / "emoji.npz"
  members = (f"image_{size}", *NAMES)
  there, _ = npz.read(
    place, members, f"path is {path!r}, but the npz of emoji (see diffjax/data/emoji.py), {place},"
  )
  missing = [name for name in members if name not in there or len(there[name]) != len(there[members[0]])]
  if missing or there[members[0]].dtype != np.uint8 or there[members[0]].shape[1:] != (size, size, 3):
    raise ConfigError(
      f"path is {path!r}, but {place} is not the npz of emoji (no {missing[0] if missing else 'such pictures'}), which "
      "diffjax/data/emoji.py describes."
    )
  images, *about = (there[name] for name in members)
  name, short, words, category, skin, held_out = about
  mask = np.ones(len(name), bool) if variants else (skin == 0) & (category != "Flags")
  captions_of = {
    i: _captions(str(name[i]), str(short[i]), str(words[i]), keywords, captions)
    for i in np.flatnonzero(mask & ~held_out)
  }
  read = tokenizer(sorted({caption for several in captions_of.values() for caption in several}))
  if split == "train":
    rows = np.repeat(list(captions_of), captions)
    texts = [caption for several in captions_of.values() for caption in several]
  else:
    rows = np.flatnonzero(mask & held_out)
    texts = [str(name[i]) for i in rows]
  arrays = {"image": images[rows], "text": read(texts)}
  key = fingerprint("emoji", split, *arrays.values(), read.fingerprint)
  return ArraySource(arrays, key, tokenizers={"text": read})


def _captions(name: str, short: str, words: str, keywords: int, count: int) -> list[str]:
  """Captions of a picture: its name half of the times, and what else it is called in turn."""
  others = [other for other in short.split("|") if other and other != name]
  others += [word for word in words.split("|")[:keywords] if word and word != name]
  half = count // 2
  turns = [others[k % len(others)] for k in range(half)] if others else [name] * half
  return [name] * (count - half) + turns
