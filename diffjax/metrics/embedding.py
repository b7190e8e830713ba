"""Images and texts as a run of the task "clip" sees them: unit vectors in one space."""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from jaxtyping import Float32

from diffjax.data.source import Source
from diffjax.types import ConfigError, Trained

BATCH = 256


def _in_batches(function: Callable, params, values: np.ndarray) -> Float32[np.ndarray, "n d"]:
  """A function (params, [b, ...]) -> [b, D] of any number of rows, compiled for one number."""
  parts = []
  for start in range(0, max(len(values), 1), BATCH):
    part = values[start : start + BATCH]
    missing = np.zeros((BATCH - len(part), *values.shape[1:]), values.dtype)
    parts.append(np.asarray(function(params, np.concatenate([part, missing])))[: len(part)])
  return np.concatenate(parts)


class Embedding:
  """What a run makes of images and texts; compiles once each.

  Attributes:
    run: the run.
    tokenizer: of the texts that come as tokens.
  """

  def __init__(self, run: Trained, source: Source):
    """Takes data whose field "text", where there is one, says how tokens come.

    Raises:
      ConfigError: the run cannot encode images, or text.
    """
    for what in ("encode", "encode_text", "tokenizer"):
      if what not in run.can:
        raise ConfigError(f"run is {run.place!r}, which cannot {what}; name one of the task 'clip'.")
    self.run = run
    self.tokenizer = source.fields["text"].tokenizer if "text" in source.fields else None
    self._images = jax.jit(run.can["encode"])
    self._texts = jax.jit(lambda params, text: run.can["encode_text"](params, text)["pooled"])

  def images(self, images: np.ndarray) -> Float32[np.ndarray, "n d"]:
    """Of uint8 images [n, H, W, C]."""
    return _in_batches(self._images, self.run.params, images)

  def texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "n d"]:
    """The embeddings of strings."""
    tokens = self.run.can["tokenizer"](self.run.params)(texts, "texts")
    return _in_batches(self._texts, self.run.params, tokens)

  def tokens(self, tokens: np.ndarray) -> Float32[np.ndarray, "n d"]:
    """The embeddings of texts in the data's tokens [n, L]; the run may have another tokenizer.

    Raises:
      ConfigError: the data have no text.
    """
    if self.tokenizer is None:
      raise ConfigError("it needs the field 'text', and the data carry none; leave it out.")
    return self.texts([self.tokenizer.text(row) for row in tokens])


def require_text(name: str, request) -> np.ndarray:
  """The texts that samples asked for; ConfigError where they asked for none."""
  if "text" not in request:
    raise ConfigError(
      f"config.eval.metrics names {name!r}, but the samples were not told by text; leave it out."
    )
  return request["text"]
