"""Fields that a trained run makes of others: encoded once, at the data's edge, and kept.

    encoded(source, {"latent": Encoding(vae, "encode", "image")}, parallel)

is the same source with the field `latent`, or with the fields `latent_mean`, `latent_std` where the run answers with
several arrays by name. What it made lies in the cache, by the fingerprints of the data and of the run, and is read from
there by memory mapping. Where an encoding is to be brought to mean 0 and deviation 1, `measure` finds both, of each
channel over the whole training set, once, and `normalised` brings any split there:

    mean = E m,   deviation^2 = E (m^2 + s^2) - mean^2,   of latents drawn from N(m, s^2)                 (1)
"""

import contextlib
import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from diffjax.data import cache
from diffjax.data.source import Field, Source, fingerprint
from diffjax.machine.byproducts import to_stderr
from diffjax.machine.parallel import Parallel
from diffjax.types import Data, Frozen, Trained

BATCH = 256
ROWS = 4096  # that are measured at a time
LEAST = 1e-6  # a deviation below which a channel counts as constant, and is not divided by it


class Moments(NamedTuple):
  """Where the latents of a training set lie.

  Attributes:
    mean: of each channel, float32 [Z].
    deviation: likewise.
  """

  mean: np.ndarray
  deviation: np.ndarray


AllMoments = Mapping[str, Moments]  # by the name of the encodings


@dataclasses.dataclass(frozen=True)
class Encoding:
  """A field made of another.

  Attributes:
    run: what makes it.
    what: the name of its function, (params, values [B, ...]) -> [B, ...], or several by name.
    field: of the data, that it is given.
    mirrored: whether it is given pictures mirrored left to right.
    moments: the name of the encodings, this among them, with which it is brought to mean 0 and deviation 1; "" for
      none.
  """

  run: Trained
  what: str
  field: str
  mirrored: bool = False
  moments: str = ""

  def __call__(self, params, values):
    """Arrays [B, ...] by the end of their name, "" for the only one."""
    arrays = self.run.can[self.what](params, values[..., ::-1, :] if self.mirrored else values)
    return arrays if isinstance(arrays, Mapping) else {"": arrays}


Encodings = Mapping[str, Encoding]


def _field_name(name: str, part: str) -> str:
  return f"{name}_{part}" if part else name


def fields_of(fields: Mapping[str, Field], encodings: Encodings) -> dict[str, Field]:
  """The fields that encodings add to these."""
  new = {}
  for name, encoding in encodings.items():
    field = fields[encoding.field]
    like = jax.ShapeDtypeStruct((1, *field.shape), field.dtype)
    make = encoding.__call__  # of anything but a function JAX asks its representation, here every parameter's
    for part, array in jax.eval_shape(make, encoding.run.params, like).items():
      new[_field_name(name, part)] = Field(array.shape[1:], str(array.dtype))
  return new


def completed(data: Data, encodings: Encodings, frozen: Frozen) -> Data:
  """A batch with the fields of these encodings; those that are there already stay."""
  for name, encoding in encodings.items():
    if not any(field == name or field.startswith(f"{name}_") for field in data):
      arrays = encoding(frozen[encoding.run.place], data[encoding.field])
      data = data | {_field_name(name, part): array for part, array in arrays.items()}
  return data


