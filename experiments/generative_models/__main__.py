"""python -m experiments.generative_models: every kind of generative model on the digits, in a table and two pictures.

Each config is trained, unless it stays in runs/generative_models/ from before, draws as many digits as there are to
train on, of the same classes, three times, and is judged by the metric "classifier", of which the medians are told;
where the model has a likelihood, bits per pixel of 355 held-out digits, at the digits' 17 grey levels. Seconds are of
the processor, all cores together. With --fashion all that of Fashion-MNIST, as fashion.py has it.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

import jax
import numpy as np

import diffjax
from diffjax import experiment
from diffjax.jobs import evaluation, training, workdir
from diffjax.machine import atomic, pictures
from diffjax.metrics import METRICS, memorization
from diffjax.types import ConfigError, RunError
from experiments.generative_models import fashion
from experiments.tools import sheet

HERE, RUNS = Path(__file__).resolve().parent, "runs/generative_models"
MODELS = {
  "digits_texture": "texture synthesis",
  "digits_mixture": "Gaussian mixture",
  "digits_vae": "VAE",
  "digits_gan": "GAN, non-saturating, R1",
  "digits_wgan": "WGAN-GP",
  "digits_realnvp": "RealNVP, temperature 0.7",
  "digits_made": "MADE, temperature 0.8",
  "digits_pixelcnn": "PixelCNN",
  "digits": "diffusion",
  "digits_vdm": "diffusion, VDM's loss",
}
BOUNDS = ("elbo", "iwae", "dequantised", "continuous_vlb", "ode")
# What a config does not measure by itself, or not at 17 levels, where half a bin is three sigma at a log-SNR of 7.7.
SHARP = 7.7
DIFFUSION = {
  "eval.likelihood": ("continuous_vlb", "ode"),
  **{f"eval.{way}.levels": 17 for way in ("continuous_vlb", "ode")},
  **{f"eval.{way}.logsnr_max": SHARP for way in ("continuous_vlb", "ode")},
}
VDM = {"objective.vdm.levels": 17, "schedule.learned.logsnr_max": SHARP}
LIKELIHOOD = {"digits": DIFFUSION, "digits_vdm": DIFFUSION | VDM}
FIGURES = {
  "Fréchet": ("frechet", ".1f"),
  "agreement": ("agreement", ".3f"),
  "memory ratio": ("memory_ratio", ".2f"),
  "memory share": ("memory_share", ".1%"),
}
HEADER = ("model", "config", *FIGURES, "bits", "parameters", "train s", "sample s")
SEEDS, COLUMNS, SAMPLES, HELD_OUT = 3, 20, 1442, 355


def config_of(name: str, path: str = ""):
  """The config of a name, of the digits or, with its path, of Fashion-MNIST."""
  config = import_module(f"configs.{name}").get_config()
  config.update_from_flattened_dict(LIKELIHOOD.get(name, {}))
  if path:
    fashion.change(config, name, path)
  return config


def trained(config, folder: Path) -> str:
  """Trains it if it is not there; the processor's seconds, kept beside it if one call took it from start to end."""
  file, new, begun = folder / "seconds.json", not workdir.has_checkpoints(folder), time.process_time()
  training.train(config, folder)
  seconds = time.process_time() - begun
  if new and diffjax.load(folder).step == config.train.steps:
    atomic.write_json(file, seconds)
  return f"{json.loads(file.read_text()):.0f}" if file.exists() else "-"


def bits(config, folder: Path, step: int) -> Mapping[str, Mapping[str, float]]:
  """The likelihoods of held-out images by name; none where the model has none."""
  config.eval.metrics, config.eval.likelihood_images = (), HELD_OUT
  if not config.eval.likelihood and not diffjax.load(folder).experiment.task.likelihoods:
    return {}
  evaluation.evaluate(config, folder)
  return json.loads((folder / "eval" / str(step) / "metrics.json").read_text())["likelihood"]


def figures(value: Mapping[str, float]) -> dict[str, str]:
  """The cells of what the metric says; a distance that has its count in its name is one too."""
  value = {re.sub(r"_\d+$", "", key): number for key, number in value.items()}
  cell = lambda key, form: f"{value[key]:{form}}".replace("%", " %") if key in value else "-"
  return {name: cell(*of) for name, of in FIGURES.items()}


