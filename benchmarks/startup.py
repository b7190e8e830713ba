"""python -m benchmarks.startup: --help, the first training step, and compile times.

Every figure is a process of its own, started in turn: main.py --help; configs/digits.py until the metrics of its
first step are on the disk, with an empty and with a filled compile cache; the peer is one step of a diffusers U-Net
of the same shape in PyTorch, imports included, and `ratio` is to that. The CIFAR-10 step's compile time is that of
jax alone (--no_cifar10 leaves it out).
"""

import argparse
import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
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


def process(*command: str) -> str:
  """Runs Python in the repository; what it prints."""
  result = subprocess.run(
    [sys.executable, *command],
    cwd=ROOT,
    env=os.environ | {"PYTHONPATH": str(ROOT)},
    check=True,
    capture_output=True,
    text=True,
  )
  return result.stdout


def first_step(home: str) -> Callable[[], None]:
  """main.py until the metrics of one step are on the disk; `home` is where the compile cache is kept.

  Returns:
    What waits until the process has drawn and saved, and so filled the cache.
  """
  settings = ("train.steps=1", "train.warmup=0", "log.every=1", "checkpoint.every=1", "sample.steps=1")
  folder = Path(tempfile.mkdtemp())
  command = ["main.py", "--config=configs/digits.py", f"--workdir={folder}", *settings]
  command = [sys.executable, *(f"--config.{each}" if each in settings else each for each in command)]
  metrics, log = folder / "metrics.jsonl", folder / "terminal.txt"
  with log.open("wb") as file:
    env = {name: v for name, v in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"} | {"HOME": home}
    child = subprocess.Popen(command, cwd=ROOT, env=env, stdout=file, stderr=file)

  def finish():
    if child.wait():
      raise RuntimeError(f"{' '.join(command)} failed:\n{log.read_text()}")
    shutil.rmtree(folder)

  while not (metrics.exists() and metrics.stat().st_size):
    if child.poll() is not None:
      finish()
    time.sleep(0.02)
  return finish


def main() -> None:
  """Measures, prints and keeps."""
  args = arguments()
  with tempfile.TemporaryDirectory() as filled:

    def cold():
      empty = tempfile.TemporaryDirectory()
      finish = first_step(empty.name)
      return lambda: (finish(), empty.cleanup())

    from benchmarks import machine, peer_process, report, turns
    from configs import digits

    peer = peer_process.script(digits.get_config(), (64, 8, 8, 3)) + "step()"

    candidates = {
      "--help": lambda: process("main.py", "--help"),
      "first step, cold": cold,
      "first step, cached": lambda: first_step(filled),
      "peer's first step": lambda: process("-c", peer),
    }
    times = turns.in_turn(candidates, args.rounds, warm=1)
  times = {name: dataclasses.replace(each, cpu=()) for name, each in times.items()}  # cpu was this process's
  rows = [report.row({"process": each}, what=name) for name, each in times.items()]
  for row in rows[1:3]:
    row["ratio"] = times[row["what"]].ratio(times["peer's first step"])
  if not args.no_cifar10:
    wall, cpu = map(float, process("-c", COMPILE.format(batch=args.batch)).split())
    rows.append(
      {"what": f"CIFAR-10 step, batch {args.batch}: trace, compile, run", "wall, s": wall, "cpu, s": cpu}
    )
  report.write("startup", machine.description(), rows)


if __name__ == "__main__":
  main()
