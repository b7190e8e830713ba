"""scikit-learn's digits: 1,797 scanned 8x8 digits that come with the package (Alpaydin & Kaynak 1998)."""

import functools
import importlib.util
from pathlib import Path

import numpy as np

from diffjax.data.source import ArraySource, fingerprint

FILE = "datasets/data/digits.csv.gz"
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@functools.cache
def _table() -> np.ndarray:
  """[1797, 65]: the pixels and the label of every digit."""
  package = importlib.util.find_spec("sklearn")  # to import it takes more than a second
  place = package and Path(package.origin).parent / FILE
  if place and place.exists():
    return np.loadtxt(place, delimiter=",")
  from sklearn.datasets import load_digits

  return np.column_stack(load_digits(return_X_y=True))


def digits(split: str) -> ArraySource:
  """The digits, grey values 0..16 spread over 0..255; every fifth of each class is held out."""
  images, labels = np.split(_table(), [64], axis=1)
  labels = labels[:, 0].astype(np.int32)
  images = np.round(images * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
  rank = np.zeros(len(labels), int)
  for label in range(10):
    rank[labels == label] = np.arange(np.sum(labels == label))
  mask = (rank % 5 == 4) == (split == "test")
  images, labels = images[mask], labels[mask]
  key = fingerprint("digits", split, images, labels)
  return ArraySource({"image": images, "label": labels}, key, {"label": 10}, names={"label": NAMES})