@dataclasses.dataclass(frozen=True)
class EncodedSource:
  """A source with further fields; see `encoded`.

  Attributes:
    source: the source.
    arrays: the further fields as they were made.
    fields: all of them.
    fingerprint: of both.
    moments: what is taken off the fields that are brought to mean 0 and deviation 1, and what the rest is divided by.
  """

  source: Source
  arrays: Mapping[str, np.ndarray]
  fields: Mapping[str, Field]
  fingerprint: str
  moments: Mapping[str, Moments] = dataclasses.field(default_factory=dict)

  def __len__(self) -> int:
    """Number of examples."""
    return len(self.source)

  def read(self, indices: np.ndarray, names: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Gathers the rows; the source itself is asked only for fields of its own."""
    names = names or tuple(self.fields)
    own = [name for name in names if name not in self.arrays]
    data = self.source.read(indices, own) if own else {}
    return {name: data[name] if name in data else self._rows(name, indices) for name in names}

  def _rows(self, name: str, indices: np.ndarray) -> np.ndarray:
    values = np.asarray(self.arrays[name][indices])
    if name not in self.moments:
      return values
    mean, deviation = self.moments[name]
    return (values - mean) / deviation


def measure(source: Source, encodings: Encodings) -> dict[str, Moments]:
  """Equation (1) of the encodings that are to be brought to mean 0 and deviation 1, over all that go by one name.

  Args:
    source: the training data with these encodings, not measured yet.
    encodings: of them.
  """
  sums: dict[str, np.ndarray] = {}
  for name, encoding in encodings.items():
    if encoding.moments:
      mean, std = (source.arrays[_field_name(name, part)] for part in ("mean", "std"))
      for start in range(0, len(mean), ROWS):
        m, s = (np.asarray(part[start : start + ROWS], np.float64) for part in (mean, std))
        m, s = (part.reshape(-1, part.shape[-1]) for part in (m, s))
        sum_of = np.stack([np.ones(m.shape[1:]) * len(m), m.sum(0), (m**2 + s**2).sum(0)])
        sums[encoding.moments] = sums.get(encoding.moments, 0) + sum_of
  return {name: _moments(*parts) for name, parts in sums.items()}


def _moments(count: np.ndarray, total: np.ndarray, square: np.ndarray) -> Moments:
  mean = total / count
  deviation = np.sqrt(np.maximum(square / count - mean**2, 0))
  return Moments(mean.astype(np.float32), np.where(deviation > LEAST, deviation, 1).astype(np.float32))


def normalised(source: Source, encodings: Encodings, moments: AllMoments) -> Source:
  """The source with those of its encodings whose moments are known brought to mean 0 and deviation 1."""
  of_fields: dict[str, Moments] = {}
  for name, encoding in encodings.items():
    if encoding.moments in moments:
      mean, deviation = moments[encoding.moments]
      of_fields[_field_name(name, "mean")] = Moments(mean, deviation)
      of_fields[_field_name(name, "std")] = Moments(0 * mean, deviation)
  return dataclasses.replace(source, moments=of_fields) if of_fields else source


def frozen(moments: AllMoments) -> Frozen:
  """The same as the step and the walk are given it, where a space decodes by it."""
  return {f"moments of {name}": tuple(each) for name, each in moments.items()}


def encoded(source: Source, encodings: Encodings, parallel: Parallel, cache_dir: str | None = None) -> Source:
  """The source with these fields.

  Args:
    source: the data.
    encodings: what is made of them, by the new field's name.
    parallel: the devices that encode.
    cache_dir: see cache.folder.
  """
  if not encodings:
    return source
  fields, arrays = fields_of(source.fields, encodings), {}
  for name, encoding in encodings.items():
    of = (source.fingerprint, encoding.run.place, encoding.what, encoding.field, encoding.mirrored)
    entry = cache.place("encoded", of, encoding.run.fingerprint, cache_dir)
    parts = [field for field in fields if field == name or field.startswith(f"{name}_")]
    places = {part: entry.file(f".{part}.npy") for part in parts}
    missing = any(cache.load(place, len(source), mapped=True) is None for place in places.values())
    if "True" in parallel.texts(str(missing)):  # in any process: all encode together
      arrays |= _encode(source, name, encoding, {part: fields[part] for part in parts}, places, parallel)
      cache.tidy(entry)
    else:
      arrays |= {part: cache.load(place, len(source), mapped=True) for part, place in places.items()}
  runs = [encoding.run.fingerprint for encoding in encodings.values()]
  return EncodedSource(source, arrays, {**source.fields, **fields}, fingerprint(source.fingerprint, runs))


def _encode(source, name, encoding: Encoding, fields, places, parallel: Parallel) -> dict[str, np.ndarray]:
  """All examples encoded, in files that take their places when whole; in memory where there can be none."""
  compiled, count = parallel.batched(lambda params, batch: encoding(params, batch)), len(source)
  size = parallel.padded(min(BATCH, count))
  partial = {part: place.with_name(f".{place.name}.{os.getpid()}") for part, place in places.items()}
  try:
    arrays = {}
    with cache.keeping(next(iter(places.values())).parent):
      for part, place in partial.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        shape = (count, *fields[part].shape)
        arrays[part] = np.lib.format.open_memmap(place, "w+", np.dtype(fields[part].dtype), shape)
    on_disk = len(arrays) == len(partial)
    if not on_disk:
      arrays = {part: np.empty((count, *fields[part].shape), fields[part].dtype) for part in partial}
    for start in range(0, count, size):
      rows = np.minimum(np.arange(start, start + size), count - 1)
      values = source.read(rows, (encoding.field,))[encoding.field]
      for ending, array in parallel.fetch(compiled(encoding.run.params, values)).items():
        arrays[_field_name(name, ending)][start : start + size] = array[: count - start]
      to_stderr(f"encoding {name}: {min(start + size, count)} of {count}")
    for part, array in arrays.items() if on_disk else ():
      array.flush()
      partial[part].replace(places[part])
    return arrays
  finally:
    for place in partial.values():
      with contextlib.suppress(OSError):
        place.unlink(missing_ok=True)
