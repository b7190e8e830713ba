"""python -m benchmarks.startup: --help, the first training step, and compile times.

Every figure is a process of its own, started in turn: main.py --help, one step of configs/digits.py with an empty
and with a filled compile cache; the peer is one step of a diffusers U-Net of the same shape in PyTorch, imports
included. The CIFAR-10 step's compile time is that of jax alone (--no_cifar10 leaves it out).
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PEER_STEP = """
from benchmarks import ours, peer
from configs import digits
config = digits.get_config()
config.model.unet.channels, config.model.unet.multipliers = 32, (1, 2)
peer.training_step(config, ours.images(64, 8))()
"""
COMPILE = """
import time
from benchmarks import ours
config = ours.cifar10({batch})
step = ours.training_step(config, ours.images({batch}, 32))
wall, cpu = time.perf_counter(), time.process_time()
step()
print(time.perf_counter() - wall, time.process_time() - cpu)
"""


def arguments() -> argparse.Namespace:
  """The command line's."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--batch", type=int, default=8, help="of the CIFAR-10 step")
  parser.add_argument("--no_cifar10", action="store_true")
  return parser.parse_args()


def process(*command: str, home: str | None = None) -> str:
  """Runs Python in the repository; what it prints. `home` is where the compile cache is kept."""
  changed = {"PYTHONPATH": str(ROOT)} | ({"HOME": home} if home else {})
  done = subprocess.run(
    [sys.executable, *command], cwd=ROOT, env=os.environ | changed, check=True, capture_output=True, text=True
  )
  return done.stdout


def one_step(home: str) -> None:
  """main.py until one step is trained, with nothing drawn, in a workdir of its own."""
  with tempfile.TemporaryDirectory() as workdir:
    process(
      "main.py",
      "--config=configs/digits.py",
      f"--workdir={workdir}/run",
      "--config.train.steps=1",
      "--config.train.warmup=0",
      "--config.log.every=1",
      "--config.checkpoint.every=1",
      "--config.log.samples=1",
      "--config.log.held_out=0",
      "--config.sample.steps=1",
      home=home,
    )


def main() -> None:
  """Measures, prints and keeps."""
  given = arguments()
  with tempfile.TemporaryDirectory() as filled:

    def cold():
      with tempfile.TemporaryDirectory() as empty:
        one_step(empty)

    from benchmarks import machine, report, turns

    candidates = {
      "--help": lambda: process("main.py", "--help"),
      "first step, cold": cold,
      "first step, cached": lambda: one_step(filled),
      "peer's first step": lambda: process("-c", PEER_STEP),
    }
    times = turns.in_turn(candidates, given.rounds, warm=1)
  rows = [report.row({"process": each}, what=name) for name, each in times.items()]
  if not given.no_cifar10:
    wall, cpu = map(float, process("-c", COMPILE.format(batch=given.batch)).split())
    rows.append(
      {"what": f"CIFAR-10 step, batch {given.batch}: trace, compile, run", "wall, s": wall, "cpu, s": cpu}
    )
  report.write("startup", machine.description(), rows)


if __name__ == "__main__":
  main()
