"""python -m experiments.generative_models: every kind of generative model on the digits, in one table and one picture.

Each config is trained, unless it stays in runs/generative_models/ from before, draws as many digits as there are to
train on, of the same classes, three times, and is judged by the metric "classifier", of which the medians are told;
where the model has a likelihood, bits per pixel of the held-out digits, at the digits' 17 grey levels. Seconds are of
the processor, all cores together.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image, ImageDraw, ImageFont

import diffjax
from diffjax.data import SOURCES
from diffjax.jobs import evaluation, training
from diffjax.machine import atomic, pictures
from diffjax.metrics import METRICS

HERE, RUNS = Path(__file__).parent, "runs/generative_models"
MODELS = {
  "digits_texture": "texture synthesis",
  "digits_mixture": "Gaussian mixture",
  "digits_vae": "VAE",
  "digits_gan": "GAN, non-saturating, R1",
  "digits_wgan": "WGAN-GP",
  "digits_realnvp": "RealNVP",
  "digits_made": "MADE",
  "digits_pixelcnn": "PixelCNN",
  "digits": "diffusion",
}
# What a config does not measure by itself.
LIKELIHOOD = {"digits": {"eval.likelihood": ("continuous_vlb",), "eval.continuous_vlb.levels": 17}}
HEADER = (
  *("model", "config", "Fréchet", "agreement", "memory ratio", "memory share", "bits", "parameters"),
  *("train s", "sample s"),
)
SEEDS, COLUMNS = 3, 20


def config_of(name: str, **overrides: Any):
  """The config of a name."""
  config = import_module(f"configs.{name}").get_config()
  config.update_from_flattened_dict(LIKELIHOOD.get(name, {}) | overrides)
  return config


def trained(name: str, folder: Path) -> float:
  """Trains it if it is not there; the processor's seconds that it took, kept beside it."""
  kept, begun = folder / "seconds.json", time.process_time()
  training.train(config_of(name), folder)
  if not kept.exists():
    with atomic.writing(kept) as file:
      file.write(json.dumps(time.process_time() - begun).encode())
  return json.loads(kept.read_text())


def bits(name: str, folder: Path, step: int) -> Mapping[str, Mapping[str, float]]:
  """The likelihoods of the held-out digits by name; none where the model has none."""
  config = config_of(name, **{"eval.metrics": (), "eval.likelihood_images": 355})
  if not config.eval.likelihood and not diffjax.load(folder).experiment.task.likelihoods:
    return {}
  evaluation.evaluate(config, folder)
  return json.loads((folder / "eval" / str(step) / "metrics.json").read_text())["likelihood"]


def row(name: str, folder: Path, metric, labels: np.ndarray) -> tuple[dict[str, str], np.ndarray]:
  """The table's row, and a row of samples, two of each class."""
  seconds = trained(name, folder)
  run = diffjax.load(folder)
  told = "label" in run.experiment.task.request(np.arange(1), None)
  of = lambda label: {"label": label} if told else {}
  found, drawing = [], 0.0
  for seed in range(SEEDS):
    begun = time.process_time()
    drawn = run.sample(len(labels), seed, **of(labels))
    drawing = time.process_time() - begun  # of the last, which compiles nothing
    found.append(metric.judge(drawn, of(labels)))
  value = {key: float(np.median([one[key] for one in found])) for key in found[0]}
  likelihood = bits(name, folder, run.step)
  about = {"elbo": "<= ", "iwae": "<= ", "continuous_vlb": "<= "}
  said = [f"{about.get(key, '')}{numbers['bits_per_dim']:.3f} {key}" for key, numbers in likelihood.items()]
  parameters = sum(leaf.size for leaf in jax.tree.leaves(run.params))
  cells = {
    "model": MODELS[name],
    "config": f"`{name}`",
    "Fréchet": f"{value['frechet']:.1f}",
    "agreement": f"{value['agreement']:.3f}" if told else "-",
    "memory ratio": f"{value['memory_ratio']:.2f}",
    "memory share": f"{100 * value['memory_share']:.1f} %",
    "bits": ", ".join(said) or "-",
    "parameters": "0" if name == "digits_texture" else f"{parameters:,}",
    "train s": f"{seconds:.0f}",
    "sample s": f"{drawing:.1f}",
  }
  return cells, run.sample(COLUMNS, 0, **of(np.arange(COLUMNS) // 2))["image"]


def table(rows: Sequence[Mapping[str, str]], floor: Mapping[str, float]) -> str:
  """Markdown's, what real digits have first."""
  real = {
    "model": "training digits as samples",
    "Fréchet": f"{floor['frechet']:.1f}",
    "agreement": f"{floor['agreement']:.3f}",
    "memory ratio": "held-out digits: 1.00",
    "memory share": f"{100 * floor['memory_share']:.1f} %",
  }
  lines = [HEADER, ["---"] * len(HEADER), *([one.get(name, "") for name in HEADER] for one in (real, *rows))]
  return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def picture(samples: Mapping[str, np.ndarray]) -> np.ndarray:
  """A row of samples each, with its name on the left."""
  sheet = pictures.grid(np.concatenate(list(samples.values())), COLUMNS, scale=4)
  side = Image.new("L", (170, len(sheet)), 255)
  for k, name in enumerate(samples):
    place = (4, int((k + 0.3) * len(sheet) / len(samples)))
    ImageDraw.Draw(side).text(place, name, fill=0, font=ImageFont.load_default(12))
  return np.concatenate([np.asarray(side)[..., None], sheet], axis=1)


def main(argv: Sequence[str] | None = None) -> None:
  """Runs the command line."""
  parser = argparse.ArgumentParser("python -m experiments.generative_models", description=__doc__)
  parser.add_argument("--workdir", default=RUNS, help="where the runs lie (%(default)s)")
  parser.add_argument("--out", default=str(HERE), help="where table.md and samples.png go")
  parser.add_argument("--only", nargs="*", choices=MODELS, default=list(MODELS), help="some of the models")
  args = parser.parse_args(argv)
  train, test = (SOURCES["digits"](split=split) for split in ("train", "test"))
  metric, labels = METRICS["classifier"](train, test, None), train.arrays["label"]
  firsts = [np.flatnonzero(test.arrays["label"] == k)[:2] for k in range(10)]
  real = metric.floor | metric.floor_at(len(labels))
  rows, samples = [], {"held-out digits": test.arrays["image"][np.concatenate(firsts)]}
  for name in args.only:
    cells, samples[MODELS[name]] = row(name, Path(args.workdir) / name, metric, labels)
    rows.append(cells)
    with atomic.writing(Path(args.out) / "table.md") as file:
      file.write(table(rows, real).encode())
    pictures.save_png(Path(args.out) / "samples.png", picture(samples))
  print(table(rows, real))


if __name__ == "__main__":
  main()
