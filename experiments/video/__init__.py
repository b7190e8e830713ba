"""Clips of moving digits under known damage, by which their metric is judged: damage.md and damage.png."""

from collections.abc import Mapping

import numpy as np

from diffjax.data.moving_digits import SIDE, MovingDigits, Paths, fold

SPREAD = 0.85  # of a random walk's steps, in pixels


def damaged(source: MovingDigits, index: np.ndarray) -> Mapping[str, np.ndarray]:
  """Kind of damage -> uint8 [n, T, H, W, 1]: clips of the source of these numbers, first as they are."""
  rng = np.random.default_rng(0)
  paths, data = source.paths(index), source.read(index, ("video", "label"))
  video, places, scans, room = data["video"], paths.places, paths.scans, source.size - SIDE
  labels = source.scans.arrays["label"]

  def again(scans, places):
    return source.clips(Paths(scans, places, paths.velocity, paths.moving))

  def jitter(pixels):
    return again(scans, np.clip(places + rng.normal(0, pixels, places.shape), 0, room))

  def noise(share):
    return np.clip(video + rng.normal(0, 255 * share, video.shape), 0, 255).astype(np.uint8)

  order = np.argsort(rng.uniform(size=video.shape[:2]), axis=1)
  alike = np.stack([rng.choice(np.flatnonzero(labels == label), scans.shape[1:]) for label in data["label"]])
  walk = fold(places[:, :1] + np.cumsum(rng.normal(0, SPREAD, places.shape), axis=1), room)
  return {
    "held out": video,
    "shuffled": np.take_along_axis(video, order[:, :, None, None, None], 1),
    "frozen": np.repeat(video[:, :1], video.shape[1], axis=1),
    "same class": again(alike, places),
    "any digit": again(rng.integers(0, len(labels), scans.shape), places),
    "walk": again(scans, walk),
    "jitter 0.25": jitter(0.25),
    "jitter 0.5": jitter(0.5),
    "noise 0.1": noise(0.1),
    "noise 0.2": noise(0.2),
  }
