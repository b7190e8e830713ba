"""Captions of classes, for data that have labels alone: "a {}" and the class's name (Radford et al. 2021, 3.1.4)."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from diffjax.data.source import Field, Source, fingerprint
from diffjax.data.text import Tokenizer
from diffjax.types import ConfigError


def wordings(names: Sequence[str], templates: Sequence[str]) -> list[str]:
  """Every template with every name in the place of its {}, template by template.

  Raises:
    ConfigError: a template has no {}.
  """
  for template in templates:
    if template.count("{}") != 1:
      raise ConfigError(f"templates holds {template!r}; every one must have one {{}}, where the name stands.")
  return [template.replace("{}", name) for template in templates for name in names]


@dataclasses.dataclass(frozen=True)
class CaptionedSource:
  """A labelled source with the field `text`; see `captioned`.

  Attributes:
    source: the source.
    tokens: [templates, classes, L].
    tokenizer: of the text.
    fingerprint: of all of it.
  """

  source: Source
  tokens: np.ndarray
  tokenizer: Tokenizer
  fingerprint: str

  @property
  def fields(self) -> dict[str, Field]:
    """What an example holds."""
    text = Field(self.tokens.shape[2:], "int32", self.tokenizer.vocabulary, tokenizer=self.tokenizer)
    return {**self.source.fields, "text": text}

  def __len__(self) -> int:
    """Number of examples: those of the source, once by every template."""
    return len(self.source) * len(self.tokens)

  def read(self, indices: np.ndarray, names: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """The source's fields, and the captions of its labels."""
    names = names or tuple(self.fields)
    own = list(dict.fromkeys("label" if name == "text" else name for name in names))
    wording, rows = np.divmod(indices, len(self.source))
    data = self.source.read(rows, own)
    if "text" in names:
      data["text"] = self.tokens[wording, data["label"]]
    return {name: data[name] for name in names}


def captioned(
  source: Source, templates: Sequence[str], tokenizer: Callable[..., Tokenizer]
) -> CaptionedSource:
  """A labelled source with captions of its classes, every example once by each template.

  An example with one wording alone would be learned by heart, the wording told by the picture.

  Raises:
    ConfigError: the classes have no names, the source has captions already, or a template is none.
  """
  label = source.fields.get("label")
  if label is None or not label.names:
    raise ConfigError(
      "config.data.templates are for data with labels whose classes have names; leave it empty."
    )
  if "text" in source.fields:
    raise ConfigError(
      "config.data.templates are for data without captions, and these have some; leave it empty."
    )
  try:
    captions = wordings(label.names, templates)
  except ConfigError as error:
    raise ConfigError(f"config.data.{error}") from None
  read = tokenizer(captions)
  tokens = read(captions).reshape(len(templates), len(label.names), -1)
  key = fingerprint(source.fingerprint, captions, read.fingerprint)
  return CaptionedSource(source, tokens, read, key)
