"""Rows of results as a table to read and as JSON to keep."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.turns import Times
from diffjax.machine.atomic import write_json

RESULTS = Path(__file__).parent / "results"
BUSY = 0.5  # processes of others that wait for a core, by which times are not those of a free machine


def row(times: Mapping[str, Times], flops: int | None = None, rate: float | None = None, **settings) -> dict:
  """One result.

  Args:
    times: candidates; "ours" and the others are compared, "peer" first of all.
    flops: operations of a call of either, if they are counted.
    rate: FLOP/s of the machine's matrix product.
    settings: what was measured.
  """
  cells = dict(settings)
  for name, each in times.items():
    cells[name] = {"median_s": each.median, "spread": each.spread, **dataclasses.asdict(each)}
    if flops:
      cells[name]["flop_per_s"] = flops / each.median
    if flops and rate:
      cells[name]["mfu"] = flops / each.median / rate
  if flops:
    cells["flop"] = flops
  if {"ours", "peer"} <= set(times):
    cells["ratio"] = times["ours"].ratio(times["peer"])
    low, high = times["ours"].ratios(times["peer"])
    cells["of rounds"] = f"{low:.2f} to {high:.2f}"
    cells["cpu_ratio"] = times["ours"].cpu_ratio(times["peer"])
  for name in times.keys() - {"ours", "peer"} if "ours" in times else ():
    cells[f"ratio to {name}"] = times["ours"].ratio(times[name])
    cells[f"cpu_ratio to {name}"] = times["ours"].cpu_ratio(times[name])
  return cells


def _cell(value) -> str:
  if isinstance(value, float):
    return f"{value:.3g}"
  return "-" if value is None else str(value)


def table(rows: Sequence[Mapping]) -> str:
  """Markdown; a candidate's column holds its median and spread."""
  flat = []
  for each in rows:
    line = {}
    for name, value in each.items():
      if isinstance(value, Mapping):
        line[f"{name}, s"] = f"{value['median_s']:.3g} ± {100 * value['spread']:.0f} %"
        if "mfu" in value:
          line[f"{name}, MFU"] = f"{100 * value['mfu']:.0f} %"
      else:
        line[name] = f"{value / 1e9:.4g} G" if name == "flop" else _cell(value)
    flat.append(line)
  heads = list(dict.fromkeys(name for line in flat for name in line))
  lines = [heads, ["---"] * len(heads), *([line.get(head, "-") for head in heads] for line in flat)]
  return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write(name: str, machine: Mapping, rows: Sequence[Mapping], **notes) -> Path:
  """Prints the table and keeps everything in benchmarks/results/<name>.json, marked where others were at work."""
  print(table(rows), flush=True)
  notes["busy"] = machine.get("load", 0) > BUSY
  if notes["busy"]:
    print(f"busy: the load was {machine['load']} when this began; cpu_ratio says more than ratio", flush=True)
  command = " ".join(["python -m", f"benchmarks.{name.split('-')[0]}", *sys.argv[1:]])
  RESULTS.mkdir(exist_ok=True)
  path = RESULTS / f"{name}.json"
  write_json(path, {"command": command, "machine": machine, **notes, "rows": rows})
  return path
