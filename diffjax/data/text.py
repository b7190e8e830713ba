"""Text as tokens: strings live between a source and its tokenizer, everywhere else text is int32 [L].

    words   a token for every word of the training captions
    bpe     byte pairs, joined as they occur in the training captions (Sennrich et al. 2016, on bytes)
    file    a file in the form of Hugging Face's tokenizer.json
    clip    CLIP's own (Radford et al. 2021, section 2.4), from the vocab.json and merges.txt beside its weights

A maker of TOKENIZERS is called with the training captions and returns a Tokenizer. What it knows is one JSON text, in
the form of tokenizer.json, so that a run can keep it as a file.
"""

import collections
import dataclasses
import functools
import hashlib
import json as plain
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from jaxtyping import Int32

from diffjax.machine.byproducts import to_stderr
from diffjax.ranges import FREE, Count, at_least, checked, closed
from diffjax.types import ConfigError

START, END, UNKNOWN = "<start>", "<end>", "<unknown>"
SHOWN = 5  # words in a message
LONGEST = 77  # tokens that a trained tokenizer keeps of a text at most, unless told otherwise; CLIP's
MOST = 65_536  # tokens that any may keep: every text is padded to its length
Length = Annotated[int, closed(1, MOST)]
LengthOrLongest = Annotated[int, closed(0, MOST)]
CLIP_START, CLIP_END = "<|startoftext|>", "<|endoftext|>"
CLIP_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@dataclasses.dataclass(frozen=True)
class Tokenizer:
  """Strings to tokens and back.

  Attributes:
    json: of tokenizer.json's form.
    length: tokens that are kept of a text, start and end among them.
    fill: what stands after a shorter text; negative: no token.
  """

  json: str = dataclasses.field(repr=False)
  length: int
  fill: int = -1

  @functools.cached_property
  def fingerprint(self) -> str:
    """A hash of all of it, 16 hexadecimal digits."""
    return hashlib.sha256(f"{self.json}|{self.length}|{self.fill}".encode()).hexdigest()[:16]

  @property
  def vocabulary(self) -> int:
    """Number of tokens."""
    return _backend(self.json).get_vocab_size()

  @functools.cached_property
  def end(self) -> int:
    """The token with which every text ends."""
    return int(_backend(self.json).encode("").ids[-1])

  def number(self, token: str) -> int:
    """Of a token of the vocabulary."""
    return int(_backend(self.json).token_to_id(token))

  def __call__(self, texts: Sequence[str], what: str = "captions") -> Int32[np.ndarray, "n l"]:
    """Tokens [n, length] of n texts; prints how many of these `what` were too long, and words that have no token."""
    tokens, count, unknown = np.full((len(texts), self.length), self.fill, np.int32), 0, {}
    for text, row, encoding in zip(texts, tokens, _backend(self.json).encode_batch(list(texts)), strict=True):
      ids = encoding.ids
      if len(ids) > self.length:
        ids, count = [*ids[: self.length - 1], ids[-1]], count + 1  # the end stays
      row[: len(ids)] = ids
      spans = (
        span for span, token in zip(encoding.offsets, encoding.tokens, strict=True) if token == UNKNOWN
      )
      unknown |= {text[slice(*span)]: None for span in spans}
    if count:
      _say(f"{what}: {count} of {len(texts)} longer than {self.length} tokens; their ends are left out")
    if unknown:
      more = f", and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
      _say(
        f"{what}: words that no training caption has mean nothing here: {', '.join([*unknown][:SHOWN])}{more}"
      )
    return tokens

  def text(self, tokens: Int32[np.ndarray, "l"]) -> str:
    """The text of tokens [L], without its start and end."""
    string = _backend(self.json).decode([int(token) for token in tokens if token >= 0])
    return string.replace("</w>", " ").strip()  # which CLIP's words end with


def _say(line: str) -> None:
  to_stderr(line)


@functools.lru_cache(maxsize=16)
def _backend(json: str):
  """The library's object."""
  from tokenizers import Tokenizer as Backend

  backend = Backend.from_str(json)
  backend.no_padding()
  backend.no_truncation()
  return backend


def _trained(backend, captions: Sequence[str], length: int) -> Tokenizer:
  """The tokenizer of a backend; a length of 0 is that of the longest caption."""
  json = backend.to_str()
  if not length:
    length = min(
      max((len(encoding.ids) for encoding in backend.encode_batch(list(captions))), default=2), LONGEST
    )
  return Tokenizer(json, length)


def _framed(backend) -> None:
  """Puts START before every text and END behind it."""
  from tokenizers import processors

  ends = [(token, backend.token_to_id(token)) for token in (START, END)]
  backend.post_processor = processors.TemplateProcessing(single=f"{START} $A {END}", special_tokens=ends)


