"""python -m experiments.text_to_image RUN: the same captions and noise at several weights of classifier-free guidance.

A row a caption, a column a weight; 0 is the conditional model.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diffjax.jobs import runs, sampling, workdir
from diffjax.machine import pictures
from diffjax.types import ConfigError, RunError

WEIGHTS = "0,1,2,4,7"
CAPTIONS = (
  "a seven|a two in the bottom left|an eight in the top right|a two above a seven|a five left of a zero"
  "|a three right of a four|a five above a six|a three and a six"
)  # the sixth and the seventh state novel facts


def loaded(folder: Path, w: float) -> sampling.Loaded:
  """The run of a workdir, whose samples are guided with this weight."""
  config = workdir.load(folder)
  config.sample.guides, config.sample.classifier_free.w = ("classifier_free",), w
  (run,) = sampling.loaded(runs.start(config, folder, "sample"), "latest", "RUN")
  return run


def weights(text: str) -> list[float]:
  """The numbers of an argument."""
  return [float(w) for w in text.split(",")]


def main(args: Sequence[str] | None = None) -> None:
  """Writes the picture."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("run", type=Path, help="a workdir")
  parser.add_argument("--out", type=Path, default=Path("guidance.png"), help="the picture")
  parser.add_argument("--w", type=weights, default=WEIGHTS, help="with commas between them (%(default)s)")
  parser.add_argument("--captions", default=CAPTIONS, help="with | between them (%(default)s)")
  options = parser.parse_args(args)
  captions = options.captions.split("|")
  samples = [loaded(options.run, w).sample(len(captions), text=captions) for w in options.w]
  images = np.stack([sample["image"] for sample in samples])
  titles = [f"w = {w:g}" for w in options.w]
  pictures.save_png(options.out, pictures.walk(images, images, titles, captions))


if __name__ == "__main__":
  try:
    main()
  except (ConfigError, RunError) as error:
    sys.exit(str(error))
