"""How clips of one moving digit keep their laws, which data/moving_digits.py knows exactly.

    trajectory    pixels, root mean square over the frames, between the centroid of a frame's grey values and the path
                  of equation (1) there that fits it best; the median over the clips, and their 90th percentile
    speed         pixels a frame along that path, the mean: a clip that stands still has no error but no speed
    identity      share of the frames in which a classifier reads the digit that it reads in most frames of the clip
    agreement     share of the frames in which it reads the class that was asked for
    look          grey values, 0 to 255, root mean square: how a digit changes over its frames, each about its centroid
    mass          standard deviation over the frames of all ink, of 1
    frechet_n     Fréchet distance of n clips to the held-out ones in the 64 features of another classifier, which reads
                  a clip's digit and way from all frames at once: it sees motion too, but not jitter

The classifier of frames knows crops about the centroid of training clips. The centroid is that of the scan's own grey
values at p_t, so a path is known up to where in the scan that is: which any scan's bounds. They are seen
from where the training clips begin.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, UInt8

from diffjax.data.moving_digits import bilinear, fold
from diffjax.data.source import Field, Source
from diffjax.machine.parallel import Parallel
from diffjax.metrics.classifier import train_classifier
from diffjax.metrics.frechet import frechet_distance
from diffjax.metrics.metric import Metric, of_data
from diffjax.metrics.moments import Moments
from diffjax.ranges import Count, Whole
from diffjax.types import ConfigError

MARGIN = 2  # pixels, by which a crop is wider than a scan
FASTER = 1.5  # times the fastest clip: the paths that are tried
SHORT = 8  # frames of a clip, up to which the grid of paths is the same; with longer ones it grows
TOGETHER = 64  # short clips whose paths are looked for at a time


def centroids(video: UInt8[np.ndarray, "n t h w 1"]) -> Float[np.ndarray, "n t 2"]:
  """Of the grey values, down and right in pixels; the middle where there are none."""
  grey = video[..., 0].astype(float)
  ink = grey.sum((2, 3))
  empty = ink == 0
  middle, ink = (grey.shape[-1] - 1) / 2, np.where(empty, 1, ink)
  place = np.arange(grey.shape[-1])
  centres = np.stack([grey.sum(3) @ place, grey.sum(2) @ place], -1) / ink[..., None]
  return np.where(empty[..., None], middle, centres)


def crops(video: UInt8[np.ndarray, "n t h w 1"], side: int) -> UInt8[np.ndarray, "n t c c 1"]:
  """side x side pixels about the centroid of every frame, read between pixels by their areas."""
  n, t, size = video.shape[:3]
  away = (side - 1) / 2 - centroids(video).reshape(-1, 2)  # where the frame's corner lies in the crop
  flat = bilinear(video.reshape(-1, size, size).astype(float), away + size, side + 2 * size)
  return np.rint(flat[:, size:-size, size:-size]).astype(np.uint8).reshape(n, t, side, side, 1)


def paths(
  centres: Float[np.ndarray, "n t 2"], room: float, fastest: float, within: tuple[float, float]
) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
  """(RMS distance, speed) of the paths nearest to centroids, over p_0, v and the centroid's place in the scan.

  The two coordinates are apart. Of each every (p_0, v) of a grid is tried, and thrice of a finer one about the best.
  The longer the clips, the nearer are its velocities to each other, so that their last places are as near in all.
  """
  longer = max(centres.shape[1] / SHORT, 1)
  rates, together = round(24 * longer), max(round(TOGETHER / longer**2), 1)
  parts = [
    _nearest(centres[start : start + together], room, fastest, within, rates)
    for start in range(0, max(len(centres), 1), together)
  ]
  error, velocity = (np.concatenate(part) for part in zip(*parts, strict=True))
  return np.sqrt(error.sum(-1)), np.hypot(*velocity.T)


def _nearest(centres, room, fastest, within, rates):
  n, frames, _ = centres.shape
  y = centres.transpose(0, 2, 1).reshape(-1, 1, frames)
  grid = np.linspace(0, room, 17), np.linspace(-fastest, fastest, 2 * rates + 1)
  begin, rate = (each.ravel() for each in np.meshgrid(*grid))
  begin, rate = np.broadcast_to(begin, (len(y), begin.size)), np.broadcast_to(rate, (len(y), rate.size))
  wide, fine = (room / 16, fastest / rates), np.linspace(-1, 1, 9)
  for _ in range(4):
    path = fold(begin[..., None] + rate[..., None] * np.arange(frames), room)
    away = np.clip((y - path).mean(-1, keepdims=True), *within)
    error = ((y - path - away) ** 2).mean(-1)
    best = error.argmin(1)[:, None]
    least, (at, v) = (
      np.take_along_axis(error, best, 1),
      (np.take_along_axis(p, best, 1) for p in (begin, rate)),
    )
    near = np.meshgrid(fine * wide[0], fine * wide[1])
    begin, rate = np.clip(at + near[0].ravel(), 0, room), v + near[1].ravel()
    wide = tuple(each / 4 for each in wide)
  return least.reshape(n, 2), v.reshape(n, 2)


def stacked(video: UInt8[np.ndarray, "n t h w 1"]) -> UInt8[np.ndarray, "n h w t"]:
  """Clips as images whose channels are their frames."""
  return np.moveaxis(video[..., 0], 1, -1)


def require_digits(fields: Mapping[str, Field]) -> None:
  """Raises ConfigError unless there are clips of one digit each, of which is known how it moves."""
  if not {"video", "velocity", "place"} <= fields.keys() or fields["label"].shape:
    raise ConfigError(
      "it needs the source 'moving_digits' with one digit a clip, and the data are others; leave it out."
    )


def side_of(source: Source) -> int:
  """Of a scan; sources made of the moving digits hold them as theirs."""
  while not hasattr(source, "side"):
    source = source.source
  return source.side


@of_data(require_digits)
def metric(
  train: Source,
  test: Source,
  parallel: Parallel,
  known: Count = 4096,
  reference: Count = 512,
  compared: Whole = 2048,
) -> Metric:
  """The metric.

  Args:
    train, test: clips of one digit each.
    parallel: the devices.
    known: training clips that the classifiers learn from, at most.
    reference: held-out clips that the floor is of, at most.
    compared: held-out clips that the Fréchet distance is to, at most; 0 for no such distance.

  Raises:
    ConfigError: other data.
  """
  require_digits(train.fields)
  clips = train.read(np.arange(min(len(train), known)), ("video", "label", "velocity", "place"))
  size = clips["video"].shape[2]
  side = side_of(train)
  frames = np.arange(len(clips["label"])) % clips["video"].shape[1]  # one of each clip
  glyphs = crops(clips["video"][np.arange(len(frames)), frames][:, None], side + MARGIN)[:, 0]
  reader = train_classifier(glyphs, clips["label"], 10)
  inside = centroids(clips["video"][:, :1])[:, 0] - clips["place"]
  room, fastest = size - side, FASTER * np.hypot(*clips["velocity"].T).max()

  def features(samples: Mapping[str, np.ndarray], request: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    video = samples["video"]
    near = crops(video, side + MARGIN)
    read = reader.predict(near.reshape(-1, *near.shape[2:])).reshape(near.shape[:2])
    error, speed = paths(centroids(video), room, fastest, (inside.min(), inside.max()))
    ink = video.astype(float).sum((2, 3, 4))
    arrays = {
      "trajectory": error,
      "speed": speed,
      "identity": np.eye(10)[read].mean(1).max(1),
      "look": near.astype(float).var(1).mean((1, 2, 3)),
      "mass": ink.std(1) / np.maximum(ink.mean(1), 1),
    }
    return arrays | ({"agreement": (read == request["label"][:, None]).mean(1)} if "label" in request else {})

  held_out = test.read(np.arange(min(len(test), reference)), ("video", "label"))
  floor = score(features(held_out, held_out))
  settings = {"known": len(frames), "reference": f"{len(held_out['label'])} clips of {test.fingerprint}"}
  plain = Metric(
    ("video",), features, score, floor, settings, higher=("identity", "agreement"), near=("speed",)
  )
  return with_distance(plain, train, test, clips, compared) if compared else plain


def with_distance(
  plain: Metric, train: Source, test: Source, clips: Mapping[str, np.ndarray], compared: int
) -> Metric:
  """The metric with the Fréchet distance to held-out clips; the floor is that of training clips not among `clips`."""
  down, right = clips["velocity"].T
  way = np.where(np.abs(down) >= np.abs(right), down > 0, 2 + (right > 0))
  judge = train_classifier(stacked(clips["video"]), 4 * clips["label"] + way, 40)
  see = lambda video: judge.features(stacked(video))
  held_out = test.read(np.arange(min(len(test), compared)), ("video",))["video"]
  reference = Moments.of(see(held_out))

  def distance(seen):
    if len(seen) < 2:
      return {}
    moments = Moments.of(seen)
    values = {f"frechet_{len(seen)}": frechet_distance(moments, reference)}
    return values | ({"frechet_rank_deficient": 1.0} if moments.rank_deficient else {})

  def floor_at(count):
    others = (len(clips["label"]) + np.arange(count)) % len(train)
    return distance(see(train.read(others, ("video",))["video"]))

  return dataclasses.replace(
    plain,
    features=lambda samples, request: plain.features(samples, request) | {"clip": see(samples["video"])},
    score=lambda features: plain.score(features) | distance(features["clip"]),
    settings=plain.settings | {"compared": f"{len(held_out)} clips of {test.fingerprint}"},
    floor_at=floor_at,
  )


def score(features: Mapping[str, np.ndarray]) -> dict[str, float]:
  """The figures of the module's docstring.

  Raises:
    ConfigError: there are no samples.
  """
  if not len(features["trajectory"]):
    raise ConfigError("a median needs at least 1 sample, and there are 0.")
  values = {
    "trajectory": np.median(features["trajectory"]),
    "trajectory_p90": np.quantile(features["trajectory"], 0.9),
  }
  values |= {
    name: features[name].mean() for name in ("speed", "identity", "agreement", "mass") if name in features
  }
  return {name: float(value) for name, value in values.items()} | {
    "look": float(np.sqrt(features["look"].mean()))
  }
