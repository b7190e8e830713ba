"""Spaces: where x0 lives, and how fields of a batch come to be there and back.

pixels   a field of uint8 pixels, 0..255 as [-1, 1]; [H, W, C], or [T, H, W, C]
reduced  a field of pixels made small by a degradation: the first stage of a cascade
latent   the latent of an autoencoder, another run, of a field of pixels
vector   a field of float32 numbers, or what a trained run makes of a picture, multiplied by a number
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from diffjax import keys
from diffjax.data.encoded import Encoding, Encodings, fields_of
from diffjax.data.source import Field
from diffjax.degradations import DEGRADATIONS, require_factor
from diffjax.keys import Draws
from diffjax.ranges import Count, NotNegative, Positive, Run, checked, one_of
from diffjax.types import Batch, ConfigError, Data, Frozen, Keys, Trained


@dataclasses.dataclass(frozen=True)
class Space:
  """Where x0 lives.

  Attributes:
    shape: of an x0.
    std: standard deviation of the data there: EDM's sigma_data.
    bounded: whether all of it lies in [-1, 1], so that clipping means anything.
    fields: of the data that it needs.
    observed: fields -> what a likelihood is of: uint8 pixels, or continuous numbers; None: there is none.
    encode: (fields, draws or None) -> x0 [B, *shape].
    encodings: the fields among `fields` that a trained run makes of the data's own.
    decode: (parameters of other runs, x0) -> fields.
  """

  shape: tuple[int, ...]
  std: float
  bounded: bool
  fields: tuple[str, ...]
  observed: Callable[[Data], Array] | None
  encode: Callable[[Data, Draws | None], Batch]
  decode: Callable[[Frozen, Batch], Data]
  encodings: Encodings = dataclasses.field(default_factory=dict)


def of_pixels(pixels: Array) -> Batch:
  """uint8 to float32 in [-1, 1]."""
  return pixels.astype(jnp.float32) / 127.5 - 1


def to_pixels(x0: Array) -> Array:
  """[-1, 1] to the nearest uint8, clipped; of device or NumPy arrays."""
  numpy = np if isinstance(x0, np.ndarray) else jnp
  return numpy.clip(numpy.round((x0 + 1) * 127.5), 0, 255).astype(numpy.uint8)


def field_of(fields: Mapping[str, Field], name: str, dtype: str) -> Field:
  """The field of that name; ConfigError where there is none of this dtype."""
  if name not in fields or fields[name].dtype != dtype:
    names = [other for other, field in fields.items() if field.dtype == dtype]
    there = (
      f"the data's {dtype} fields are {', '.join(names)}" if names else f"the data have no {dtype} field"
    )
    raise ConfigError(f"field is {name!r}, but {there}.")
  return fields[name]


def pixels(
  fields: Mapping[str, Field],
  field: str = "image",
  std: Positive = 0.5,
  scale: Positive = 1.0,
  shift: float = 0.0,
) -> Space:
  """The pixels of a field.

  Args:
    fields: of the data.
    field: a uint8 one.
    std: standard deviation of x0; 0.5 is EDM's, for CIFAR-10 and most photographs.
    scale: x0 = scale (p - shift), p in [-1, 1]: brings pictures that are mostly black to about mean 0, deviation 1.
    shift: see `scale`.
  """
  shape = field_of(fields, field, "uint8").shape
  return _pictures(shape, std, field, lambda data, draws=None: data[field], scale, shift)


def _pictures(
  shape: tuple[int, ...], std: float, field: str, view: Callable, scale: float, shift: float
) -> Space:
  """The space of the uint8 pictures that `view` makes of (fields, draws or None)."""
  plain = scale == 1 and shift == 0
  return Space(
    shape,
    std,
    bounded=plain,
    fields=(field,),
    observed=view if plain else None,
    encode=lambda data, draws: scale * (of_pixels(view(data, draws)) - shift),
    decode=lambda frozen, x0: {field: to_pixels(x0 / scale + shift)},
  )


def own_keys(data: Data, draws: Draws | None, name: str) -> Keys:
  """The examples' keys [B] for one use: the training step's, or outside training those of their numbers."""
  return draws.keys(name) if draws else keys.purpose(keys.of_examples(keys.seed(0), data["index"]), name)


def small(pixels: Array, factor: int, degradation: str, example_keys: Keys) -> Array:
  """uint8 [B, H, W, C] to uint8 [B, H / factor, W / factor, C] by one of DEGRADATIONS."""
  return to_pixels(DEGRADATIONS[degradation](of_pixels(pixels), factor, example_keys))


def reduced(
  fields: Mapping[str, Field],
  field: str = "image",
  factor: Count = 2,
  degradation: Annotated[str, one_of(DEGRADATIONS)] = "area",
  std: Positive = 0.5,
  scale: Positive = 1.0,
  shift: float = 0.0,
) -> Space:
  """The pixels of a field at 1 / factor of its size.

  Args:
    fields: of the data.
    field: a uint8 one.
    factor: how many times smaller each side is.
    degradation: how it is made small; see degradations.py.
    std: standard deviation of x0.
    scale: as that of `pixels`.
    shift: see `scale`.

  Raises:
    ConfigError: no such field, or a factor that does not divide its sides.
  """
  shape = require_factor(factor, field_of(fields, field, "uint8").shape)

  def view(data, draws=None):
    return small(data[field], factor, degradation, own_keys(data, draws, "degradation"))

  return _pictures(shape, std, field, view, scale, shift)


def vector(
  fields: Mapping[str, Field],
  field: str = "embedding",
  run: Run("encode", optional=True) = "",
  of: str = "image",
  scale: Positive = 1.0,
  std: Positive = 1.0,
) -> Space:
  """A vector.

  Args:
    fields: of the data.
    field: a float32 one, or what `run` makes is called.
    run: of a task that encodes pictures as vectors, CLIP say; by default the data have the field themselves.
    of: the field that `run` encodes.
    scale: factor on the vector.
    std: its standard deviation after that.

  Raises:
    ConfigError: no such field, or a run whose encodings are no vectors.
  """
  encodings = embedding(fields, field, run, of)
  shape = field_of({**fields, **fields_of(fields, encodings)}, field, "float32").shape
  scaled = lambda data: data[field].astype(jnp.float32) * scale
  return Space(
    shape,
    std,
    bounded=False,
    fields=(field,),
    observed=scaled,
    encode=lambda data, draws: scaled(data),
    decode=lambda frozen, x0: {field: x0 / scale},
    encodings=encodings,
  )


def embedding(fields: Mapping[str, Field], field: str, run: Trained | str, of: str) -> Encodings:
  """What a run, where there is one, makes of the pictures `of`, as `field`; ConfigError where it is no vector."""
  if not run:
    return {}
  field_of(fields, of, "uint8")
  encodings = {field: Encoding(run, "encode", of)}
  outputs = fields_of(fields, encodings)
  if field not in outputs or len(outputs[field].shape) != 1:
    raise ConfigError(
      f"run is {run.place!r}, which encodes pictures as {', '.join(f'{n} {f.shape}' for n, f in outputs.items())} and "
      "not as vectors; name one of the task 'clip'."
    )
  return encodings


def latent(
  fields: Mapping[str, Field],
  run: Run("encode") = "",
  field: str = "image",
  std: Positive = 1.0,
  mirrored: bool = False,
  scale: NotNegative = 0.0,
  shift: float = 0.0,
) -> Space:
  """The latent of an autoencoder, drawn from its Gaussian and normalised.

  Args:
    fields: of the data.
    run: of a task that can encode and decode.
    field: what is encoded.
    std: standard deviation of the normalised latents.
    mirrored: whether half of the images are mirrored left to right, drawn anew in every step. An autoencoder does not
      mirror its latent with the image, so both views are encoded.
    scale: x0 = scale (z - shift). By default, 0, what a published autoencoder says, or else every channel is brought to
      mean 0 and deviation 1 by those of the training set's latents, which are measured once and kept in config.json.
    shift: see `scale`.

  Raises:
    ConfigError: the field or the run will not do.
  """
  field_of(fields, field, "uint8")
  if "decode" not in run.can:
    raise ConfigError(f"run is {run.place!r}, which cannot decode; name one of the task 'autoencoder'.")
  statistics = (shift, 1 / scale) if scale else run.can.get("statistics", lambda params: None)(run.params)
  moments = "" if statistics else "latent"
  encodings = {"latent": Encoding(run, "encode", field, moments=moments)}
  if mirrored:
    encodings["mirrored"] = Encoding(run, "encode", field, mirrored=True, moments=moments)
  shape = fields_of(fields, encodings)["latent_mean"].shape
  mean, deviation = (np.asarray(part, np.float32) for part in statistics or (0, 1))
  parts = ("mean", "std")

  def decode(frozen, x0):
    mean_of, deviation_of = frozen[f"moments of {moments}"] if moments else (mean, deviation)
    return {field: to_pixels(run.can["decode"](frozen[run.place], x0 * deviation_of + mean_of))}

  def encode(data, draws):
    z, wide = (data[f"latent_{part}"] for part in parts)
    if draws is not None:
      if mirrored:
        other = (keys.uniform(draws.keys("flip")) < 0.5).reshape(-1, *[1] * len(shape))
        z, wide = (jnp.where(other, data[f"mirrored_{p}"], x) for p, x in zip(parts, (z, wide), strict=True))
      z += wide * keys.normal(draws.keys("latent"), z.shape[1:], z.dtype)
    return (z - mean) / deviation

  return Space(
    shape,
    std,
    bounded=False,
    fields=tuple(f"{name}_{part}" for name in encodings for part in parts),
    observed=None,
    encode=encode,
    decode=decode,
    encodings=encodings,
  )


SPACES: dict[str, Callable[..., Space]] = checked(
  {"pixels": pixels, "reduced": reduced, "latent": latent, "vector": vector}
)
