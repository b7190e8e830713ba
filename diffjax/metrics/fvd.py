"""The Fréchet video distance of Unterthiner et al. 2018, under StyleGAN-V's protocol (Skorokhodov et al. 2022, app. C).

    fvd        Fréchet distance of I3D's logits (i3d.py) of clips of 16 frames to those of training clips; of fewer than
               50,000 samples their number is in its name: the protocol's 2,048 are fvd_2048
    memory_*   beside it, how near the samples are to the training clips (memorization.py)

Of longer clips the first 16 frames count. Covariances are the population's, a sum over N and not N - 1, as that code
has them. The training clips are drawn in the order of a fixed permutation, and their features kept in the cache.
"""

from collections.abc import Mapping

import numpy as np

from diffjax.data import cache
from diffjax.data.order import permutation
from diffjax.data.source import Field, Source
from diffjax.machine.parallel import Parallel
from diffjax.metrics import i3d_weights, reference
from diffjax.metrics.frechet import fid_name, frechet_distance
from diffjax.metrics.i3d import extractor
from diffjax.metrics.memorization import FIGURES, memorization
from diffjax.metrics.metric import Metric, needs, of_data
from diffjax.metrics.moments import Moments
from diffjax.ranges import Count
from diffjax.types import ConfigError

FRAMES = 16


def require_clips(fields: Mapping[str, Field]) -> None:
  """Raises ConfigError unless there is a `video` of FRAMES frames or more."""
  if "video" not in fields:
    raise ConfigError(f"it is for clips, and the data are {', '.join(fields)}; leave it out.")
  if (frames := fields["video"].shape[0]) < FRAMES:
    raise ConfigError(
      f"it judges clips of {FRAMES} frames, and the data's have {frames}; a distance of shorter ones is no FVD. "
      f"Take clips of at least {FRAMES} frames, or leave it out."
    )


@needs(2)
@of_data(require_clips)
def metric(
  train: Source,
  test: Source,
  parallel: Parallel,
  weights_file: str = "",
  resize: str = "pytorch",
  batch_size: Count = 8,
  known: Count = 2048,
) -> Metric:
  """The metric "fvd"; a clip costs 49 GFLOP.

  Args:
    train: the training split, the reference.
    test: the held-out split, with which the figure of memory compares.
    parallel: the devices.
    weights_file: see metrics/i3d_weights.py for where they are found by default.
    resize: one of i3d.RESIZES.
    batch_size: clips that go through the network together.
    known: training clips that it compares with, at most.

  Raises:
    ConfigError: other data, clips that are too short, an unknown resize, or weights that cannot be had.
  """
  require_clips(train.fields)
  extract = extractor(i3d_weights.load(weights_file), parallel, resize, batch_size)
  first = lambda video: extract(video[:, :FRAMES])
  real = _of_training(train, min(known, len(train)), first, resize)
  target, memory = population(real), memorization(train, test, "video")

  def features(samples, request):
    return {"logits": first(samples["video"])} | memory.features(samples["video"])

  def score(features):
    count = len(features["logits"])
    if count < 2:
      raise ConfigError(f"a Fréchet distance needs at least 2 samples, and there are {count}.")
    name = fid_name(count, "fvd")
    values = {name: frechet_distance(population(features["logits"]), target)} | memory.score(features)
    if min(count, len(real)) <= real.shape[1]:
      values[f"{name}_rank_deficient"] = 1.0
    return values

  settings = {
    "features": "I3D, Kinetics-400, logits",
    "weights": i3d_weights.PUBLISHED[:16],
    "frames": FRAMES,
    "resize": resize,
    "reference": f"{len(real)} clips of {train.fingerprint}",
    "memory": memory.reference,
  }
  return Metric(("video",), features, score, memory.floor, settings, near=FIGURES)


def population(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Mean [D] and population covariance [D, D] of features [N, D]."""
  moments = Moments.of(features)
  return moments.mean, moments.scatter / moments.count


def _of_training(train: Source, count: int, first, resize: str) -> np.ndarray:
  """Logits [count, D] of training clips, kept in the cache."""
  clips = "x".join(map(str, train.fields["video"].shape))
  settings = reference.Settings(train.fingerprint, "train", resize, i3d_weights.PUBLISHED, "i3d", clips)
  place = reference.place(settings).with_suffix(f".{count}.npy")
  features = cache.load(place, count)
  if features is None:
    rows = permutation(0, 0, len(train))[:count]
    features = np.concatenate(
      [first(train.read(part, ("video",))["video"]) for part in np.array_split(rows, -(-count // 256))]
    )
    with cache.keeping(place.parent):
      cache.save(place, features)
  return features
