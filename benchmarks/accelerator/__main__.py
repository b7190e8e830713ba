"""python -m benchmarks.accelerator --seconds=600 --out=DIR: everything worth knowing of one accelerator, in parts.

Every part is a process with a time limit of its own, and writes its results as they come: a part that fails, hangs or
is cut short takes nothing from the others. DIR gets a JSON and a log for each, and summary.json. --tiny goes through
all of it on a CPU.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.accelerator.part import end
from diffjax.machine.atomic import write_json

# In this order, with the seconds that each may take.
PARTS = {"card": 45, "speed": 300, "trace": 90, "correct": 120, "recipe": 240}


def arguments(argv=None) -> argparse.Namespace:
  """The command line's."""
  parser = argparse.ArgumentParser(
    "python -m benchmarks.accelerator", description=__doc__, allow_abbrev=False
  )
  parser.add_argument("--seconds", type=float, default=600.0, help="for all parts together")
  parser.add_argument("--out", type=Path, required=True)
  parser.add_argument(
    "--parts",
    default=",".join(PARTS),
    help="in the order wanted (%(default)s)",
  )
  parser.add_argument("--tiny", action="store_true", help="small networks and few rounds")
  args = parser.parse_args(argv)
  args.parts = [name for name in args.parts.split(",") if name]
  if unknown := set(args.parts) - PARTS.keys():
    parser.error(f"there is no part {min(unknown)}; there are {', '.join(PARTS)}")
  return args


def command(name: str, out: Path, seconds: float, tiny: bool) -> list[str]:
  """What runs a part."""
  if name == "recipe":  # all of it is compiled, and kept for the real run
    from benchmarks.accelerator.sizes import TINY_RECIPE

    sizes = TINY_RECIPE if tiny else ["--count=2500", "--chosen_on=2500", "--scored=2500"]
    few = ["--rehearse", "--calls=8", f"--minutes={seconds / 60}", f"--workdir={out / 'recipe'}"]
    return [sys.executable, "-m", "experiments.cifar10_minutes", *few, "--guidance=0.25", *sizes]
  few = ["--tiny"] if tiny else []
  return [
    sys.executable,
    "-m",
    f"benchmarks.accelerator.{name}",
    f"--out={out}",
    f"--seconds={seconds}",
    *few,
  ]


def run(name: str, limit: float, out: Path, tiny: bool) -> dict:
  """Runs a part; how it ended and how long it took."""
  began, shared = time.monotonic(), os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
  with (out / f"{name}.log").open("w") as log:
    part = subprocess.Popen(
      command(name, out, limit, tiny),
      stdout=log,
      stderr=subprocess.STDOUT,
      start_new_session=True,
      env=shared,
    )
    try:
      status = part.wait(limit)
    except subprocess.TimeoutExpired:
      status = "cut short"
    finally:
      end(part)
  return {"status": status, "seconds": round(time.monotonic() - began, 1)}


def main(argv=None) -> int:
  """Runs the parts; the exit status is that of the worst."""
  args, began = arguments(argv), time.monotonic()
  args.out = args.out.resolve()
  args.out.mkdir(parents=True, exist_ok=True)
  summary = {}
  for name in args.parts:
    left = args.seconds - (time.monotonic() - began)
    limit = min(PARTS[name] * (5 if args.tiny else 1), left)
    summary[name] = run(name, limit, args.out, args.tiny) if left > 5 else {"status": "no time left"}
    write_json(args.out / "summary.json", summary)
    print(f"[{time.monotonic() - began:6.1f} s] {name}: {summary[name]}", flush=True)
    if summary[name]["status"] != 0 and left > 5:
      print("".join((args.out / f"{name}.log").read_text().splitlines(True)[-12:]), flush=True)
  return 0 if all(part["status"] == 0 for part in summary.values()) else 1


if __name__ == "__main__":
  sys.exit(main())
