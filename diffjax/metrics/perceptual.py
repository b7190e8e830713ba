"""The metric "inception": FID and its relatives, on features of the Inception network of FID.

    fid               Fréchet distance of pool3 to the training split, or to an imported mu and sigma
    sfid              the same of the spatial features
    kid               kernel distance of pool3 to as many training images, with its standard error
    precision_recall  improved precision and recall; and with density_coverage density and coverage
    inception_score   where the weights hold the class layer
    fid_infinity      FID extrapolated to infinitely many samples
    memory_*          beside an FID or sFID, how near the samples are to the training images (memorization.py)

An FID from fewer than 50,000 samples carries their number in its name, fid_5k. The features of the training
split are computed once and their moments kept in the cache; the other values compare with its first images.
"""

import numpy as np

from diffjax.data import cache
from diffjax.data.pipeline import in_order
from diffjax.data.source import Source
from diffjax.machine.byproducts import to_stderr
from diffjax.machine.parallel import Parallel
from diffjax.metrics import inception_weights, reference
from diffjax.metrics.frechet import fid_name, frechet_distance
from diffjax.metrics.frechet_error import bootstrap, fid_infinity
from diffjax.metrics.inception import POOL3, SPATIAL, extractor
from diffjax.metrics.inception_score import PARTS, inception_score
from diffjax.metrics.kid import kid
from diffjax.metrics.manifold import NEAREST, neighbours
from diffjax.metrics.memorization import FIGURES, memorization
from diffjax.metrics.metric import Metric, needs, of_any_size
from diffjax.metrics.moments import Moments
from diffjax.ranges import Count, Whole
from diffjax.types import ConfigError

# Values, and how many samples each needs.
FEWEST = {
  "fid": 2,
  "sfid": 2,
  "kid": 4,  # two disjoint subsets of two
  **{name: k + 1 for name, k in NEAREST.items()},
  "inception_score": PARTS,
  "fid_infinity": 4,  # whose half is the smallest subset
}
VALUES = tuple(FEWEST)
HIGHER = ("precision", "recall", "density", "coverage", "inception_score")
DIMENSIONS = {"pool3": POOL3, "spatial": SPATIAL}
PAIRED = ("kid", *NEAREST)  # these compare features, not moments


