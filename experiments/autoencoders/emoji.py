"""python -m experiments.autoencoders.emoji: diffusion on the latents of emoji beside diffusion on their pixels.

Trains configs/emoji_vae.py, and for a tenth of their steps emoji_latent_uncond.py on its latents and emoji_pixels.py,
of equal batches and with a tenth of them as warm-up, unless they lie in runs/autoencoders/ from before, and tells the
seconds of the processor that each took and the Fréchet distance of its samples, as many as there are held-out pictures,
to the training pictures in the features of LPIPS's AlexNet. It writes emoji.md, and a picture each of samples and of
held-out pictures above what the autoencoder makes of them.
"""

import argparse
import json
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
from diffjax.metrics import lpips
from diffjax.metrics.frechet import frechet_distance
from diffjax.metrics.moments import Moments
from diffjax.metrics.probe import FEATURES, images, mapped
from diffjax.metrics.reconstruction import to_pixels
from diffjax.types import ConfigError, RunError, Trained

HERE, RUNS = Path(__file__).parent, Path("runs/autoencoders")
NAMES = {"emoji_latent_uncond": "latents", "emoji_pixels": "pixels"}
SHORTER, COLUMNS = 10, 12


def trained(name: str, emoji: str, weights: str = "") -> tuple[Loaded, str]:
  """The run of a config, trained if it is not there, with these weights, and the processor's seconds that it took.

  They are known where one call trained it from start to end, and "-" where it was interrupted.
  """
  config, folder = import_module(f"configs.{name}").get_config(), RUNS / name
  config.data.emoji.path = emoji
  if name in NAMES:
    config.train.steps //= SHORTER
    config.train.warmup //= SHORTER
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


def save(name: str, sheet: np.ndarray) -> None:
  """A grid of pictures."""
  pictures.save_png(HERE / f"{name}.png", pictures.grid(sheet, COLUMNS, scale=1))


def compared(emoji: str) -> None:
  """Trains, measures, and writes the table and the pictures."""
  devices = parallel.create()
  first, seconds = trained("emoji_vae", emoji)
  train, test = (experiment.source(first.config, split) for split in ("train", "test"))
  extract, _ = FEATURES["alexnet"](train, devices)
  once = np.unique(images(train), axis=0)  # a picture stands there with each of its captions
  real, held_out = Moments.of(extract(once)), images(test)
  distance = lambda x: frechet_distance(Moments.of(extract(x)), real)
  back = again(first, held_out, devices)
  pairs = held_out[:: len(held_out) // (2 * COLUMNS)][: 2 * COLUMNS], back[:: len(back) // (2 * COLUMNS)]
  rows = zip(*(part[: 2 * COLUMNS].reshape(2, COLUMNS, *held_out.shape[1:]) for part in pairs), strict=True)
  save("emoji_reconstructions", np.concatenate([part for row in rows for part in row]))
  lines = [
    ("what", "parameters", "processor's seconds", f"Fréchet_{len(held_out)}"),
    ("---",) * 4,
    ("held-out pictures", "", "", f"{distance(held_out):.1f}"),
    ("these through the autoencoder", "", seconds, f"{distance(back):.1f}"),
  ]
  for name, label in NAMES.items():
    run, seconds = trained(name, emoji, "raw")  # the average of so few steps is mostly the beginning
    samples = run.sample(len(held_out))["image"]
    count = sum(leaf.size for leaf in jax.tree.leaves(run.params))
    lines.append((f"diffusion on {label}", f"{count:,}", seconds, f"{distance(samples):.1f}"))
    save(f"emoji_{label}", samples[: 4 * COLUMNS])
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
