"""python -m benchmarks.data: images/s of the input pipeline, ours and PyTorch's DataLoader, and what steps wait.

50,000 images of CIFAR-10's shape in memory, batches of --batch in random order as uint8; flips and scaling are
part of the training step on both sides. The input-bound fraction is measured with a loop that does nothing but
pause --step_s seconds a step: the share of the time for which it waits for its next batch. An accelerator leaves
the processor free as the pause does; the copy to its memory is not in it.
"""

import argparse
import contextlib
import itertools
import time

import numpy as np

IMAGES = 50_000


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
  parser.add_argument("--rounds", type=int, default=5)
  return parser.parse_args()


def reading(images: np.ndarray, args: argparse.Namespace):
  """Batches, read ahead as training does."""
  from diffjax.data.pipeline import batches
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


def peer(images: np.ndarray, args: argparse.Namespace):
  """The usual DataLoader over a TensorDataset."""
  import torch

  pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
  loader = torch.utils.data.DataLoader(
    torch.utils.data.TensorDataset(pixels),
    args.batch,
    shuffle=True,
    num_workers=args.workers,
    drop_last=True,
    persistent_workers=args.workers > 0,
  )

  def read():
    for _ in itertools.islice(loader, args.batches):
      pass

  return read


def main() -> None:
  """Measures, prints and keeps."""
  from benchmarks import machine, report, turns
  from benchmarks.ours import images

  args = arguments()
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
