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
from diffjax.jobs import evaluation, training, workdir
from diffjax.machine import atomic, pictures
from diffjax.metrics import METRICS

HERE, RUNS = Path(__file__).resolve().parent, "runs/generative_models"
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
BOUNDS = ("elbo", "iwae", "dequantised", "continuous_vlb")
# What a config does not measure by itself.
LIKELIHOOD = {"digits": {"eval.likelihood": ("continuous_vlb",), "eval.continuous_vlb.levels": 17}}
FIGURES = {
  "Fréchet": ("frechet", ".1f"),
  "agreement": ("agreement", ".3f"),
  "memory ratio": ("memory_ratio", ".2f"),
  "memory share": ("memory_share", ".1%"),
}
HEADER = ("model", "config", *FIGURES, "bits", "parameters", "train s", "sample s")
SEEDS, COLUMNS = 3, 20


def config_of(name: str, **overrides: Any):
  """The config of a name."""
  config = import_module(f"configs.{name}").get_config()
  config.update_from_flattened_dict(LIKELIHOOD.get(name, {}) | overrides)
  return config


def trained(name: str, folder: Path) -> str:
  """Trains it if it is not there; the processor's seconds, kept beside it if one call took it from start to end."""
  kept, new, begun = folder / "seconds.json", not workdir.has_checkpoints(folder), time.process_time()
  config = config_of(name)
  training.train(config, folder)
  seconds = time.process_time() - begun
  if new and diffjax.load(folder).step == config.train.steps:
    with atomic.writing(kept) as file:
      file.write(json.dumps(seconds).encode())
  return f"{json.loads(kept.read_text()):.0f}" if kept.exists() else "-"


def bits(name: str, folder: Path, step: int) -> Mapping[str, Mapping[str, float]]:
  """The likelihoods of the held-out digits by name; none where the model has none."""
  config = config_of(name, **{"eval.metrics": (), "eval.likelihood_images": 355})
  if not config.eval.likelihood and not diffjax.load(folder).experiment.task.likelihoods:
    return {}
  evaluation.evaluate(config, folder)
  return json.loads((folder / "eval" / str(step) / "metrics.json").read_text())["likelihood"]


def figures(value: Mapping[str, float]) -> dict[str, str]:
  """The cells of what the metric says."""
  cell = lambda key, form: f"{value[key]:{form}}".replace("%", " %") if key in value else "-"
  return {name: cell(*of) for name, of in FIGURES.items()}


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
  sign = lambda key: "<= " if key in BOUNDS else ""
  said = [f"{sign(key)}{numbers['bits_per_dim']:.3f} {key}" for key, numbers in likelihood.items()]
  parameters = sum(leaf.size for leaf in jax.tree.leaves(run.params))
  cells = {
    "model": MODELS[name],
    "config": f"`{name}`",
    **figures(value),
    "bits": ", ".join(said) or "-",
    "parameters": "0" if name == "digits_texture" else f"{parameters:,}",
    "train s": seconds,
    "sample s": f"{drawing:.1f}",
  }
  return cells, run.sample(COLUMNS, 0, **of(np.arange(COLUMNS) // 2))["image"]


def table(rows: Sequence[Mapping[str, str]]) -> str:
  """Markdown's."""
  lines = [HEADER, ["---"] * len(HEADER), *([row[name] for name in HEADER] for row in rows)]
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
  if set(args.only) != set(MODELS) and Path(args.out).resolve() == HERE:
    parser.error(
      f"--only would leave {HERE}/table.md without the other models; name another folder by --out."
    )
  train, test = (SOURCES["digits"](split=split) for split in ("train", "test"))
  metric, labels = METRICS["classifier"](train, test, None), train.arrays["label"]
  firsts = [np.flatnonzero(test.arrays["label"] == k)[:2] for k in range(10)]
  real = {"training digits": metric.judge(train.arrays, {"label": labels}), "held-out digits": metric.floor}
  blank = dict.fromkeys(HEADER, "-")
  rows = [blank | {"model": name, "config": ""} | figures(value) for name, value in real.items()]
  samples = {"held-out digits": test.arrays["image"][np.concatenate(firsts)]}
  for name in args.only:
    cells, samples[MODELS[name]] = row(name, Path(args.workdir) / name, metric, labels)
    rows.append(cells)
    with atomic.writing(Path(args.out) / "table.md") as file:
      file.write(table(rows).encode())
    pictures.save_png(Path(args.out) / "samples.png", picture(samples))
  print(table(rows))


if __name__ == "__main__":
  main()
