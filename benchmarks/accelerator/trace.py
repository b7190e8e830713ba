"""A trace of one call of the training step, condensed to a table of its kernels and one of its layers."""

import gzip
import re
from collections import defaultdict
from pathlib import Path

import jax

from benchmarks import ours, profile
from benchmarks.accelerator import part, sizes
from benchmarks.accelerator.speed import CHUNK

ROWS, MOST = 80, 10_000_000


def kernels(file: Path) -> list[tuple[str, int, float]]:
  """(name, calls, seconds) of everything that ran on the device's streams, the longest first."""
  totals = defaultdict(lambda: [0, 0.0])
  for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
    if "GPU" not in plane.name:
      continue
    for line in plane.lines:
      if "Stream" not in line.name:
        continue
      for event in line.events:
        totals[event.name][0] += 1
        totals[event.name][1] += event.duration_ns / 1e9
  return sorted(((name, *sums) for name, sums in totals.items()), key=lambda row: -row[2])


def grouped(rows: list[tuple[str, int, float]]) -> dict[str, tuple[int, float]]:
  """The same by names without their numbers: (calls, seconds)."""
  groups = defaultdict(lambda: [0, 0.0])
  for name, calls, seconds in rows:
    key = re.sub(r"[_.]?\d+", "", name)[:80]
    groups[key][0] += calls
    groups[key][1] += seconds
  return dict(sorted(groups.items(), key=lambda item: -item[1][1]))


def main() -> None:
  """Traces the program that speed.py times."""
  args = part.arguments("trace", __doc__)
  results = part.Results(args.out, "trace", args.seconds)
  batch, steps = (4, 2) if args.tiny else (128, CHUNK)
  part.cached()
  take, state, placed = ours.training(sizes.unet(batch, args.tiny), ours.images(batch, 32), steps)
  chunk = placed()
  compiled = take.lower(state, {}, chunk).compile()  # what speed.py compiled is in the cache
  for _ in range(2):
    state, metrics = compiled(state, {}, placed())
  jax.block_until_ready(state)
  memory = compiled.memory_analysis()
  results.add(temp_bytes=getattr(memory, "temp_size_in_bytes", None), steps=steps, batch=batch)
  folder, chunk = args.out / "raw_trace", placed()
  jax.block_until_ready(chunk)
  with jax.profiler.trace(str(folder)):
    state, metrics = compiled(state, {}, chunk)
    jax.block_until_ready(state)
  file = max(folder.glob("**/*.xplane.pb"), key=lambda path: path.stat().st_mtime)
  rows = kernels(file)
  results.add(
    calls_a_step=sum(row[1] for row in rows) / steps,
    busy_ms_a_step=1e3 * sum(row[2] for row in rows) / steps,
    groups={
      name: (calls / steps, 1e3 * s / steps) for name, (calls, s) in list(grouped(rows).items())[:ROWS]
    },
    kernels=[(name, calls / steps, 1e3 * seconds / steps) for name, calls, seconds in rows[:ROWS]],
  )
  paths, layers = profile.paths_of(compiled.as_text()), defaultdict(float)
  for name, seconds in profile.traced(folder).items():
    kind, _, way = profile.place(paths.get(name, ""))
    layers[f"{kind}, {way}"] += 1e3 * seconds / steps
  results.add(ms_a_step_by_layer=dict(sorted(layers.items(), key=lambda item: -item[1])))
  packed = gzip.compress(file.read_bytes())
  if len(packed) < MOST:
    (args.out / "trace.xplane.pb.gz").write_bytes(packed)
  results.add(raw_bytes=len(packed))


if __name__ == "__main__":
  main()
