"""python -m experiments.video: damage.md and damage.png beside this file, in a minute of the CPU.

With --samples=FILE.npz, which --mode=sample has written, the same figures of these, and no file.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from diffjax.data import SOURCES
from diffjax.machine import pictures
from diffjax.metrics import METRICS
from experiments.video import damaged

HERE = Path(__file__).parent
COLUMNS = ("trajectory", "trajectory_p90", "speed", "identity", "agreement", "look", "mass", "frechet")
DIGITS = {"look": 1, "mass": 4, "frechet": 2}
SHOWN = 2  # clips of each kind
OTHERS = 4096  # training clips that the classifiers know, before those that are judged


def row(kind: str, scores: Mapping[str, float]) -> str:
  """A row of the table; the name of the Fréchet distance ends in the number of clips."""
  scores = {**scores, "frechet": next(value for name, value in scores.items() if name.startswith("frechet_"))}
  return f"| {kind} | {' | '.join(f'{scores[name]:.{DIGITS.get(name, 3)}f}' for name in COLUMNS)} |"


def main(args: Sequence[str] | None = None) -> None:
  """Writes the table and the picture."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--out", type=Path, default=HERE)
  parser.add_argument("--count", type=int, default=1024, help="clips of each kind")
  parser.add_argument("--size", type=int, default=16)
  parser.add_argument("--frames", type=int, default=8)
  parser.add_argument("--samples", type=Path, help="judge these")
  options = parser.parse_args(args)
  splits = [
    SOURCES["moving_digits"](split, size=options.size, frames=options.frames) for split in ("train", "test")
  ]
  metric = METRICS["moving_digits"](*splits, None, reference=options.count)
  index = np.arange(options.count)
  label = splits[1].read(index, ("label",))
  head = f"| {options.count} clips | {' | '.join(COLUMNS)} |\n|{' --- |' * (1 + len(COLUMNS))}"
  print(head)
  if options.samples:
    with np.load(options.samples) as file:
      print(row(options.samples.stem, metric.judge({"video": file["video"]}, {"label": file["label"]})))
    return
  clips = damaged(splits[1], index)
  rows = [row(kind, metric.judge({"video": video}, label)) for kind, video in clips.items()]
  others = splits[0].read(OTHERS + index, ("video", "label"))
  rows.insert(1, row("training clips", metric.judge(others, others)))
  print("\n".join(rows))
  (options.out / "damage.md").write_text("\n".join([head, *rows]) + "\n")
  several = np.concatenate([video[:SHOWN] for video in clips.values()])
  words = [kind for kind in clips for _ in range(SHOWN)]
  pictures.save_png(options.out / "damage.png", pictures.captioned(several, words, SHOWN))


if __name__ == "__main__":
  main()
