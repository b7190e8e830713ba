"""Conditions: what a network is told besides x_t, each from fields of the batch.

    label    a class, one row of a table; its null is the table's last row
    vector   an embedding, as a vector and as tokens; its null is zeros
    low      a small image, as planes at the large one's size; its null is one that is all noise
    text     tokens, read by a transformer that is trained along or by another run's; its null is the empty text
    frames   the first frames of a video, as planes; its null is that none is given
    moving   whether the frames of a video are of one clip; if not, none sees another
    augment  what was done to a training image; made by the augmentation, at sampling nothing was

All conditions of an example are dropped by one draw, each at its own rate (Ho & Salimans 2022, algorithm 1).
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from diffjax import keys
from diffjax.data.encoded import Encoding, Encodings, fields_of
from diffjax.data.folder import images_of
from diffjax.data.source import Field, Source
from diffjax.data.text import Tokenizer
from diffjax.degradations import DEGRADATIONS, UPSAMPLINGS, require_factor, upsampled
from diffjax.keys import Draws
from diffjax.models.conditioning import Embed, Leveled, Low, OnTime, Planes, Projected, Table, Together
from diffjax.models.prompt import Encoded, Given, Read
from diffjax.models.text import TextTransformer
from diffjax.ranges import FREE, LOCAL, Count, Rate, Run, Share, Whole, checked, one_of
from diffjax.spaces import embedding, field_of, of_pixels, own_keys, small
from diffjax.types import ConfigError, Data, Trained

DROP = "label"  # the name of the draw that drops
SHARES = ("even", "training")
GOLDEN = (5**0.5 - 1) / 2


@dataclasses.dataclass(frozen=True)
class Condition:
  """What a network is told.

  Attributes:
    value: (fields, draws, or None outside training) -> a pytree [B, ...].
    null: value -> the value that says nothing, of the same shapes; None: it is never left out.
    embed: a network's widths -> the module from values to Embedded.
    request: (numbers [n] of the samples, the training data or None) -> the fields that samples ask for.
    fields: of the data that it needs.
    encodings: fields that a trained run makes of the data's own; those among `fields` are made once, at the data's
      edge, and the others in the step.
    dropout: share of the training examples for which it is left out.
    often_null: whether it is null in training by itself.
    classes: that its value is one of; 0 where it is no class.
    leads: whether its samples' request says what other conditions are told as well.
  """

  value: Callable[[Data, Draws | None], Any]
  null: Callable[[Any], Any] | None
  embed: Embed
  request: Callable[[np.ndarray, Source | None], dict[str, np.ndarray]]
  fields: tuple[str, ...] = ()
  encodings: Encodings = dataclasses.field(default_factory=dict)
  dropout: float = 0.0
  often_null: bool = False
  classes: int = 0
  leads: bool = False


Conditions = Mapping[str, Condition]


def label(
  fields: Mapping[str, Field],
  field: str = "label",
  dropout: Rate = 0.0,
  request: Annotated[str, FREE] = "",
  shares: Annotated[str, one_of(SHARES), FREE] = "even",
) -> Condition:
  """A class.

  Args:
    fields: of the data.
    field: an int32 one with classes.
    dropout: share of the training labels replaced by the null class, for guidance.
    request: the class of every sample, by its name or its number; "": of every class, as `shares` says.
    shares: "even", all classes in turn; "training", each as often as in the training data.
  """
  known = field_of(fields, field, "int32")
  classes = known.classes
  if not classes or known.shape:
    raise ConfigError(f"field is {field!r}, which holds no classes.")
  one = known.number("request", request) if request else None
  if shares == "training" and not any(known.counts):
    raise ConfigError(
      "shares is 'training', but how often a class comes is not known of data that are read image by image; set it to "
      "'even'."
    )

  def asked(index, source):
    if one is not None:
      each = np.full(len(index), one)
    elif shares == "even":
      each = index % classes
    else:
      each = in_shares(index, known.counts)
    return {field: each.astype(np.int32)}

  return Condition(
    value=lambda data, draws: data[field],
    null=lambda value: jnp.full_like(value, classes),
    embed=functools.partial(Table, classes + 1, name="classes"),
    request=asked,
    fields=(field,),
    dropout=dropout,
    classes=classes,
  )


def in_shares(index: np.ndarray, counts: Sequence[int]) -> np.ndarray:
  """Classes [n] of the samples of these numbers, of the first N of which each has its share but for about log N.

  Sample i has the class in whose part of [0, 1) the fraction of (i + 1) times the golden ratio lies (Weyl's sequence),
  whatever other samples are drawn.
  """
  ends = np.cumsum(counts) / np.sum(counts)
  return np.searchsorted(ends[:-1], (index + 1) * GOLDEN % 1, side="right")


def vector(
  fields: Mapping[str, Field],
  field: str = "embedding",
  run: Run("encode", optional=True) = "",
  of: str = "image",
  scale: float = 1.0,
  tokens: Whole = 0,
  dropout: Rate = 0.0,
  prior: Run("sample", optional=True) = "",
  request: Annotated[str, FREE] = "",
) -> Condition:
  """An embedding.

  Args:
    fields: of the data.
    field: a float32 one of shape [n], or what `run` makes is called.
    run: of a task that encodes pictures as vectors, CLIP say; by default the data have the field themselves.
    of: the field that `run` encodes.
    scale: factor on it.
    tokens: tokens that it enters as, besides the vector.
    dropout: share of the training examples that are given zeros in its place.
    prior: a run whose samples have the field: sample i is told that of its sample i. By default rows of the data.
    request: the texts that the prior is told, as condition.text.request; "": as it says itself.
  """
  encodings = embedding(fields, field, run, of)
  shape = field_of({**fields, **fields_of(fields, encodings)}, field, "float32").shape
  if len(shape) != 1:
    raise ConfigError(f"field is {field!r} of shape {shape}; it must be a vector.")
  require_stage(prior, field, shape, fields)

  def asked(index, source):
    if prior:
      return stage(prior, field, fields, index, source, request)
    if source is None:
      raise ConfigError(f"the samples need rows of the data's field {field!r}, and there are no data.")
    return source.read(index % len(source), (field,))

  return Condition(
    value=lambda data, draws: data[field] * scale,
    null=jnp.zeros_like,
    embed=lambda widths: Projected(widths, tokens, name=field),
    request=asked,
    fields=(field,),
    encodings=encodings,
    dropout=dropout,
    leads=bool(prior),
  )


def low(
  fields: Mapping[str, Field],
  field: str = "image",
  factor: Count = 2,
  degradation: Annotated[str, one_of(DEGRADATIONS)] = "area",
  upsampling: Annotated[str, one_of(UPSAMPLINGS)] = "bicubic",
  target: Count = 1,
  noise: Share = 0.0,
  level: Annotated[Share, FREE] = 0.0,
  dropout: Rate = 0.0,
  run: Run("sample", optional=True) = "",
  request: Annotated[str, FREE] = "",
  images: Annotated[str, LOCAL, FREE] = "",
) -> Condition:
  """A small image, which in training is made of the large one, and noise on it (Ho et al. 2021, section 4):

      z = sqrt(1 - s^2) low + s eps,   s uniform in [0, noise] in training and `level` at sampling

  The network is told s. At sampling eps is that of the sample's number.

  Args:
    fields: of the data.
    field: the large images.
    factor: how many times smaller than `field` each side of the small one is.
    degradation: how it is made small; see degradations.py.
    upsampling: how it is brought to the size of x0.
    target: how many times smaller than `field` x0 itself is: space.reduced's factor, in the middle of a cascade.
    noise: the highest level of training.
    level: of sampling.
    dropout: share of the training examples that are given no image.
    run: whose samples are the small images, sample i's that of its sample i: the stage before.
    request: the texts that `run` is told, as condition.text.request; "": as it says itself.
    images: a folder whose pictures are the small images, in turn. By default they are made of rows of the data, and the
      other conditions are told those rows' too.

  Raises:
    ConfigError: sizes that do not fit, or small images of another size or of other channels.
  """
  shape = field_of(fields, field, "uint8").shape
  size, shape = require_factor(factor, shape), require_factor(target, shape)
  require_stage(run, field, size, fields)
  if level > noise:
    raise ConfigError(f"level is {level}, of which training told nothing: noise is {noise}.")

  def lowered(image, own):  # of what an augmentation made of it at x0's size, or of the field
    return small(image, image.shape[1] // size[0], degradation, own)

  def value(data, draws):
    seen = data["low"] if "low" in data else lowered(data[field], own_keys(data, draws, "degradation"))
    z, s = of_pixels(seen), jnp.zeros(len(seen))
    if noise:
      s = jnp.full(len(seen), level) if draws is None else noise * keys.uniform(draws.keys("level"))
      wide = s.reshape(-1, 1, 1, 1)
      z = jnp.sqrt(1 - wide**2) * z + wide * keys.normal(own_keys(data, draws, "low"), size)
    return Low(upsampled(z, shape, upsampling), s)

  def asked(index, source):
    if run:
      found = stage(run, field, fields, index, source, request)
      return found | {"low": found.pop(field)}
    if images:
      there, _, _ = images_of(Path(images).expanduser())
      if there.shape[1:] != size:
        raise ConfigError(
          f"images is {images!r}, whose pictures are of shape {there.shape[1:]}; it must be {size}."
        )
      return {"low": there[index % len(there)]}
    if source is None:
      raise ConfigError(f"the samples need rows of the data's field {field!r}, and there are no data.")
    others = [name for name, other in source.fields.items() if other.dtype != "uint8" and name in fields]
    rows = source.read(index % len(source), (field, *others))
    own = own_keys({"index": jnp.asarray(index)}, None, "degradation")
    return rows | {"low": np.asarray(lowered(jnp.asarray(rows[field]), own))}

  return Condition(
    value=value,
    null=lambda value: Low(jnp.zeros_like(value.planes), jnp.ones_like(value.level)),
    embed=functools.partial(Leveled, name="low"),
    request=asked,
    fields=(field,),
    dropout=dropout,
    leads=True,
  )


def stage(
  run: Trained,
  field: str,
  fields: Mapping[str, Field],
  index: np.ndarray,
  source: Source | None,
  request: str,
) -> dict[str, np.ndarray]:
  """What samples of these numbers are told by the stage before: its samples' `field`, and what those were told.

  What is no field of the data, as the small image of a stage before that, has "low_" before its name.
  """
  samples, told = run.can["sample"](run.params, index, source, prompts_of(request) if request else ())
  named = {
    name if name in fields else f"low_{name}": values for name, values in told.items() if name != "index"
  }
  return named | {field: samples[field]}


def require_stage(
  run: Trained | str, field: str, shape: tuple[int, ...], fields: Mapping[str, Field]
) -> None:
  """Raises ConfigError if a run's samples have no such field of this shape, or it was trained on other data."""
  if not run:
    return
  made = run.can["made"](run.params)
  if made.get(field) != shape:
    listed = ", ".join(f"{name} {there}" for name, there in made.items())
    raise ConfigError(f"run is {run.place!r}, whose samples are {listed}; here they must be {field} {shape}.")
  for name, theirs in run.can["data"](run.params).items():
    ours = fields.get(name)
    about = lambda f: f and (f.shape, f.dtype, f.classes, f.tokenizer)
    if theirs.dtype != "uint8" and about(ours) != about(theirs):
      raise ConfigError(
        f"run is {run.place!r}, which was trained on other data: its {name!r} is not that of these."
      )


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
  prompts = tokenizer(prompts_of(request), "prompts") if request else None

  def asked(index, source):
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
    )
    return Condition(
      value=lambda data, draws: data[field],
      null=lambda value: jnp.broadcast_to(jnp.asarray(empty), value.shape),
      embed=lambda widths: Read(widths, encoder(), plain, name=field),
      request=asked,
      fields=(field,),
      dropout=dropout,
    )
  require_tokenizer(run, tokenizer)
  found = jax.device_get(jax.jit(run.can["encode_text"])(run.params, empty))
  nothing = Encoded(found["tokens"], found["pooled"], empty >= 0)
  return Condition(
    value=lambda data, draws: Encoded(data[f"{name}_tokens"], data[f"{name}_pooled"], data[field] >= 0),
    null=lambda value: jax.tree.map(lambda n, v: jnp.broadcast_to(jnp.asarray(n), v.shape), nothing, value),
    embed=lambda widths: Given(widths, plain, name=name),
    request=asked,
    fields=(field, *((f"{name}_tokens", f"{name}_pooled") if edge else ())),
    encodings={name: Encoding(run, "encode_text", field)},
    dropout=dropout,
  )


