"""scikit-learn's digits: 1,797 scanned 8x8 digits that come with the package (Alpaydin & Kaynak 1998)."""

import numpy as np

from diffjax.data.source import ArraySource, fingerprint


def digits(split: str) -> ArraySource:
  """The digits, grey values 0..16 spread over 0..255; every fifth of each class is held out."""
  from sklearn.datasets import load_digits

  images, labels = load_digits(return_X_y=True)
  images = np.round(images * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
  rank = np.zeros(len(labels), int)
  for label in range(10):
    rank[labels == label] = np.arange(np.sum(labels == label))
  chosen = (rank % 5 == 4) == (split == "test")
  images, labels = images[chosen], labels[chosen].astype(np.int32)
  return ArraySource(images, labels, 10, fingerprint("digits", split, images, labels))
