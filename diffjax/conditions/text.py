"""Text, read by a transformer that is trained along or by another run's."""

import functools
from collections.abc import Mapping
from typing import Annotated

import jax
import jax.numpy as jnp

from diffjax.conditions.condition import DEFAULT, NAMED, Condition
from diffjax.conditions.prompts import prompts_of
from diffjax.data.encoded import Encoding
from diffjax.data.source import Field
from diffjax.data.text import Tokenizer
from diffjax.models.prompt import Encoded, Given, Read
from diffjax.models.text import TextTransformer
from diffjax.ranges import FREE, Count, Rate, Run
from diffjax.spaces import field_of
from diffjax.types import ConfigError, Trained

ROWS = 0.5  # standard deviation of a new encoder's rows; with CLIP's 0.02 all words look alike for hundreds of steps


def text(
  fields: Mapping[str, Field],
  field: str = "text",
  run: Run("encode_text", optional=True) = "",
  channels: Count = 64,
  blocks: Count = 2,
  heads: Count = 4,
  edge: bool = True,
  plain: bool = False,
  dropout: Rate = 0.0,
  request: Annotated[str, FREE] = "",
) -> Condition:
  """A text.

  Args:
    fields: of the data.
    field: one of text.
    run: of a task that can encode text, whose encoder reads and stays as it is; by default one is trained along.
    channels, blocks, heads: of the encoder that is trained along.
    edge: whether what `run` makes of the training texts is made once and kept, or made in every step.
    plain: whether the network attends to the encoder's tokens as they are and is told nothing else, as Stable
      Diffusion's; else they and the text as a whole pass a dense layer each, and the whole joins the embedding.
    dropout: share of the training texts replaced by the empty one, for guidance.
    request: what samples are told, in turn: texts with | between them, or a file FILE.txt with one on a line; by
      default the texts of the training data.

  Raises:
    ConfigError: no such field, a run that reads other tokens, or a file that cannot be read.
  """
  tokenizer = field_of(fields, field, "int32").tokenizer
  if tokenizer is None:
    raise ConfigError(f"field is {field!r}, which holds no text.")
  empty, name = tokenizer([""]), f"{field}_encoding"
  prompts, word = (tokenizer(prompts_of(request), "prompts"), NAMED) if request else (None, DEFAULT)

  def requests(index, source):
    if prompts is not None:
      return {field: prompts[index % len(prompts)]}
    if source is None or not len(source):
      raise ConfigError(
        f"request is empty, so that samples need rows of the data's {field!r}, and there are no data; write texts, "
        "with | between them."
      )
    return source.read(index % len(source), (field,))

  if not run:
    encoder = functools.partial(
      TextTransformer,
      tokenizer.vocabulary,
      tokenizer.length,
      channels,
      blocks,
      heads,
      causal=False,
      pool="mean",
      rows=ROWS,
    )
    return Condition(
      value=lambda data, draws: data[field],
      null=lambda value: jnp.broadcast_to(jnp.asarray(empty), value.shape),
      embed=lambda widths: Read(widths, encoder(), plain, name=field),
      request=requests,
      fields=(field,),
      dropout=dropout,
      word=word,
    )
  require_tokenizer(run, tokenizer)
  encoding = jax.device_get(jax.jit(run.can["encode_text"])(run.params, empty))
  nothing = Encoded(encoding["tokens"], encoding["pooled"], empty >= 0)
  return Condition(
    value=lambda data, draws: Encoded(data[f"{name}_tokens"], data[f"{name}_pooled"], data[field] >= 0),
    null=lambda value: jax.tree.map(lambda n, v: jnp.broadcast_to(jnp.asarray(n), v.shape), nothing, value),
    embed=lambda widths: Given(widths, plain, name=name),
    request=requests,
    fields=(field, *((f"{name}_tokens", f"{name}_pooled") if edge else ())),
    encodings={name: Encoding(run, "encode_text", field)},
    dropout=dropout,
    word=word,
  )


def require_tokenizer(run: Trained, tokenizer: Tokenizer) -> None:
  """Raises ConfigError if a run reads the tokens of another tokenizer."""
  theirs = run.can["tokenizer"](run.params)
  if theirs != tokenizer:
    raise ConfigError(
      f"run is {run.place!r}, which reads the tokens of another tokenizer ({theirs.fingerprint}) than the data's "
      f"({tokenizer.fingerprint}). Take that one: config.data.tokenizer = 'file' and config.data.file.path = "
      f"'{run.place.split('@')[0].split(':')[0]}/tokenizer_text.json', config.data.file.length = {theirs.length}."
    )