def prompts_of(request: str) -> list[str]:
  """The texts that samples are told: those between |, or the lines of a file FILE.txt."""
  if not request.endswith(".txt"):
    return [" ".join(text.split()) for text in request.split("|")]
  try:
    lines = Path(request).expanduser().read_text("utf-8-sig").splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise ConfigError(f"request is {request!r}, a file that cannot be read ({error}).") from None
  if not any(line.strip() for line in lines):
    raise ConfigError(f"request is {request!r}, a file without texts.")
  return [" ".join(line.split()) for line in lines if line.strip()]


def require_tokenizer(run: Trained, tokenizer: Tokenizer) -> None:
  """Raises ConfigError if a run reads the tokens of another tokenizer."""
  theirs = run.can["tokenizer"](run.params)
  if theirs != tokenizer:
    raise ConfigError(
      f"run is {run.place!r}, which reads the tokens of another tokenizer ({theirs.fingerprint}) than the data's "
      f"({tokenizer.fingerprint}). Take that one: config.data.tokenizer = 'file' and config.data.file.path = "
      f"'{run.place.split('@')[0].split(':')[0]}/tokenizer_text.json', config.data.file.length = {theirs.length}."
    )


def frames(
  fields: Mapping[str, Field], field: str = "video", given: Count = 1, dropout: Rate = 0.0
) -> Condition:
  """The first frames of a video, as planes beside all frames: their pixels in [-1, 1], and 1 where there are any.

  Samples ask for rows of the training data, of which they see the first frames. The guide "frames" makes them those of
  the samples.

  Args:
    fields: of the data.
    field: a uint8 one of videos [T, H, W, C].
    given: frames.
    dropout: share of the training examples that are given none.
  """
  shape = field_of(fields, field, "uint8").shape
  if len(shape) != 4 or given >= shape[0]:
    raise ConfigError(
      f"given is {given} and field {field!r} of shape {shape}; it needs videos of more frames."
    )

  def value(data, draws):
    video = of_pixels(data[field])
    known = (jnp.arange(shape[0]) < given).astype(video.dtype).reshape(-1, 1, 1, 1)
    return jnp.concatenate([video * known, jnp.broadcast_to(known, (*video.shape[:-1], 1))], axis=-1)

  def asked(index, source):
    if source is None:
      raise ConfigError(f"the samples need rows of the data's field {field!r}, and there are no data.")
    return source.read(index % len(source), (field,))

  return Condition(
    value=value,
    null=jnp.zeros_like,
    embed=lambda widths: Planes(name="frames"),
    request=asked,
    fields=(field,),
    dropout=dropout,
  )


