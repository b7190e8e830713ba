"""python -m benchmarks.accelerator.unpack PIECES OUT: joins what pack.py made, as far as it is there.

PIECES holds NAME.packed, or its pieces NAME.packed.0, .1, ...; OUT gets cifar10.npz (images, labels) and inception.npz.
A file whose pieces are not all there is left for a later call; one with other bytes than were packed is refused.
"""

import argparse
import io
import zipfile
import zlib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.accelerator import lossless
from benchmarks.accelerator.pack import digest
from diffjax.machine import atomic


def images(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """images uint8 [N, H, W, 3] and labels [N] of `pack.images`.

  Raises:
    ValueError: they are not those that were packed.
  """
  lengths = arrays["lengths"]
  ends = np.cumsum(lengths).reshape(lengths.shape)
  data, parts = arrays["streams"].tobytes(), len(lengths)
  streams = [
    [data[end - length : end] for end, length in zip(*row, strict=True)]
    for row in zip(ends, lengths, strict=True)
  ]
  size = tuple(int(n) for n in arrays["size"])
  with ProcessPoolExecutor() as pool:
    shared = ([size] * parts, [arrays["weights"]] * parts, [arrays["cuts"]] * parts)
    whole = np.concatenate(list(pool.map(lossless.unpack, streams, arrays["counts"].tolist(), *shared)))
  _require(whole, arrays)
  return {"images": whole, "labels": arrays["labels"].astype(np.int32)}


def tensors(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The tensors of `pack.tensors`; raises ValueError as `images` does."""
  high = np.frombuffer(zlib.decompress(arrays["high"].tobytes()), np.uint8)
  words = np.ascontiguousarray(np.concatenate([arrays["low"], high[None]]).T).view("<u4").ravel()
  flat, at, out = ((words >> 1) | (words << 31)).view("<f4"), 0, {}
  _require(flat, arrays)
  for name, shape in zip(arrays["names"], arrays["shapes"], strict=True):
    shape = tuple(int(n) for n in str(shape).split(",")) if str(shape) else ()
    count = int(np.prod(shape))
    out[str(name)] = flat[at : at + count].reshape(shape)
    at += count
  return out


def _require(array: np.ndarray, arrays: dict[str, np.ndarray]) -> None:
  if digest(array) != str(arrays["sha256"]):
    raise ValueError("what was unpacked is not what was packed; its SHA-256 differs.")


def joined(folder: Path, name: str) -> dict[str, np.ndarray] | None:
  """The arrays of NAME.packed, or of its pieces; None where they are not all there."""
  whole = folder / f"{name}.packed"
  pieces = [whole] if whole.exists() else []
  while not whole.exists() and (piece := folder / f"{name}.packed.{len(pieces)}").exists():
    pieces.append(piece)
  try:
    with np.load(io.BytesIO(b"".join(p.read_bytes() for p in pieces)), allow_pickle=False) as file:
      return {key: file[key] for key in file.files}
  except (zipfile.BadZipFile, EOFError, ValueError):  # an npz's table of contents stands at its end
    return None


KINDS = {"cifar10": images, "inception": tensors}


def main() -> None:
  """Unpacks what there is and not unpacked yet."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("pieces", type=Path)
  parser.add_argument("out", type=Path)
  args = parser.parse_args()
  if not args.pieces.is_dir():
    parser.error(f"{args.pieces} is no folder.")
  for name, kind in KINDS.items():
    place = args.out / f"{name}.npz"
    if place.exists():
      continue
    arrays = joined(args.pieces, name)
    if arrays is None:
      print(f"{name}: not all pieces are there")
      continue
    with atomic.writing(place) as file:
      np.savez(file, **kind(arrays))
    print(f"{place}: unpacked")


if __name__ == "__main__":
  main()
