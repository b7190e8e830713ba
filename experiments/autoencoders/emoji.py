"""python -m experiments.autoencoders.emoji: diffusion on the latents of emoji beside diffusion on their pixels.

Trains configs/emoji_vae.py, emoji_latent_uncond.py on its latents, and emoji_pixels.py three times: for about as long
as the latents' model, as the autoencoder, and as both together; batches are equal, a tenth of the steps is warm-up.
What lies in runs/autoencoders/ from before is not trained again. It tells the seconds of the processor that each took,
the Fréchet distance of its samples, as many as there are held-out pictures, to the training pictures in the features of
LPIPS's AlexNet, and the figure of memory, and writes emoji.md, a picture of the samples, and one of held-out pictures
above what the autoencoder makes of them.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import jax
import numpy as np

import diffjax
from diffjax import experiment
from diffjax.jobs import training, workdir
from diffjax.jobs.sampling import Loaded
from diffjax.machine import atomic, parallel, pictures
from diffjax.metrics import lpips, memorization
from diffjax.metrics.frechet import frechet_distance
from diffjax.metrics.moments import Moments
from diffjax.metrics.probe import FEATURES, images, mapped
from diffjax.metrics.reconstruction import to_pixels
from diffjax.types import ConfigError, RunError, Trained
from experiments.tools import sheet

HERE, RUNS = Path(__file__).parent, Path("runs/autoencoders")
STEPS = {
  "emoji_latent_uncond": ("latents", 1200),
  "emoji_pixels": ("pixels", 200),
  "emoji_pixels_long": ("pixels", 540),
  "emoji_pixels_longest": ("pixels", 990),
}
COLUMNS, SCALE = 12, 2  # of the pictures


def trained(name: str, emoji: str, weights: str = "") -> tuple[Loaded, str]:
  """The run of a config, trained if it is not there, with these weights, and the processor's seconds that it took.

  They are known where one call trained it from start to end, and "-" where it was interrupted.
  """
  config, folder = import_module(f"configs.{re.sub('_long(est)?$', '', name)}").get_config(), RUNS / name
  config.data.emoji.path = emoji
  if name in STEPS:
    config.train.steps = STEPS[name][1]
    config.train.warmup = config.train.steps // 10
  if config.space.name == "latent":
    config.space.latent.run = str(RUNS / "emoji_vae")
  file, new, begun = folder / "seconds.json", not workdir.has_checkpoints(folder), time.process_time()
  training.train(config, folder)
  seconds, run = time.process_time() - begun, diffjax.load(f"{folder}:{weights}" if weights else folder)
  if new and run.step == config.train.steps:
    atomic.write_json(file, seconds)
  return run, f"{json.loads(file.read_text()):.0f}" if file.exists() else "-"


def again(run: Loaded, x: np.ndarray, devices) -> np.ndarray:
  """What an autoencoder makes of pictures."""
  model = Trained("", run.experiment.task.can, run.params, "")
  return to_pixels(mapped(model, "decode", mapped(model, "encode", x, devices)["mean"], devices))


def save(name: str, groups: Sequence[tuple[str, np.ndarray]]) -> None:
  """Pictures in rows with their names."""
  pictures.save_png(HERE / f"{name}.png", sheet.named(groups, COLUMNS, scale=SCALE))


def compared(emoji: str) -> None:
  """Trains, measures, and writes the table and the pictures."""
  devices = parallel.create()
  first, seconds = trained("emoji_vae", emoji)
  train, test = (experiment.source(first.config, split) for split in ("train", "test"))
  extract, _ = FEATURES["alexnet"](train, devices)
  once = np.unique(images(train), axis=0)  # a picture stands there with each of its captions
  real, held_out = Moments.of(extract(once)), images(test)
  memory = memorization.memorization(train, test)

  def line(what: str, x: np.ndarray, parameters: str = "", seconds: str = "") -> tuple[str, ...]:
    copies = memory.score(memory.features(x))
    distance = f"{frechet_distance(Moments.of(extract(x)), real):.1f}"
    return what, parameters, seconds, distance, *(f"{copies[name]:.3f}" for name in memorization.FIGURES)

  back = again(first, held_out, devices)
  pairs = held_out[:: len(held_out) // (2 * COLUMNS)][: 2 * COLUMNS], back[:: len(back) // (2 * COLUMNS)]
  rows = zip(*(part[: 2 * COLUMNS].reshape(2, COLUMNS, *held_out.shape[1:]) for part in pairs), strict=True)
  save("emoji_reconstructions", [("held out\ncomes back", np.concatenate(row)) for row in rows])
  heads = ("what", "parameters", "processor's seconds", f"Fréchet_{len(held_out)}", *memorization.FIGURES)
  lines = [heads, ("---",) * len(heads), line("held-out pictures", held_out)]
  lines.append(line("these through the autoencoder", back, "", seconds))
  shown = []
  for name, (space, steps) in STEPS.items():
    run, seconds = trained(name, emoji, "raw")  # the average of so few steps is mostly the beginning
    samples = run.sample(len(held_out))["image"]
    count = sum(leaf.size for leaf in jax.tree.leaves(run.params))
    lines.append(line(f"diffusion on {space}, {steps:,} steps", samples, f"{count:,}", seconds))
    shown.append((f"{space}, {steps:,} steps", samples[: 2 * COLUMNS]))
  save("emoji_samples", shown)
  table = "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
  with atomic.writing(HERE / "emoji.md") as file:
    file.write(table.encode())
  print(table)


def main(argv: Sequence[str] | None = None) -> None:
  """Runs the command line."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--emoji", default="", help="the npz; by default in the cache")
  args = parser.parse_args(argv)
  try:
    lpips.load("alexnet")  # before anything is trained
    compared(args.emoji)
  except (ConfigError, RunError, OSError) as error:
    sys.exit(str(error))


if __name__ == "__main__":
  main()
