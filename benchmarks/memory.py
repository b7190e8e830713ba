"""python -m benchmarks.memory: the most memory a training process needs, ours and diffusers', by batch size.

Every figure is a process that takes two steps: on a CPU its largest resident size, imports included; on a GPU the
most its allocator held. They run in turn; the figures are medians, beside the largest distance from them.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from diffjax.machine import huge_pages

ROOT = Path(__file__).parents[1]
OURS = """
import resource
import jax
from benchmarks import ours
from diffjax.machine import memory
step = ours.training_step(ours.cifar10({batch}, {channels}, 32, "{dtype}"), ours.images({batch}, 32))
with memory.given_back_after_compiling():
  step(); step()
stats = jax.local_devices()[0].memory_stats() or {{}}
print(stats.get("peak_bytes_in_use", 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
"""
PEER = """
import resource
step(); step()
gpu = peer.PLACE == "cuda"
print(peer.torch.cuda.max_memory_allocated() if gpu else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def arguments() -> argparse.Namespace:
  """The command line's."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--batches", type=int, nargs="+", default=[8, 16])
  parser.add_argument("--channels", type=int, default=128)
  parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
  parser.add_argument("--rounds", type=int, default=3)
  return parser.parse_args()


def peak(script: str) -> float:
  """GiB that a script prints as bytes."""
  result = subprocess.run(
    [sys.executable, "-c", script],
    cwd=ROOT,
    env=os.environ | {"PYTHONPATH": str(ROOT)},
    check=True,
    capture_output=True,
    text=True,
  )
  return int(result.stdout.split()[-1]) / 2**30


def main() -> None:
  """Measures, prints and keeps."""
  from benchmarks import machine, ours, peer_process, report

  args, rows = arguments(), []
  for batch in args.batches:
    settings = {"batch": batch, "channels": args.channels, "dtype": args.dtype}
    peer = peer_process.script(
      ours.cifar10(batch, args.channels), (batch, 32, 32, 3), args.dtype == "bfloat16"
    )
    both = (OURS.format(**settings), peer + PEER)
    peaks = np.array([[peak(each) for each in both] for _ in range(args.rounds)])
    (own, theirs), spread = np.median(peaks, 0), np.abs(peaks - np.median(peaks, 0)).max(0)
    row = {
      "ours, GiB": own,
      "± ours": spread[0],
      "peer, GiB": theirs,
      "± peer": spread[1],
      "ratio": own / theirs,
    }
    rows.append(settings | {name: float(value) for name, value in row.items()})
  about = machine.description()
  report.write(f"memory-{about['backend']}-{args.dtype}", about, rows)


if __name__ == "__main__":
  huge_pages.ask()
  main()
