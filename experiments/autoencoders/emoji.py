"""python -m experiments.autoencoders.emoji: diffusion on the latents of emoji beside diffusion on their pixels.

Trains configs/emoji_vae.py, and for a tenth of their steps emoji_latent_uncond.py on its latents and emoji_pixels.py,
unless they lie in runs/autoencoders/ from before, and tells the seconds of the processor that each took and the Fréchet
distance of its samples, as many as there are held-out pictures, to the training pictures in the features of LPIPS's
AlexNet. It writes emoji.md, and a picture each of samples and of held-out pictures above what the autoencoder makes of
them.
"""

import argparse
import json
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import jax
import numpy as np

import diffjax
from diffjax import experiment
from diffjax.jobs import training
from diffjax.jobs.sampling import Loaded
from diffjax.machine import atomic, parallel, pictures
from diffjax.metrics.frechet import frechet_distance
from diffjax.metrics.moments import Moments
from diffjax.metrics.probe import FEATURES, images, mapped
from diffjax.metrics.reconstruction import to_pixels
from diffjax.types import Trained

HERE, RUNS = Path(__file__).parent, Path("runs/autoencoders")
NAMES = {"emoji_latent_uncond": "latents", "emoji_pixels": "pixels"}
SHORTER, COLUMNS = 10, 12


def trained(name: str, emoji: str, weights: str = "") -> tuple[Loaded, float]:
  """The run of a config, trained if it is not there, with these weights, and the processor's seconds that it took."""
  config, folder, begun = import_module(f"configs.{name}").get_config(), RUNS / name, time.process_time()
  config.data.emoji.path = emoji
  if name in NAMES:
    config.train.steps //= SHORTER
  if config.space.name == "latent":
    config.space.latent.run = str(RUNS / "emoji_vae")
  training.train(config, folder)
  kept = folder / "seconds.json"
  if not kept.exists():
    atomic.write_json(kept, time.process_time() - begun)
  return diffjax.load(f"{folder}:{weights}" if weights else folder), json.loads(kept.read_text())


def again(run: Loaded, x: np.ndarray, devices) -> np.ndarray:
  """What an autoencoder makes of pictures."""
  model = Trained("", run.experiment.task.can, run.params, "")
  return to_pixels(mapped(model, "decode", mapped(model, "encode", x, devices)["mean"], devices))


def save(name: str, shown: np.ndarray) -> None:
  """A grid of pictures."""
  pictures.save_png(HERE / f"{name}.png", pictures.grid(shown, COLUMNS, scale=1))


def main(argv: Sequence[str] | None = None) -> None:
  """Runs the command line."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--emoji", default="", help="the npz; by default in the cache")
  args, devices = parser.parse_args(argv), parallel.create()
  first, seconds = trained("emoji_vae", args.emoji)
  train, test = (experiment.source(first.config, split) for split in ("train", "test"))
  extract, _ = FEATURES["alexnet"](train, devices)
  once = np.unique(images(train), axis=0)  # a picture stands there with each of its captions
  real, held_out = Moments.of(extract(once)), images(test)
  distance = lambda x: frechet_distance(Moments.of(extract(x)), real)
  back = again(first, held_out, devices)
  shown = held_out[:: len(held_out) // (2 * COLUMNS)][: 2 * COLUMNS], back[:: len(back) // (2 * COLUMNS)]
  rows = zip(*(part[: 2 * COLUMNS].reshape(2, COLUMNS, *held_out.shape[1:]) for part in shown), strict=True)
  save("emoji_reconstructions", np.concatenate([part for row in rows for part in row]))
  lines = [
    ("what", "parameters", "processor's seconds", "Fréchet"),
    ("---",) * 4,
    ("held-out pictures", "", "", f"{distance(held_out):.1f}"),
    ("these through the autoencoder", "", f"{seconds:.0f}", f"{distance(back):.1f}"),
  ]
  for name, said in NAMES.items():
    run, seconds = trained(name, args.emoji, "raw")  # the average of so few steps is mostly the beginning
    drawn = run.sample(len(held_out))["image"]
    count = sum(leaf.size for leaf in jax.tree.leaves(run.params))
    lines.append((f"diffusion on {said}", f"{count:,}", f"{seconds:.0f}", f"{distance(drawn):.1f}"))
    save(f"emoji_{said}", drawn[: 4 * COLUMNS])
  table = "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
  with atomic.writing(HERE / "emoji.md") as file:
    file.write(table.encode())
  print(table)


if __name__ == "__main__":
  main()
