"""python -m benchmarks.data: images/s of the input pipeline, ours and PyTorch's DataLoader, and what steps wait.

50,000 images of CIFAR-10's shape in memory, batches of --batch in random order as uint8; flips and scaling are
part of the training step on both sides. The input-bound fraction is measured with a loop that does nothing but
pause --step_s seconds a step: the share of the time for which it waits for its next batch. An accelerator leaves
the processor free as the pause does; the copy to its memory is not in it.

--folder reads a folder of JPEGs instead that is not kept in memory, which both sides decode and resize with Pillow,
and says what of our processor time decoding and resizing are: what is left is all that could be saved.
"""

import argparse
import contextlib
import itertools
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from diffjax.data.folder import image_folder
from diffjax.data.images import opened, square
from diffjax.data.pipeline import batches

IMAGES = 50_000
FILES, SIDE, SIZE = 3000, 128, 64  # JPEGs, their pixels, and those that are wanted
SOME = 500  # of them, whose parts are timed


def arguments() -> argparse.Namespace:
  """The command line's."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--batch", type=int, default=128)
  parser.add_argument("--batches", type=int, default=100, help="in one round")
  parser.add_argument("--chunk", type=int, default=1, help="steps per item of ours")
  parser.add_argument("--workers", type=int, default=2, help="processes of the peer")
  parser.add_argument(
    "--step_s", type=float, nargs="*", default=[0.02, 0.01, 0.005, 0.002], help="of a batch"
  )
  parser.add_argument("--folder", action="store_true", help="read files, in batches of 32 and of --batch")
  parser.add_argument("--rounds", type=int, default=5)
  return parser.parse_args()


def reading(images: np.ndarray, args: argparse.Namespace):
  """Batches, read ahead as training does."""
  from diffjax.data.source import ArraySource

  source = ArraySource({"image": images}, "made up")
  return batches(source, seed=0, start_step=0, batch_size=args.batch, chunk=args.chunk)


def ours(images: np.ndarray, args: argparse.Namespace):
  """Reads batches as training does."""

  def read():
    opened = contextlib.ExitStack()
    ahead = opened.enter_context(reading(images, args))
    for item in itertools.islice(ahead, args.batches // args.chunk):
      item["image"].sum(dtype=np.int64, where=False)
    return opened.close

  return read


def waited(images: np.ndarray, args: argparse.Namespace, step_s: float) -> float:
  """The share of the time for which a loop that is busy `step_s` a step waits for batches, after the first."""
  waits = 0.0
  with reading(images, args) as ahead:
    next(ahead)
    begin = time.perf_counter()
    for _ in range(args.batches // args.chunk):
      time.sleep(step_s * args.chunk)
      before = time.perf_counter()
      next(ahead)
      waits += time.perf_counter() - before
    return waits / (time.perf_counter() - begin)


def loader(dataset, batch: int, workers: int):
  """The usual DataLoader."""
  import torch

  return torch.utils.data.DataLoader(
    dataset, batch, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=workers > 0
  )


def peer(images: np.ndarray, args: argparse.Namespace):
  """A DataLoader over a TensorDataset."""
  import torch

  pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
  loading = loader(torch.utils.data.TensorDataset(pixels), args.batch, args.workers)

  def read():
    for _ in itertools.islice(loading, args.batches):
      pass

  return read


def pictures(place: Path, count: int = FILES) -> list[Path]:
  """JPEGs of soft colours with a little noise."""
  random, files = np.random.default_rng(0), []
  for number in range(count):
    small = Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8))
    soft = np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.int16)
    noisy = np.clip(soft + random.integers(-8, 9, soft.shape), 0, 255).astype(np.uint8)
    files.append(place / f"{number:05}.jpg")
    Image.fromarray(noisy).save(files[-1], quality=90)
  return files


def ours_of_files(place: Path, batch: int):
  """Reads every file about once, in our order."""
  source = image_folder("train", str(place), SIZE, test_fraction=0.0, memory=0)

  def read():
    begun = contextlib.ExitStack()
    ahead = begun.enter_context(batches(source, seed=0, start_step=0, batch_size=batch))
    for _ in itertools.islice(ahead, len(source) // batch):
      pass
    return begun.close

  return read


def peer_of_files(files: list[Path], batch: int, workers: int):
  """Reads them by a DataLoader whose workers do the same to each."""
  import torch

  class Files(torch.utils.data.Dataset):
    """The usual one."""

    def __len__(self):
      """Files."""
      return len(files)

    def __getitem__(self, index):
      """uint8 [3, SIZE, SIZE]."""
      with Image.open(files[index]) as image:
        small = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS)
      return torch.from_numpy(np.array(small).transpose(2, 0, 1))

  loading = loader(Files(), batch, workers)

  def read():
    for _ in loading:
      pass

  return read


def parts(files: list[Path]) -> dict[str, float]:
  """Milliseconds of one thread for an image: decoding it, and cutting and resizing it."""
  clocks = [time.process_time()]
  decoded = [opened(file, 3).image for file in files]
  clocks.append(time.process_time())
  for image in decoded:
    square(image, SIZE)
  clocks.append(time.process_time())
  decode, resize = np.diff(clocks) * 1e3 / len(files)
  return {"decode, ms": float(decode), "resize, ms": float(resize)}


def of_files(args: argparse.Namespace) -> list[dict]:
  """Rows of a folder's reading."""
  from benchmarks import report, turns

  rows = []
  with tempfile.TemporaryDirectory() as name:
    files = pictures(Path(name))
    alone = parts(files[:SOME])
    for batch in dict.fromkeys((32, args.batch)):
      sides = {
        "ours": ours_of_files(Path(name), batch),
        "peer": peer_of_files(files, batch, args.workers),
      }
      times = turns.in_turn(sides, args.rounds, warm=1)
      own, count = times["ours"], len(files) // batch * batch
      row = report.row(times, files=len(files), batch=batch, workers=args.workers)
      del row["cpu_ratio"]  # the peer reads in other processes
      row |= {f"{name} images/s": count / each.median for name, each in times.items()}
      row |= {"cores busy": sum(own.cpu) / sum(own.wall), "an image, ms": 1e3 * np.median(own.cpu) / count}
      rows.append(row | alone)
  return rows


def main() -> None:
  """Measures, prints and keeps."""
  from benchmarks import machine, report, turns
  from benchmarks.ours import images

  args = arguments()
  if args.folder:
    report.write("data-folder", machine.description(), of_files(args))
    return
  if args.batches % args.chunk:
    raise SystemExit(f"--batches={args.batches} is no multiple of --chunk={args.chunk}.")
  pixels = images(IMAGES, 32)
  times = turns.in_turn({"ours": ours(pixels, args), "peer": peer(pixels, args)}, args.rounds, warm=1)
  row = report.row(times, batch=args.batch, chunk=args.chunk, workers=args.workers)
  del row["cpu_ratio"]  # the peer reads in other processes
  for name, each in times.items():
    row[f"{name} images/s"] = args.batch * args.batches / each.median
  rows = [row]
  for step_s in args.step_s:
    shares = [waited(pixels, args, step_s) for _ in range(args.rounds)]
    bound = {"input-bound fraction": float(np.median(shares)), "most": max(shares)}
    rows.append({"batch": args.batch, "chunk": args.chunk, "step, s": step_s} | bound)
  report.write("data", machine.description(), rows)


if __name__ == "__main__":
  main()
