"""python -m experiments.video.extended RUN: clips of a trained run made longer, in blocks given the last frames.

By replacement (guide "frames") a block knows of them by their noisy values alone; reconstruction guidance beside it
leads towards clips that have them; and a run with the condition "frames", named by --told, is told them too. Prints the
figures of the clips that were begun from and of the whole ones, and writes some beside, frames from left to right.
"""

import argparse
import functools
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diffjax.data import SOURCES
from diffjax.data.source import Source
from diffjax.jobs import runs, sampling, workdir
from diffjax.jobs.extension import Video, extended
from diffjax.machine import pictures
from diffjax.metrics import METRICS
from diffjax.metrics.metric import Metric
from diffjax.types import ConfigError, RunError
from experiments.video.__main__ import COLUMNS, DIGITS

SHOWN = 3  # clips of each kind
FIGURES = [name for name in COLUMNS if name != "frechet"]


def loaded(folder: Path, sampler: str = "", given: tuple[int, ...] = (), w: float = 0.0) -> sampling.Loaded:
  """The run of a workdir, whose samples are given these frames, by reconstruction too where w is not 0."""
  config = workdir.load(folder)
  config.sample.sampler = sampler or config.sample.sampler
  more = (*(["reconstruction"] if w else []), *(["frames"] if given else []))
  config.sample.guides = (*config.sample.guides, *more)
  config.sample.frames.given = config.sample.reconstruction.given = config.condition.frames.given = given
  config.sample.reconstruction.operator, config.sample.reconstruction.field = "frames", "video"
  config.sample.reconstruction.w = w
  (run,) = sampling.loaded(runs.start(config, folder, "sample"), "latest", "RUN")
  return run


def ways(
  folder: Path, told: Path | None, sampler: str, given: tuple[int, ...], w: float
) -> dict[str, sampling.Loaded]:
  """Runs whose samples are given these frames, by the way in which they are."""
  for place, wanted in ((folder, False), *([(told, True)] if told else [])):
    if ("frames" in workdir.load(place).condition.names) != wanted:
      lacks = "lacks" if wanted else "has"
      raise ConfigError(
        f"{place} {lacks} the condition 'frames'; RUN is a run without it, and --told one with it."
      )
  plain, led = loaded(folder, sampler, given), loaded(folder, sampler, given, w)
  kinds = {"replacement": plain, f"reconstruction, w = {w:g}": led}
  return kinds | ({"told by the condition `frames`": loaded(told, sampler, given)} if told else {})


def drawn(run: sampling.Loaded, label: np.ndarray, seen: Video, seed: int) -> Video:
  """Clips of these classes that have the frames of `seen` of which the run's samples are given."""
  more = {"observed": seen} if "reconstruction" in run.config.sample.guides else {}
  return run.sample(len(seen), seed=seed, label=label, video=seen, **more)["video"]


def source(folder: Path, split: str, **changes: int) -> Source:
  """A run's data, whole clips without captions."""
  settings = {**workdir.load(folder).data.moving_digits, "stills": 0.0, "captions": False, **changes}
  return SOURCES["moving_digits"](split, **settings)


@functools.cache
def judge(folder: Path, frames: int) -> Metric:
  """The metric for a run's data, in clips of so many frames."""
  splits = [source(folder, split, frames=frames) for split in ("train", "test")]
  return METRICS["moving_digits"](*splits, None, compared=0)


def figures(folder: Path, video: Video, label: np.ndarray) -> str:
  """Cells of a table, FIGURES of clips."""
  scores = judge(folder, video.shape[1]).judge({"video": video}, {"label": label})
  return " | ".join(f"{scores[name]:.{DIGITS.get(name, 3)}f}" for name in FIGURES)


def parser_of_ways(description: str, out: str, count: int) -> argparse.ArgumentParser:
  """With the options that every table of these ways has."""
  parser = argparse.ArgumentParser(
    description=description, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("run", type=Path, help="a workdir")
  parser.add_argument("--told", type=Path, help="the workdir of another, which has the condition frames")
  parser.add_argument("--out", type=Path, default=Path(out), help="the picture")
  parser.add_argument("--count", type=int, default=count, help="clips")
  parser.add_argument("--w", type=float, default=2.0, help="weight of reconstruction guidance")
  parser.add_argument("--sampler", default="", help="of all of them; by default each run's own")
  return parser


def main(args: Sequence[str] | None = None) -> None:
  """Prints the table and writes the picture."""
  parser = parser_of_ways(__doc__, "extended.png", 32)
  parser.add_argument("--given", type=int, default=3, help="frames that each block is given")
  parser.add_argument("--blocks", type=int, default=6)
  options = parser.parse_args(args)
  label = np.arange(options.count, dtype=np.int32) % 10
  plain = loaded(options.run, options.sampler)
  clips = {"as drawn": plain.sample(options.count, label=label)["video"]}
  given, sampler = tuple(range(options.given)), options.sampler
  for kind, run in ways(options.run, options.told, sampler, given, options.w).items():
    draw = functools.partial(drawn, run, label)
    clips[kind] = extended(draw, clips["as drawn"], options.given, options.blocks)
  whole = next(reversed(clips.values())).shape[1]
  held_out = source(options.run, "test", frames=whole).read(np.arange(options.count), ("video", "label"))
  print(f"| {options.count} clips | frames | {' | '.join(FIGURES)} |\n|{' --- |' * (2 + len(FIGURES))}")
  print(f"| held out | {whole} | {figures(options.run, *held_out.values())} |")
  for kind, video in clips.items():
    print(f"| {kind} | {video.shape[1]} | {figures(options.run, video, label)} |", flush=True)
  del clips["as drawn"]
  words = [kind for kind in clips for _ in range(min(SHOWN, options.count))]
  shown = np.concatenate([video[: min(SHOWN, options.count)] for video in clips.values()])
  pictures.save_png(options.out, pictures.captioned(shown, words, 1))


if __name__ == "__main__":
  try:
    main()
  except (ConfigError, RunError) as error:
    sys.exit(str(error))
