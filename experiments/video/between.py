"""python -m experiments.video.between RUN: held-out clips of which some frames are given, and the others filled in.

By replacement, by reconstruction guidance beside it, and by a run with the condition "frames", named by --told; and by
linear blending of the nearest frames that are given. Prints how well the clips keep their laws, and the PSNR of the
frames between given ones, 10 log10 255^2 / (mean squared error over them all), and writes some clips.
"""

import sys
from collections.abc import Sequence

import numpy as np

from diffjax.guidance import require_frames
from diffjax.jobs.extension import Video
from diffjax.machine import pictures
from diffjax.types import ConfigError, RunError
from experiments.video.extended import FIGURES, SHOWN, drawn, figures, parser_of_ways, source, ways


def blended(video: Video, given: Sequence[int]) -> Video:
  """The clips with each frame blended linearly from the nearest given ones, those outside them their copies."""
  flat = np.moveaxis(video[:, given].astype(float), 1, -1)
  times = np.arange(video.shape[1])
  whole = np.apply_along_axis(lambda values: np.interp(times, given, values), -1, flat)
  return np.rint(np.moveaxis(whole, -1, 1)).astype(np.uint8)


def psnr(video: Video, truth: Video) -> float:
  """Of all pixels together, in decibels."""
  return 10 * np.log10(255**2 / np.square(video.astype(float) - truth).mean())


def main(args: Sequence[str] | None = None) -> None:
  """Prints the table and writes the picture."""
  parser = parser_of_ways(__doc__, "between.png", 128)
  parser.add_argument("--given", type=int, nargs="+", default=[0, 2, 4], help="numbers of the frames")
  options = parser.parse_args(args)
  given = tuple(sorted(set(options.given)))
  data = source(options.run, "test").read(np.arange(options.count), ("video", "label"))
  truth, label = data["video"], data["label"]
  between = [t for t in range(given[0], given[-1]) if t not in given]
  require_frames(truth.shape[1:], given)
  if not between or given[0] < 0:
    raise ConfigError(
      f"--given is {given}, between which there is no frame; give two or more that are apart."
    )
  clips = {"held out": truth, "linear blending": blended(truth, given)}
  for kind, run in ways(options.run, options.told, options.sampler, given, options.w).items():
    clips[kind] = drawn(run, label, truth, 0)
  print(f"| {options.count} clips, {given} given | {' | '.join(FIGURES)} | PSNR of {between} |")
  print(f"|{' --- |' * (2 + len(FIGURES))}")
  for kind, video in clips.items():
    near = "" if kind == "held out" else f"{psnr(video[:, between], truth[:, between]):.2f}"
    print(f"| {kind} | {figures(options.run, video, label)} | {near} |", flush=True)
  words = [kind for kind in clips for _ in range(min(SHOWN, options.count))]
  shown = np.concatenate([video[: min(SHOWN, options.count)] for video in clips.values()])
  pictures.save_png(options.out, pictures.captioned(shown, words, SHOWN))


if __name__ == "__main__":
  try:
    main()
  except (ConfigError, RunError) as error:
    sys.exit(str(error))
