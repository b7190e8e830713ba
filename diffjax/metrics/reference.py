"""Reference statistics of a data set: kept with what they were computed from, or imported.

    settings = Settings(data=source.fingerprint, split="train", resize="pytorch", weights=weights.digest)
    reference = load_or_none(place(settings)) or of_moments(moments, settings)
    save(place(settings), reference)
    frechet_distance(samples, reference.gaussian)

Files are npz with `mu` [D] and `sigma` [D, D], as everywhere, and a JSON text `settings`. Files of others
carry no settings; where they hold statistics of the spatial features too, these are `mu_s` and `sigma_s`.
"""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from diffjax.data import cache, npz
from diffjax.machine import atomic
from diffjax.metrics.moments import Moments
from diffjax.types import ConfigError, words

KINDS = {"pool3": ("mu", "sigma"), "spatial": ("mu_s", "sigma_s")}


@dataclasses.dataclass(frozen=True)
class Settings:
  """What statistics were computed from; None where it is not known.

  Attributes:
    data: the data source's fingerprint.
    split: its split.
    resize: one of inception.RESIZES.
    weights: digest of the feature network's weights.
    features: "pool3" or "spatial".
    images: height x width x channels before the resize.
    count: number of images, which is no part of the cache key.
  """

  data: str | None = None
  split: str | None = None
  resize: str | None = None
  weights: str | None = None
  features: str = "pool3"
  images: str | None = None
  count: int | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
  """A Gaussian and where it comes from.

  Attributes:
    mean: [D].
    covariance: [D, D], unbiased, in the type that it was stored in.
    settings: what is known of its origin.
  """

  mean: Float64[np.ndarray, "d"]
  covariance: np.ndarray
  settings: Settings

  @property
  def gaussian(self) -> tuple[np.ndarray, np.ndarray]:
    """As frechet_distance takes it."""
    return self.mean, self.covariance

  @property
  def digest(self) -> str:
    """A hash of the numbers themselves, 16 hexadecimal digits."""
    return hashlib.sha256(self.mean.tobytes() + self.covariance.tobytes()).hexdigest()[:16]

  @property
  def rank_deficient(self) -> bool | None:
    """Whether the images were too few for a covariance of full rank; None where their number is unknown."""
    return None if self.settings.count is None else self.settings.count <= self.mean.size


def of_moments(moments: Moments, settings: Settings) -> Reference:
  """The reference of a data set's moments; the count is theirs."""
  return Reference(moments.mean, moments.covariance, dataclasses.replace(settings, count=moments.count))


def place(settings: Settings, folder: str | None = None) -> Path:
  """Where the cache keeps the statistics of these settings; see data.cache.folder."""
  key = dataclasses.asdict(dataclasses.replace(settings, count=None))
  return cache.place("statistics", sorted(key.items()), cache_dir=folder).file(".npz")


def save(path: str | Path, reference: Reference) -> None:
  """Writes a reference; a reader sees the whole file or none."""
  text = json.dumps(dataclasses.asdict(reference.settings))
  with atomic.writing(path) as file:
    np.savez(file, mu=reference.mean, sigma=reference.covariance, settings=np.array(text))


def load_or_none(path: str | Path, features: str = "pool3") -> Reference | None:
  """The reference of such features in a cache file, or None where there is none that is whole."""
  try:
    statistics = load(path, features)
  except ConfigError:
    return None
  cache.touch(Path(path))
  return statistics


def load(path: str | Path, features: str = "pool3", dim: int | None = None) -> Reference:
  """Reads a file of ours, or one with `mu` and `sigma` made by anything else.

  Args:
    path: the npz.
    features: one of KINDS; in files of others, which of the statistics.
    dim: the number of features that is wanted.

  Raises:
    ConfigError: the file is missing or no npz of plain arrays, or lacks what is asked for, or its shapes
      do not fit.
  """
  arrays = _read(Path(path))
  own = "settings" in arrays
  names = KINDS["pool3"] if own else KINDS[features]
  settings = _settings(arrays["settings"], path) if own else Settings(features=features)
  if settings.features != features:
    raise ConfigError(f"{path} holds statistics of {settings.features} features, not of {features}.")
  if not set(names) <= arrays.keys():
    raise ConfigError(
      f"{path} holds {', '.join(sorted(arrays)) or 'nothing'}; statistics of {features} features are the "
      f"arrays {' and '.join(names)}."
    )
  mean, covariance = (np.asarray(arrays[name]) for name in names)
  if not all(np.issubdtype(x.dtype, np.floating) and np.isfinite(x).all() for x in (mean, covariance)):
    raise ConfigError(f"{path}: {names[0]} and {names[1]} must be finite floating-point numbers.")
  mean = mean.astype(np.float64)
  if mean.ndim != 1 or covariance.shape != (mean.size, mean.size) or dim not in (None, mean.size):
    raise ConfigError(
      f"{path}: {names[0]} has shape {list(mean.shape)} and {names[1]} {list(covariance.shape)}; they must "
      f"be [{dim or 'D'}] and [{dim or 'D'}, {dim or 'D'}]."
    )
  return Reference(mean, covariance, settings)


def _settings(array: np.ndarray, path: str | Path) -> Settings:
  """What stands in a file of ours."""
  try:
    settings = Settings(**json.loads(str(array)))
  except (ValueError, TypeError, RecursionError) as error:
    raise ConfigError(
      f"{path}: its array settings is not what this library writes ({words(error)})."
    ) from None
  for name, value in dataclasses.asdict(settings).items():
    if value is not None and type(value) is not (int if name == "count" else str):
      raise ConfigError(
        f"{path}: its array settings says {name} is {value!r}, which this library never writes."
      )
  return settings


def _read(path: Path) -> dict[str, np.ndarray]:
  """The arrays of an npz that are needed; others, which may be large, are not read."""
  names = ("settings", *(name for kind in KINDS.values() for name in kind))
  return npz.read(path.expanduser(), names, f"the statistics file {path}")[0]