def row(name: str, config, folder: Path, metric, labels: np.ndarray) -> tuple[dict[str, str], np.ndarray]:
  """The table's row, and a row of samples, two of each class."""
  seconds = trained(config, folder)
  run = diffjax.load(folder)
  conditional = "label" in run.experiment.task.request(np.arange(1), None)
  of = lambda label: {"label": label} if conditional else {}
  scores, drawing = [], 0.0
  for seed in range(SEEDS):
    begun = time.process_time()
    samples = run.sample(len(labels), seed, **of(labels))
    drawing = time.process_time() - begun  # of the last, which compiles nothing
    scores.append(metric.judge(samples, of(labels)))
  value = {key: float(np.median([one[key] for one in scores])) for key in scores[0]}
  likelihood = bits(config, folder, run.step)
  sign = lambda key: "<= " if key in BOUNDS else ""
  likelihoods = [f"{sign(key)}{numbers['bits_per_dim']:.3f} {key}" for key, numbers in likelihood.items()]
  parameters = sum(leaf.size for leaf in jax.tree.leaves(run.params))
  cells = {
    "model": MODELS[name],
    "config": f"`{name}`",
    **figures(value),
    "bits": ", ".join(likelihoods) or "-",
    "parameters": "0" if name == "digits_texture" else f"{parameters:,}",
    "train s": seconds,
    "sample s": f"{drawing:.1f}",
  }
  return cells, run.sample(COLUMNS, 0, **of(np.arange(COLUMNS) // 2))["image"]


def table(rows: Sequence[Mapping[str, str]]) -> str:
  """Markdown's."""
  lines = [HEADER, ["---"] * len(HEADER), *([row[name] for name in HEADER] for row in rows)]
  return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def main(argv: Sequence[str] | None = None) -> None:
  """Runs the command line."""
  parser = argparse.ArgumentParser("python -m experiments.generative_models", description=__doc__)
  parser.add_argument("--workdir", default=RUNS, help="where the runs lie (%(default)s)")
  parser.add_argument("--out", default=str(HERE), help="where the table and the pictures go")
  parser.add_argument("--only", nargs="*", choices=MODELS, help="some of the models")
  parser.add_argument("--fashion", default="", help="Fashion-MNIST's npz, in place of the digits")
  args = parser.parse_args(argv)
  names, here = (fashion.OVERRIDES, "fashion") if args.fashion else (MODELS, "digits")
  only = args.only or list(names)
  if set(only) != set(names) and Path(args.out).resolve() == HERE:
    parser.error(
      f"--only would leave {HERE}/{here}.md without the other models; name another folder by --out."
    )
  try:
    compare(only, here, args)
  except (ConfigError, RunError, OSError) as error:
    sys.exit(re.sub(r"config\.data\.arrays\.(test_)?path is", "--fashion is", str(error)))


def compare(only: Sequence[str], here: str, args: argparse.Namespace) -> None:
  """Trains and judges the models of these names; writes table and pictures after every one."""
  configs = {name: config_of(name, args.fashion) for name in only}
  train, test = (experiment.source(configs[only[0]], split) for split in ("train", "test"))
  metric = METRICS["classifier"](train, test, None)
  first = lambda source, count: source.read(np.arange(min(count, len(source))), ("image", "label"))
  examples, held_out = first(train, SAMPLES), first(test, HELD_OUT)
  every = train.read(np.arange(min(memorization.MOST, len(train))), ("image",))["image"]
  real = {
    "training images": metric.judge(examples, {"label": examples["label"]}),
    "held-out images": metric.floor,
  }
  classes = fashion.CLASSES if args.fashion else tuple("0123456789")
  blank = dict.fromkeys(HEADER, "-")
  rows = [blank | {"model": name, "config": ""} | figures(value) for name, value in real.items()]
  twos = np.concatenate([np.flatnonzero(held_out["label"] == k)[:2] for k in range(10)])
  samples = {"held-out images": held_out["image"][twos]}
  for name in only:
    folder = Path(args.workdir) / here / name
    cells, samples[MODELS[name]] = row(name, configs[name], folder, metric, examples["label"])
    rows.append(cells)
    with atomic.writing(Path(args.out) / f"{here}.md") as file:
      file.write(table(rows).encode())
    near = {name: np.concatenate([x, every[memorization.places(x, every)]]) for name, x in samples.items()}
    for ending, rows_of in ("", samples), ("_nearest", near):
      page = sheet.named(list(rows_of.items()), COLUMNS, classes, scale=32 // every.shape[1])
      pictures.save_png(Path(args.out) / f"{here}{ending}.png", page)
  print(table(rows))


if __name__ == "__main__":
  main()
