"""python -m experiments.cifar10_inception: FID, KID, precision and recall of 5,000 test and training images.

The first images of each split in the order of the original release, which TFDS keeps in the records' ids.
Features are kept in the cache in parts, with the seconds that each took, so that a stopped run goes on; the
table is printed, and that of 5,000 images and both networks written beside this file.
"""

import argparse
import os
import pathlib
import sys
import time
import zipfile

import numpy as np

from diffjax.data import SOURCES, cache
from diffjax.machine import atomic
from diffjax.metrics import inception_weights
from diffjax.metrics.frechet import fid_name
from diffjax.metrics.kid import kid
from diffjax.metrics.manifold import neighbours
from diffjax.metrics.moments import Moments
from diffjax.types import ConfigError
from experiments.cifar10_inception.networks import DISTANCES, NETWORKS

HERE = pathlib.Path(__file__).parent
SPLITS = ("test", "train")
PART = 250  # images whose features are kept together
LEAST, MOST = 6, 10_000  # images that the metrics need, and that the test split has


def first_images(split: str, count: int, data_dir: str | None) -> np.ndarray:
  """uint8 [count, 32, 32, 3]: the first images of a split of CIFAR-10 as it was released."""
  import tensorflow_datasets

  SOURCES["tfds"](split, data_dir=data_dir)  # says what is wrong if the set is not there
  data_dir = data_dir or os.environ.get("TFDS_DATA_DIR")
  records = tensorflow_datasets.data_source("cifar10", split=split, data_dir=data_dir, download=False)
  images = np.empty((count, 32, 32, 3), np.uint8)
  for record in records:
    name = record["id"]
    place = int((name.decode() if isinstance(name, bytes) else name).rsplit("_", 1)[1])
    if place < count:
      images[place] = record["image"]
  return images


def features(network: str, images: dict[str, np.ndarray], options: argparse.Namespace):
  """pool3 features by split [count, 2048], and the seconds that the network took for all of them."""
  digest = inception_weights.load(options.weights).digest[:16]
  folder = cache.folder() / "cifar10_inception"
  parts, seconds, extract = {split: [] for split in SPLITS}, 0.0, None
  for start in range(0, options.count, PART):
    for split in SPLITS:
      batch = images[split][start : start + PART]
      place = folder / f"{network}-{digest}-{split}-{start:05d}-{len(batch)}.npz"
      entry = _load(place)
      if entry is None:
        if extract is None:
          extract = NETWORKS[network](options.weights, options.batch_size)
          extract(batch[: options.batch_size])  # compile outside the time
        began = time.perf_counter()
        entry = extract(batch), time.perf_counter() - began
        with atomic.writing(place) as file:
          np.savez(file, features=entry[0], seconds=np.array(entry[1]))
        print(
          f"{network} {split} {start + len(batch)}: {len(batch) / entry[1]:.2f} images/s", file=sys.stderr
        )
      parts[split].append(entry[0])
      seconds += entry[1]
  return {split: np.concatenate(part) for split, part in parts.items()}, seconds


def _load(place: pathlib.Path) -> tuple[np.ndarray, float] | None:
  try:
    with np.load(place, allow_pickle=False) as file:
      return file["features"], float(file["seconds"])
  except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
    return None


def values(network: str, test: np.ndarray, train: np.ndarray) -> dict[str, float]:
  """The metrics of the test images against the training images, as the network's own package has them."""
  distances = kid(test, train, subset_size=min(1000, len(test) // 2))
  return {
    fid_name(len(test)): DISTANCES[network](_gaussian(test), _gaussian(train)),
    "kid": distances.value,
    "kid_standard_error": distances.standard_error,
    **neighbours(train, test),
  }


def _gaussian(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  moments = Moments.empty(x.shape[1]).add(x)
  return moments.mean, moments.covariance


def table(rows: dict[str, dict[str, float]]) -> str:
  """A Markdown table with a row for each network."""
  names = list(next(iter(rows.values())))
  lines = ["| network | " + " | ".join(names) + " |", "|---" * (1 + len(names)) + "|"]
  for network, row in rows.items():
    lines.append(f"| {network} | " + " | ".join(f"{row[name]:.6g}" for name in names) + " |")
  return "\n".join(lines) + "\n"


def main() -> None:
  """Prints and writes the table."""
  parser = argparse.ArgumentParser(prog="python -m experiments.cifar10_inception", description=__doc__)
  parser.add_argument("--count", type=int, default=5000, help="images of each split")
  parser.add_argument("--networks", default="diffjax", help=f"some of {','.join(NETWORKS)}")
  parser.add_argument("--data_dir", help="of TFDS; default $TFDS_DATA_DIR or ~/tensorflow_datasets")
  parser.add_argument("--weights", help="npz or pth; default as in diffjax/metrics/inception_weights.py")
  parser.add_argument("--batch_size", type=int, default=50)
  options = parser.parse_args()
  try:
    if not LEAST <= options.count <= MOST or options.batch_size < 1:
      raise ConfigError(
        f"--count is {options.count} and --batch_size {options.batch_size}; the metrics need {LEAST} images of each "
        f"split, the test split has {MOST}, and a batch at least 1."
      )
    names = options.networks.split(",")
    if unknown := set(names) - NETWORKS.keys():
      raise ConfigError(f"--networks names {', '.join(unknown)}; it must be some of {', '.join(NETWORKS)}.")
    images = {split: first_images(split, options.count, options.data_dir) for split in SPLITS}
    rows, arrays = {}, {}
    for name in names:
      arrays[name], seconds = features(name, images, options)
      rows[name] = values(name, arrays[name]["test"], arrays[name]["train"])
      rows[name] |= {"seconds": seconds, "images_per_second": 2 * options.count / seconds}
  except ConfigError as error:
    sys.exit(str(error))
  text = table(rows)
  if len(names) == 2:
    one, two = (np.concatenate([arrays[name][split] for split in SPLITS]) for name in names)
    text += f"\nLargest difference of a feature: {np.abs(one - two).max():.3g}\n"
  print(text)
  if options.count == 5000 and len(names) == len(NETWORKS):
    (HERE / "table.md").write_text(text)


if __name__ == "__main__":
  main()