def words(captions: Sequence[str], vocabulary: Count = 4096, length: LengthOrLongest = 0) -> Tokenizer:
  """A token for every word, in lower case, and for every run of other signs.

  Args:
    captions: of the training data.
    vocabulary: tokens at most; the most frequent words have one, and all others share one.
    length: tokens that are kept of a text; 0: of the longest caption, at most 77.
  """
  from tokenizers import Tokenizer as Backend
  from tokenizers import models, normalizers, pre_tokenizers

  normal, split = (
    normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()]),
    pre_tokenizers.Whitespace(),
  )
  counts = collections.Counter(
    word for caption in captions for word, _ in split.pre_tokenize_str(normal.normalize_str(caption))
  )
  frequent = sorted(counts, key=lambda word: (-counts[word], word))
  tokens = [UNKNOWN, START, END, *frequent][:vocabulary]
  backend = Backend(models.WordLevel({word: i for i, word in enumerate(tokens)}, UNKNOWN))
  backend.normalizer, backend.pre_tokenizer = normal, split
  backend.add_special_tokens([START, END])
  _framed(backend)
  return _trained(backend, captions, length)


def bpe(
  captions: Sequence[str], vocabulary: Annotated[int, at_least(300)] = 4096, length: LengthOrLongest = 0
) -> Tokenizer:
  """Bytes, joined where they stand together most often; no text is unknown.

  Args:
    captions: of the training data.
    vocabulary: tokens at most, 256 bytes among them.
    length: tokens that are kept of a text; 0: of the longest caption, at most 77.
  """
  from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
  from tokenizers import Tokenizer as Backend

  backend = Backend(models.BPE())
  backend.normalizer = normalizers.Sequence(
    [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
  )
  backend.pre_tokenizer, backend.decoder = (
    pre_tokenizers.ByteLevel(add_prefix_space=False),
    decoders.ByteLevel(),
  )
  trainer = trainers.BpeTrainer(
    vocab_size=vocabulary,
    special_tokens=[START, END],
    initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    show_progress=False,
  )
  backend.train_from_iterator(captions, trainer)
  _framed(backend)
  return _trained(backend, captions, length)


def file(captions: Sequence[str], path: Annotated[str, FREE] = "", length: Length = LONGEST) -> Tokenizer:
  """A tokenizer.json, a run's among them (WORKDIR/tokenizer_text.json).

  Args:
    captions: of the training data, which change nothing.
    path: the file.
    length: tokens that are kept of a text.

  Raises:
    ConfigError: there is no such file, or it is another.
  """
  from tokenizers import Tokenizer as Backend

  json = _read(path, "path", "a tokenizer.json")
  try:
    backend = Backend.from_str(json)
  except Exception as error:  # the library's own kind, without a name
    raise ConfigError(f"path is {path!r}, which is no tokenizer.json ({error}).") from None
  return Tokenizer(backend.to_str(), length)


def clip(
  captions: Sequence[str],
  path: Annotated[str, FREE] = "",
  length: Length = LONGEST,
  fill_with_end: bool = False,
) -> Tokenizer:
  """CLIP's tokenizer: lower case, byte pairs within words, 49,408 tokens.

  Args:
    captions: of the training data, which change nothing.
    path: a folder with its vocab.json and merges.txt.
    length: tokens that are kept of a text.
    fill_with_end: whether end tokens, which are attended to, fill a text up; Stable Diffusion 1 was trained so.

  Raises:
    ConfigError: the files are not there, or are others.
  """
  from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors
  from tokenizers import Tokenizer as Backend

  vocabulary, merges = (
    _read(str(Path(path) / name) if path else "", "path", f"a folder with {name}")
    for name in ("vocab.json", "merges.txt")
  )
  pairs = [tuple(line.split()) for line in merges.splitlines() if line and not line.startswith("#version")]
  try:
    table = plain.loads(vocabulary)
    start, end = table[CLIP_START], table[CLIP_END]
    model = models.BPE(
      table, pairs, unk_token=CLIP_END, end_of_word_suffix="</w>", continuing_subword_prefix=""
    )
  except Exception as error:  # JSON's, a missing token's, or the library's own kind
    raise ConfigError(f"path is {path!r}, whose files are not CLIP's ({error!r}).") from None
  backend = Backend(model)
  backend.normalizer = normalizers.Sequence(
    [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
  )
  backend.pre_tokenizer = pre_tokenizers.Sequence(
    [
      pre_tokenizers.Split(Regex(CLIP_WORDS), "removed", invert=True),
      pre_tokenizers.ByteLevel(add_prefix_space=False),
    ]
  )
  backend.decoder = decoders.ByteLevel()
  backend.add_special_tokens([CLIP_START, CLIP_END])
  backend.post_processor = processors.RobertaProcessing(
    (CLIP_END, end), (CLIP_START, start), trim_offsets=False, add_prefix_space=False
  )
  return Tokenizer(backend.to_str(), length, end if fill_with_end else -1)


def _read(path: str, option: str, what: str) -> str:
  if not path:
    raise ConfigError(f"{option} is empty; name {what}.")
  try:
    return Path(path).expanduser().read_text("utf-8")
  except (OSError, UnicodeDecodeError) as error:
    raise ConfigError(f"{option} is {path!r}, which cannot be read ({error}); name {what}.") from None


TOKENIZERS: dict[str, Callable[..., Tokenizer]] = checked(
  {"words": words, "bpe": bpe, "file": file, "clip": clip}
)
