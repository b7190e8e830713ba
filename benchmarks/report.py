"""Rows of results as a table to read and as JSON to keep."""

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.turns import Times

RESULTS = Path(__file__).parent / "results"


def row(times: Mapping[str, Times], flops: int | None = None, rate: float | None = None, **settings) -> dict:
  """One result.

  Args:
    times: candidates; "ours" and "peer" are compared.
    flops: operations of a call of either, if they are counted.
    rate: FLOP/s of the machine's matrix product.
    settings: what was measured.
  """
  found = dict(settings)
  for name, each in times.items():
    found[name] = {"median_s": each.median, "spread": each.spread, **dataclasses.asdict(each)}
    if flops:
      found[name]["flop_per_s"] = flops / each.median
    if flops and rate:
      found[name]["mfu"] = flops / each.median / rate
  if flops:
    found["flop"] = flops
  if {"ours", "peer"} <= set(times):
    found["ratio"] = times["ours"].ratio(times["peer"])
    low, high = times["ours"].ratios(times["peer"])
    found["of rounds"] = f"{low:.2f} to {high:.2f}"
    found["cpu_ratio"] = times["ours"].cpu_ratio(times["peer"])
  return found


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
  """Prints the table and keeps everything in benchmarks/results/<name>.json."""
  print(table(rows), flush=True)
  command = " ".join(["python -m", f"benchmarks.{name.split('-')[0]}", *sys.argv[1:]])
  RESULTS.mkdir(exist_ok=True)
  path = RESULTS / f"{name}.json"
  path.write_text(
    json.dumps({"command": command, "machine": machine, **notes, "rows": rows}, indent=1) + "\n"
  )
  return path
