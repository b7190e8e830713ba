"""python -m benchmarks.accelerator.pack DIR --cifar10=A.npz --inception=B.npz: what a machine without network needs.

Writes cifar10.packed (the training images and labels, 80 MB of 154; lossless.py) and inception.packed (FID's network,
73 MB of 87: its exponents alone can be made smaller). --pieces=60e6 cuts each into pieces for a connection that takes
so many bytes at a time, and unpack.py joins these again. Everything is checked by a SHA-256 of the arrays.
"""

import argparse
import hashlib
import zlib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.accelerator import lossless

CHUNKS = 16
FITTED = 20_000  # images to which the weights of the prediction are fitted


def digest(*arrays: np.ndarray) -> str:
  """SHA-256 of the bytes of arrays, one after the other."""
  sha = hashlib.sha256()
  for array in arrays:
    sha.update(np.ascontiguousarray(array).tobytes())
  return sha.hexdigest()


def images(images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
  """The arrays of a packed set: uint8 [N, H, W, 3], and labels 0..255 [N]."""
  weights = lossless.fit(images[:FITTED])
  cuts = lossless.levels(images[:1000], weights)
  parts = np.array_split(images, CHUNKS)
  with ProcessPoolExecutor() as pool:
    streams = list(pool.map(lossless.pack, parts, [weights] * CHUNKS, [cuts] * CHUNKS))
  return {
    "weights": weights,
    "cuts": cuts,
    "labels": labels.astype(np.uint8),
    "counts": np.array([len(part) for part in parts]),
    "size": np.array(images.shape[1:3]),
    "lengths": np.array([[len(stream) for stream in part] for part in streams]),
    "streams": np.frombuffer(b"".join(stream for part in streams for stream in part), np.uint8),
    "sha256": np.array(digest(images)),
  }


def tensors(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The arrays of packed float32 tensors: exponents with the signs behind them are bytes of their own."""
  names = sorted(arrays)
  flat = np.concatenate([arrays[name].ravel() for name in names]).astype("<f4")
  words = flat.view("<u4")
  planes = ((words << 1) | (words >> 31)).view(np.uint8).reshape(-1, 4)
  return {
    "names": np.array(names),
    "shapes": np.array([",".join(map(str, arrays[name].shape)) for name in names]),
    "low": np.ascontiguousarray(planes[:, :3].T),
    "high": np.frombuffer(zlib.compress(planes[:, 3].tobytes(), 9), np.uint8),
    "sha256": np.array(digest(flat)),
  }


def cut(file: Path, most: int) -> None:
  """Cuts a file into pieces of at most so many bytes, NAME.0, NAME.1, ..., which take its place."""
  data = file.read_bytes()
  for number, start in enumerate(range(0, len(data), most)):
    file.with_name(f"{file.name}.{number}").write_bytes(data[start : start + most])
  file.unlink()


def main() -> None:
  """Packs."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("out", type=Path)
  parser.add_argument("--cifar10", type=Path, help="npz of images and labels")
  parser.add_argument("--inception", type=Path, help="npz of tensors (metrics/inception_weights.py)")
  parser.add_argument(
    "--pieces", type=float, default=0, help="bytes of a piece at most; default: whole files"
  )
  args = parser.parse_args()
  if args.pieces and not 1 <= args.pieces < float("inf"):
    parser.error(f"--pieces={args.pieces:g} is no number of bytes.")
  if not (args.cifar10 or args.inception):
    parser.error("nothing to pack; name --cifar10, --inception or both.")
  for flag in ("cifar10", "inception"):
    if (place := getattr(args, flag)) and not place.is_file():
      parser.error(f"--{flag}={place} is no file.")
  args.out.mkdir(parents=True, exist_ok=True)
  packing = {
    "cifar10": lambda file: images(file["images"], file["labels"]),
    "inception": lambda file: tensors({name: file[name] for name in file.files}),
  }
  for flag, packed in packing.items():
    if not getattr(args, flag):
      continue
    with np.load(getattr(args, flag), allow_pickle=False) as file:
      arrays = packed(file)
    place = args.out / f"{flag}.packed"
    for old in args.out.glob(f"{place.name}.*"):  # pieces of another size, which would be joined with these
      old.unlink()
    with place.open("wb") as out:
      np.savez(out, **arrays)
    if args.pieces:
      cut(place, int(args.pieces))
  for file in sorted(args.out.glob("*.packed*")):
    print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
  main()
