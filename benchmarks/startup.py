"""python -m benchmarks.startup: --help, the first training step, and compile times.

Every figure is a process of its own, started in turn: main.py --help; configs/digits.py until the metrics of its
first step are on the disk, with an empty and with a filled compile cache; the peer is one step of a diffusers U-Net
of the same shape in PyTorch, imports included, and `ratio` is to that. The CIFAR-10 step's compile time is that of
jax alone (--no_cifar10 leaves it out). Of one more cold start the parts are listed, by the times that jax tells;
--parts measures these alone.
"""

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
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
TELLING = """
import json, sys, time
began = time.time()
import jax
import main
from diffjax.jobs import training
def tell(event, seconds, fun_name="", **_):
  print(json.dumps({"event": event, "name": fun_name, "end": time.time(), "seconds": seconds}), flush=True)
tell("imports", time.time() - began)
jax.monitoring.register_event_duration_secs_listener(tell)
sys.exit(main.main())
"""
STEP = ("whole", "jit(whole)")  # what jax calls the training step, after the function in parallel.py
KINDS = {
  "traced": "/jax/core/compile/jaxpr_trace_duration",
  "lowered": "/jax/core/compile/jaxpr_to_mlir_module_duration",
  "compiled": "/jax/core/compile/backend_compile_duration",
}


def arguments() -> argparse.Namespace:
  """The command line's."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--batch", type=int, default=8, help="of the CIFAR-10 step")
  parser.add_argument("--no_cifar10", action="store_true")
  parser.add_argument("--parts", action="store_true", help="the parts of a cold start alone")
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


def first_step(home: str, program: tuple[str, ...] = ("main.py",)) -> Callable[[], str]:
  """main.py until the metrics of one step are on the disk; `home` is where the compile cache is kept.

  Returns:
    What waits until the process has drawn and saved, and so filled the cache, and returns what it said.
  """
  settings = ("train.steps=1", "train.warmup=0", "log.every=1", "checkpoint.every=1", "sample.steps=1")
  folder = Path(tempfile.mkdtemp())
  command = [sys.executable, *program, "--config=configs/digits.py", f"--workdir={folder}"]
  command += [f"--config.{each}" for each in settings]
  metrics, log = folder / "metrics.jsonl", folder / "terminal.txt"
  with log.open("wb") as file:
    env = {name: v for name, v in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    env |= {"HOME": home, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(command, cwd=ROOT, env=env, stdout=file, stderr=file)

  def finish():
    failed, said = child.wait(), log.read_text()
    if failed:
      raise RuntimeError(f"{' '.join(command)} failed:\n{said}")
    shutil.rmtree(folder)
    return said

  while not (metrics.exists() and metrics.stat().st_size):
    if child.poll() is not None:
      finish()
    time.sleep(0.02)
  return finish


def covered(spans: Iterable[tuple[float, float]]) -> float:
  """Seconds within any of the spans (begin, end), which may lie in each other."""
  total, last = 0.0, float("-inf")
  for begin, end in sorted(spans):
    total += max(end - max(begin, last), 0.0)
    last = max(last, end)
  return total


def parts(events: list[dict], began: float, ended: float) -> dict[str, float]:
  """Seconds of the parts of a start, in order; their sum is that from `began` to `ended`.

  Args:
    events: what TELLING prints: {"event", "name", "end", "seconds"}, times since the epoch.
    began, ended: of the process, and of its first step.
  """
  span = lambda each: (each["end"] - each["seconds"], each["end"])
  (imports,) = (span(each) for each in events if each["event"] == "imports")
  step = {}
  for what, kind in KINDS.items():  # the longest, as what is traced within it may have its name
    own = [span(each) for each in events if each["event"] == kind and each["name"] in STEP]
    step[what] = max(own, key=lambda times: times[1] - times[0])
  first = step["traced"][0]
  before = [span(each) for each in events if each["event"] in KINDS.values() and each["end"] <= first]
  count = sum(each["event"] == KINDS["compiled"] and each["end"] <= first for each in events)
  seconds = {"imports": imports[1] - began, f"{count} programs before the step": covered(before)}
  seconds["checks, data and the rest before the step"] = first - began - sum(seconds.values())
  seconds |= {f"the step {what}": end - begin for what, (begin, end) in step.items()}
  return seconds | {"the step run, and the rest": ended - began - sum(seconds.values())}


def cold_parts() -> list[dict]:
  """The parts of a start with nothing compiled, as rows."""
  with tempfile.TemporaryDirectory() as home:
    began = time.time()
    finish = first_step(home, ("-c", TELLING))
    ended = time.time()
    lines = finish().splitlines()
  events = [json.loads(line) for line in lines if line.startswith('{"event"')]
  seconds = parts(events, began, ended)
  return [{"what": f"of a cold one: {name}", "wall, s": each} for name, each in seconds.items()]


def main() -> None:
  """Measures, prints and keeps."""
  args = arguments()
  if args.parts:
    from benchmarks import machine, report

    report.write("startup-parts", machine.description(), cold_parts())
    return
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
  rows += cold_parts()
  if not args.no_cifar10:
    wall, cpu = map(float, process("-c", COMPILE.format(batch=args.batch)).split())
    rows.append(
      {"what": f"CIFAR-10 step, batch {args.batch}: trace, compile, run", "wall, s": wall, "cpu, s": cpu}
    )
  report.write("startup", machine.description(), rows)


if __name__ == "__main__":
  main()
