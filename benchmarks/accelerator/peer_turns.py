"""The peer in a process of its own, which times what it is asked on standard input, one line of JSON each.

    {"do": "train", "batch": 128, "count": 20}       seconds of so many steps; the first time it compiles
    {"do": "sample", "batch": 256, "count": 50}      seconds of a walk of so many steps, DDIM

It answers every line with one of its own: {"seconds": ...} or {"error": ...}.
"""

import argparse
import json
import sys
import time

import numpy as np
from ml_collections import ConfigDict


def main() -> None:
  """Serves until the input ends."""
  parser = argparse.ArgumentParser()
  parser.add_argument(
    "--config", required=True, help="of the network, the optimizer and the schedule, as JSON"
  )
  parser.add_argument("--compiled", default="", help="torch.compile's mode; empty for eager")
  args = parser.parse_args()
  import torch

  from benchmarks import peer

  config, programs = ConfigDict(json.loads(args.config)), {}
  size = 32

  def finish():
    if peer.PLACE == "cuda":
      torch.cuda.synchronize()

  def step(batch):
    pixels = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), np.uint8)
    return peer.training_step(config, pixels, args.compiled or False, half=True, waits=False)

  def walk(batch, count):
    net = peer.unet(config.model.unet, size).eval()
    return peer.sampling(net, "ddim", 50, count, batch, args.compiled or False, half=True)

  def timed(do, batch, count):
    if (do, batch) not in programs:
      programs[do, batch] = step(batch) if do == "train" else walk(batch, count)
      for _ in range(3 if do == "train" else 1):
        programs[do, batch]()
      finish()
    began = time.perf_counter()
    for _ in range(count if do == "train" else 1):
      programs[do, batch]()
    finish()
    return {"seconds": time.perf_counter() - began}

  for line in sys.stdin:
    try:
      answer = timed(**json.loads(line))
    except Exception as error:  # told to whoever asked
      answer = {"error": f"{type(error).__name__}: {error}"[:500]}
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
  main()