@of_any_size
@needs(lambda values, **others: max((FEWEST[name] for name in values if name in FEWEST), default=1))
def metric(
  train: Source,
  test: Source,
  parallel: Parallel,
  values: tuple[str, ...] = ("fid", "kid", "precision_recall"),
  weights_file: str = "",
  resize: str = "pytorch",
  batch_size: Count = 64,
  reference_file: str = "",
  bootstrap_draws: Whole = 10,
) -> Metric:
  """The metric "inception".

  Args:
    train: the training split, the reference.
    test: the held-out split, with which the figure of memory compares.
    parallel: the devices.
    values: some of VALUES.
    weights_file: see metrics/inception_weights.py for where they are found by default.
    resize: one of inception.RESIZES.
    batch_size: images that go through the network together.
    reference_file: an npz with mu and sigma to compare with, instead of the training split.
    bootstrap_draws: for an interval of the FID; 0 for none.

  Raises:
    ConfigError: an unknown value, weights that cannot be had, or a reference that does not fit.
  """
  for name in values:
    if name not in VALUES:
      raise ConfigError(f"values names {name!r}; it must be of {', '.join(VALUES)}.")
  if not values:
    raise ConfigError(f"values is empty; name some of {', '.join(VALUES)}.")
  weights = inception_weights.load(weights_file or None)
  if "inception_score" in values and "fc" not in weights.variables["params"]:
    raise ConfigError(
      "values names 'inception_score', but the weights have no class layer; give pytorch-fid's own .pth file by "
      "weights_file, or leave it out."
    )
  extract = extractor(weights.variables, resize, batch_size, parallel)
  gaussians = {
    kind: _reference(kind, train, extract, resize, weights, reference_file)
    for value, kind in (("fid", "pool3"), ("sfid", "spatial"))
    if value in values or (value == "fid" and "fid_infinity" in values)
  }

  memory = memorization(train, test) if {"fid", "sfid", "fid_infinity"} & {*values} else None
  flags = {
    "pool3": any(name in values for name in ("fid", "fid_infinity", *PAIRED)),
    "spatial": "sfid" in values,
    "logits": "inception_score" in values,
  }

  def features(samples, request):
    outputs = extract(samples["image"])
    near = memory.features(samples["image"]) if memory else {}
    return {name: getattr(outputs, name) for name, needed in flags.items() if needed} | near

  def score(features):
    out, count = {}, len(next(iter(features.values())))
    for value, kind in (("fid", "pool3"), ("sfid", "spatial")):
      if value in values:
        out |= _frechet(fid_name(count, value), features[kind], gaussians[kind], bootstrap_draws)
    if any(name in values for name in PAIRED):
      settings = _settings(train, resize, weights)
      out |= _paired(values, features["pool3"], _first(train, count, extract, settings))
    if "fid_infinity" in values:
      fit = fid_infinity(features["pool3"], gaussians["pool3"].gaussian, smallest=count // 2)
      out |= {"fid_infinity": fit.value, "fid_infinity_standard_error": fit.standard_error}
    if "inception_score" in values:
      out["inception_score"] = inception_score(features["logits"]).value
    return out | (memory.score(features) if memory else {})

  settings = {
    "resize": resize,
    "weights": weights.digest[:16],
    "published_weights": weights.published,
    "reference": {kind: about(gaussian) for kind, gaussian in gaussians.items()},
    **({"memory": memory.reference} if memory else {}),
  }
  floor = memory.floor if memory else {}
  return Metric(("image",), features, score, floor, settings, higher=HIGHER, near=FIGURES)


def about(gaussian: reference.Reference) -> dict[str, object]:
  """What a report says of a reference."""
  origin = gaussian.settings
  return {"hash": gaussian.digest} | {
    name: getattr(origin, name) for name in ("data", "split", "images", "count")
  }


def _settings(train: Source, resize: str, weights, kind: str = "pool3") -> reference.Settings:
  """Of the training split's statistics."""
  images = "x".join(map(str, train.fields["image"].shape))
  return reference.Settings(train.fingerprint, "train", resize, weights.digest, kind, images)


def _reference(kind, train, extract, resize, weights, path) -> reference.Reference:
  """The imported statistics, or the training split's from the cache or computed into it."""
  if path:
    statistics = reference.load(path, kind, DIMENSIONS[kind])
    for name, here in (("resize", resize), ("weights", weights.digest)):
      there = getattr(statistics.settings, name)
      if there not in (None, here):
        raise ConfigError(
          f"reference_file is {path!r}, which was computed with the {name} {there!r}, and "
          f"here it is {here!r}; choose the same, or another file."
        )
    return statistics
  settings = _settings(train, resize, weights, kind)
  place = reference.place(settings)
  if (statistics := reference.load_or_none(place, kind)) is not None:
    return statistics
  moments = None
  for batch in in_order(train, 1024, ("image",)):
    features = getattr(extract(batch["image"]), kind)
    moments = (Moments.empty(features.shape[1]) if moments is None else moments).add(features)
    to_stderr(f"reference features: {moments.count} of {len(train)}")
  statistics = reference.of_moments(moments, settings)
  with cache.keeping(place.parent):
    reference.save(place, statistics)
  return statistics


def _first(train: Source, count: int, extract, settings: reference.Settings) -> np.ndarray:
  """pool3 of the first images of the training split, kept in the cache."""
  count = min(count, len(train))
  place = reference.place(settings).with_suffix(f".{count}.npy")
  features = cache.load(place, count)
  if features is None:
    features = extract(train.read(np.arange(count), ("image",))["image"]).pool3
    with cache.keeping(place.parent):
      cache.save(place, features)
  return features


def _frechet(name: str, features: np.ndarray, gaussian: reference.Reference, draws: int) -> dict[str, float]:
  moments = Moments.of(features)
  out = {name: frechet_distance(moments, gaussian.gaussian)}
  if draws:
    interval = bootstrap(features, gaussian.gaussian, draws)
    out |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
  if moments.rank_deficient or gaussian.rank_deficient:
    out[f"{name}_rank_deficient"] = 1.0
  return out


def _paired(values: tuple[str, ...], samples: np.ndarray, real: np.ndarray) -> dict[str, float]:
  out = {}
  if "kid" in values:
    estimate = kid(samples, real, subset_size=min(1000, len(samples) // 2, len(real) // 2))
    out |= {"kid": estimate.value, "kid_standard_error": estimate.standard_error}
  if sizes := {name: k for name, k in NEAREST.items() if name in values}:
    out |= neighbours(real, samples, sizes)
  return out
