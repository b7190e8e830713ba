"""python -m benchmarks.profile: where the time of a CIFAR-10 training step goes, by layer and by part of the network.

Every operation of the compiled step carries the path of the module that asked for it, and a trace of jax's profiler
the operations and their times. On a CPU an operation's time is that of the thread which starts it, while others may
help; on an accelerator it is the kernel's. A fusion counts for the module of its root. --call takes a call of the
network instead, as a sampler makes it. On one core (taskset -c 0) times are those of the work itself, and XLA's CPU
backend shares out matrix products ("dot") to several cores, but little else.
"""

import argparse
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import jax
import numpy as np

from benchmarks import machine, ours, report
from diffjax.machine import huge_pages

PATH = re.compile(r"[(/]UNet\)*/([^/]+)(?:/([^/]+))?")
KINDS = {
  "3x3 convolutions": r"conv_(0|1|in|out)$|_sample$",
  "1x1 convolutions and attention": r"shortcut$|attention$",
  "norm and swish": r"norm",
  "dropout": r"dropout$",
  "embeddings": r"embedding$",
}
JOINS = "sums and joins"
REST = "outside: noise, loss, clipping, Adam, averages, copies"


def arguments() -> argparse.Namespace:
  """The command line's."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--batch", type=int, default=0, help="default: 8 on a CPU, 128 on an accelerator")
  parser.add_argument("--channels", type=int, default=128)
  parser.add_argument("--size", type=int, default=32)
  parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
  parser.add_argument("--call", action="store_true", help="of the network alone, with prepared weights")
  parser.add_argument("--steps", type=int, default=5, help="that are traced, after one that is not")
  parser.add_argument("--keep", default="", help="a folder for the trace, which TensorBoard shows")
  return parser.parse_args()


def own_times(events: Iterable) -> Mapping[str, float]:
  """Seconds of every operation in the events of one thread, less those of what runs inside of it."""
  seconds, open_ones = defaultdict(float), []
  for event in sorted(events, key=lambda event: (event.start_ns, -event.duration_ns)):
    while open_ones and open_ones[-1][1] <= event.start_ns:
      open_ones.pop()
    name = dict(event.stats).get("hlo_op")
    if name is None:
      continue
    seconds[name] += event.duration_ns / 1e9
    if open_ones:
      seconds[open_ones[-1][0]] -= event.duration_ns / 1e9
    open_ones.append((name, event.start_ns + event.duration_ns))
  return seconds


def traced(folder: Path) -> Mapping[str, float]:
  """Seconds of every operation in the newest trace of a folder."""
  newest = max(folder.glob("**/*.xplane.pb"), key=lambda path: path.stat().st_mtime)
  totals = defaultdict(float)
  for plane in jax.profiler.ProfileData.from_file(str(newest)).planes:
    for line in plane.lines:
      for name, seconds in own_times(line.events).items():
        totals[name] += seconds
  return totals


def paths_of(hlo: str) -> Mapping[str, str]:
  """The module path in an operation's metadata, by the operation's name in the text of a compiled function."""
  lines = re.finditer(r'^\s*(?:ROOT )?%?([\w.-]+) = .*op_name="([^"]*)"', hlo, re.MULTILINE)
  return {line[1]: line[2] for line in lines}


def place(path: str) -> tuple[str, str, str]:
  """The kind of layer, the part of the network, and forward or backward."""
  match = PATH.search(path)
  if not match:
    return REST, REST, "-"
  way = "backward" if "transpose(" in path else "forward"
  block, layer = match.groups()
  if layer is None or block.startswith("jit("):
    return JOINS, JOINS, way
  name = layer if re.match("|".join(KINDS.values()), layer) else block
  kind = next((kind for kind, pattern in KINDS.items() if re.search(pattern, name)), JOINS)
  return kind, re.sub(r"(_\d+)?_(block|attention)$", "", block), way


def table(seconds: Mapping[str, float], paths: Mapping[str, str], by: str, steps: int) -> list[dict]:
  """Rows by layer, part or operation: ms a step, forward and backward, and shares of all."""
  sums = defaultdict(lambda: defaultdict(float))
  for name, duration in seconds.items():
    layer, part, way = place(paths.get(name, ""))
    label = {"layer": layer, "part": part, "operation": re.split(r"[._]\d", name)[0]}[by]
    sums[label][way] += duration
  total = sum(seconds.values())
  rows = []
  for name, parts in sorted(sums.items(), key=lambda item: -sum(item[1].values())):
    ms = {f"{part}, ms": 1e3 * parts.get(part, 0.0) / steps for part in ("forward", "backward")}
    both = sum(parts.values())
    rows.append({"what": name, **ms, "both, ms": 1e3 * both / steps, "share, %": 100 * both / total})
  return rows


def step_of(config, batch: int, size: int) -> tuple[Callable[[], None], str]:
  """A function that takes a training step and waits for it, and the text of its program."""
  take, state, placed = ours.training(config, ours.images(batch, size))
  compiled = take.lower(state, {}, placed()).compile()

  def step():
    nonlocal state
    state, _ = compiled(state, {}, placed())
    jax.block_until_ready(state)

  return step, compiled.as_text()


def call_of(config, batch: int, size: int) -> tuple[Callable[[], None], str]:
  """The same of a call of the network."""
  x, t = np.zeros((batch, size, size, 3), np.float32), np.zeros(batch, np.float32)
  apply, inputs = ours.network_call(config, x, t)
  return lambda: jax.block_until_ready(apply(*inputs)), apply.as_text()


def main() -> None:
  """Measures, prints and keeps."""
  args, about = arguments(), machine.description()
  batch = args.batch or (8 if about["backend"] == "cpu" else 128)
  config = ours.cifar10(batch, args.channels, args.size, args.dtype)
  step, program = (call_of if args.call else step_of)(config, batch, args.size)
  step()
  with tempfile.TemporaryDirectory() as empty:
    folder = Path(args.keep or empty)
    start = time.perf_counter()
    with jax.profiler.trace(str(folder)):
      for _ in range(args.steps):
        step()
      took = (time.perf_counter() - start) / args.steps
    seconds = traced(folder)
  paths, what = paths_of(program), "call" if args.call else "step"
  print(f"a {what} of {batch} took {took:.3g} s with the profiler on")
  rows = [
    {"by": by} | row for by in ("layer", "part", "operation") for row in table(seconds, paths, by, args.steps)
  ]
  settings = {"batch": batch, "channels": args.channels, "size": args.size, "dtype": args.dtype}
  name = f"profile-{about['backend']}-{args.dtype}" + ("-call" if args.call else "")
  report.write(name, about, rows, step_s=took, **settings)


if __name__ == "__main__":
  huge_pages.ask()
  main()
