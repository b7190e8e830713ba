"""python -m experiments.cifar10_minutes.judge WORKDIR --data=A.npz --inception=B.npz: FID of samples that were kept.

For samples that came back from a machine whose time was up. WORKDIR has samples_0.npz, samples_1.npz, ...; fid.json is
written there anew after every SLICE of reference images, and says how many there were. --kid=2000 has the kernel
distance of so many samples to as many images in it too, which few samples do not bias.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from diffjax.config import base
from diffjax.jobs import commandline
from diffjax.machine import atomic, parallel
from diffjax.metrics import inception_weights
from diffjax.metrics.frechet import distance_to, fid_name
from diffjax.metrics.inception import POOL3, extractor
from diffjax.metrics.kid import kid
from diffjax.metrics.moments import Moments
from experiments.cifar10_minutes.score import SLICE


def awaited(place: Path, until: float) -> Path:
  """The file, once it is there."""
  while not place.exists():
    if time.monotonic() > until:
      sys.exit(f"error: {place} is not there.")
    time.sleep(0.2)
  return place


def main(argv=None) -> None:
  """Judges."""
  parser = argparse.ArgumentParser("python -m experiments.cifar10_minutes.judge", allow_abbrev=False)
  parser.add_argument("workdir", type=Path)
  parser.add_argument("--data", type=Path, required=True, help="an npz of images, all of them the reference")
  parser.add_argument("--inception", type=Path, required=True, help="FID's network (npz)")
  parser.add_argument("--kid", type=int, default=0, help="samples, and images, of the kernel distance")
  parser.add_argument("--together", type=int, default=500, help="images that pass the network together")
  parser.add_argument("--wait", type=float, default=0.0, help="seconds to wait for the files")
  args = parser.parse_args(argv)
  if args.kid and args.kid < 4:
    parser.error(f"--kid={args.kid} must be at least 4, two subsets of two samples.")
  began = time.monotonic()
  until = began + args.wait
  commandline.prepare(base())
  weights = inception_weights.load(awaited(args.inception, until))
  extract = extractor(weights.variables, batch_size=args.together, parallel=parallel.create())

  def moments(images, start, first):
    features = extract(images).pool3
    first.append(features[: max(args.kid - sum(map(len, first)), 0)])
    return start.add(features)

  first_samples, first_images = [], []
  first = awaited(args.workdir / "samples_0.npz", until)
  samples = Moments.empty(POOL3)
  for file in sorted(first.parent.glob("samples_*.npz")):
    with np.load(file, allow_pickle=False) as arrays:
      samples = moments(arrays["images"], samples, first_samples)
  print(f"[{time.monotonic() - began:.1f} s] {samples.count} samples", flush=True)
  with np.load(awaited(args.data, until), allow_pickle=False) as arrays:
    images = arrays["images"]
  reference = Moments.empty(POOL3)
  for start in range(0, len(images), SLICE):
    reference = moments(images[start : start + SLICE], reference, first_images)
    results = {fid_name(samples.count): distance_to(reference)(samples), "reference_images": reference.count}
    results |= {"inception": weights.digest, "published": weights.published}
    if args.kid:
      x, y = np.concatenate(first_samples), np.concatenate(first_images)
      results["kid"] = kid(x, y, subset_size=min(1000, len(x) // 2, len(y) // 2))._asdict()
    atomic.write_json(args.workdir / "fid.json", results)
    print(f"[{time.monotonic() - began:.1f} s] {results}", flush=True)


if __name__ == "__main__":
  main()