def moving(fields: Mapping[str, Field], field: str = "moving") -> Condition:
  """Whether the frames of a video may see each other: 0 in the field, and each is an image by itself; samples are 1.

  Where nothing is said, the null, they may.
  """
  if field_of(fields, field, "int32").shape:
    raise ConfigError(f"field is {field!r} of shape {fields[field].shape}; it must be one number.")
  return Condition(
    value=lambda data, draws: data[field],
    null=lambda value: jnp.full_like(value, 2),
    embed=lambda widths: Together(name="moving"),
    request=lambda index, source: {field: np.ones(len(index), np.int32)},
    fields=(field,),
    often_null=True,
  )


def augment(labels: int) -> Condition:
  """What an augmentation did, as this many numbers in the field "augment"; where it is missing zeros, nothing."""

  def value(data, draws):
    return data["augment"] if "augment" in data else jnp.zeros((len(data["index"]), labels))

  return Condition(
    value=value,
    null=jnp.zeros_like,
    embed=lambda widths: OnTime(widths, name="augment"),
    request=lambda index, source: {},
    often_null=True,
  )


CONDITIONS: dict[str, Callable[..., Condition]] = checked(
  {
    "label": label,
    "vector": vector,
    "text": text,
    "low": low,
    "frames": frames,
    "moving": moving,
  }
)


