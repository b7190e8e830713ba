"""python -m experiments.video.extended RUN: clips of a trained run made longer, in blocks given the last frames.

By replacement (guide "frames") a block knows of them by their noisy values alone; reconstruction guidance beside it
leads towards clips that have them. Where the run has the condition "frames" its network is told them too. Prints the
figures of the clips that were begun from and of the whole ones, and writes some beside, frames from left to right.
"""

import argparse
import functools
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diffjax.data import SOURCES
from diffjax.jobs import runs, sampling, workdir
from diffjax.jobs.extension import Video, extended
from diffjax.machine import pictures
from diffjax.metrics import METRICS
from diffjax.types import ConfigError, RunError
from experiments.video.__main__ import COLUMNS, DIGITS

SHOWN = 3  # clips of each kind
FIGURES = [name for name in COLUMNS if name != "frechet"]


def loaded(folder: Path, given: int = 0, w: float = 0.0) -> sampling.Loaded:
  """The run of a workdir, whose samples are given so many frames, by reconstruction too where w is not 0."""
  config = workdir.load(folder)
  more = (*(["reconstruction"] if w else []), *(["frames"] if given else []))
  config.sample.guides = (*config.sample.guides, *more)
  config.sample.frames.given = given
  options = config.sample.reconstruction
  options.operator, options.size, options.field, options.w = "first", max(given, 1), "video", w
  (run,) = sampling.loaded(runs.start(config, folder, "sample"), "latest", "RUN")
  return run


def longer(run: sampling.Loaded, first: Video, label: np.ndarray, given: int, blocks: int) -> Video:
  """The clips `first`, of these classes, with so many blocks more."""

  def draw(seen, block):
    more = {"observed": seen} if "reconstruction" in run.config.sample.guides else {}
    return run.sample(len(seen), seed=block, label=label, video=seen, **more)["video"]

  return extended(draw, first, given, blocks)


def main(args: Sequence[str] | None = None) -> None:
  """Prints the table and writes the picture."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("run", type=Path, help="a workdir")
  parser.add_argument("--out", type=Path, default=Path("extended.png"), help="the picture")
  parser.add_argument("--count", type=int, default=32, help="clips")
  parser.add_argument("--given", type=int, default=3, help="frames that each block is given")
  parser.add_argument("--blocks", type=int, default=6)
  parser.add_argument("--w", type=float, default=2.0, help="weight of reconstruction guidance")
  options = parser.parse_args(args)
  label = np.arange(options.count, dtype=np.int32) % 10
  plain = loaded(options.run)
  clips = {"as drawn": plain.sample(options.count, label=label)["video"]}
  for kind, w in (("replacement", 0.0), (f"reconstruction, w = {options.w:g}", options.w)):
    run = loaded(options.run, options.given, w)
    clips[kind] = longer(run, clips["as drawn"], label, options.given, options.blocks)
  data = workdir.load(options.run).data.moving_digits

  @functools.cache
  def metric(frames):
    settings = {"size": data.size, "slowest": data.slowest, "fastest": data.fastest, "frames": frames}
    splits = [SOURCES["moving_digits"](split, **settings) for split in ("train", "test")]
    return METRICS["moving_digits"](*splits, None, compared=0)

  print(f"| {options.count} clips | frames | {' | '.join(FIGURES)} |\n|{' --- |' * (2 + len(FIGURES))}")
  for kind, video in clips.items():
    scores = metric(video.shape[1]).judge({"video": video}, {"label": label})
    values = [f"{scores[name]:.{DIGITS.get(name, 3)}f}" for name in FIGURES]
    print(f"| {kind} | {video.shape[1]} | {' | '.join(values)} |", flush=True)
  del clips["as drawn"]
  words = [kind for kind in clips for _ in range(SHOWN)]
  shown = np.concatenate([video[:SHOWN] for video in clips.values()])
  pictures.save_png(options.out, pictures.captioned(shown, words, 1))


if __name__ == "__main__":
  try:
    main()
  except (ConfigError, RunError) as error:
    sys.exit(str(error))