def values(conditions: Conditions, data: Data, draws: Draws | None = None) -> dict[str, Any]:
  """The value of every condition, in training some of them dropped.

  Args:
    conditions: the conditions.
    data: the fields of a batch.
    draws: of a training step; None for sampling and held-out data, where nothing is dropped.
  """
  found = {name: condition.value(data, draws) for name, condition in conditions.items()}
  rates = {name: condition.dropout for name, condition in conditions.items() if condition.dropout}
  if draws is None or not rates:
    return found
  u = keys.uniform(draws.keys(DROP))
  for name, rate in rates.items():
    found[name] = replaced(found[name], conditions[name].null(found[name]), u < rate)
  return found


def replaced(value: Any, null: Any, dropped: Array) -> Any:
  """The value, and where `dropped` [B] the null."""
  each = lambda v, n: jnp.where(dropped.reshape(-1, *[1] * (v.ndim - 1)), n, v)
  return jax.tree.map(each, value, null)


def nulls(conditions: Conditions, cond: Mapping[str, Any]) -> dict[str, Any] | None:
  """The null of every condition, or None where one is never left out."""
  if any(condition.null is None for condition in conditions.values()):
    return None
  return {name: condition.null(cond[name]) for name, condition in conditions.items()}


def requests(conditions: Conditions, index: np.ndarray, source: Source | None) -> dict[str, np.ndarray]:
  """What the samples of these numbers [n] ask for, by field."""
  found = {}
  for condition in sorted(conditions.values(), key=lambda condition: condition.leads):
    found |= condition.request(index, source)
  return found
