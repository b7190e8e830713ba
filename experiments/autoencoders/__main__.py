"""python -m experiments.autoencoders: four autoencoders, and a diffusion model on the latents of each.

Two weights of the KL and two numbers of channels; of each PSNR, LPIPS of the digits made eight times as large (with
--perceptual, which wants its weights), rFID and iFID, and the Fréchet distance of the samples of a diffusion model of
its latents (configs/digits_latent.py), the last three in the features of the metric "classifier", with the rank
correlation of the last with the others. All autoencoders are trained before the first diffusion model; what is trained
stays in runs/autoencoders/ and is not trained twice.
"""

import argparse
import itertools
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import diffjax
from configs import digits_kl, digits_latent
from diffjax import experiment
from diffjax.jobs import training
from diffjax.jobs.sampling import Loaded
from diffjax.machine import parallel, pictures
from diffjax.metrics import METRICS, PROBES, lpips
from diffjax.metrics.probe import images, mapped
from diffjax.metrics.reconstruction import NONE, lpips_between, to_pixels
from diffjax.ranges import at_least, check
from diffjax.types import ConfigError, RunError, Trained
from experiments.tools import sheet

HERE, RUNS = Path(__file__).parent, Path("runs/autoencoders")
WEIGHTS, CHANNELS = (1e-4, 1e-1), (2, 8)
FIGURES = {"psnr": "PSNR [dB]", "lpips": "LPIPS", "rfid": "rFID", "ifid": "iFID"}
SAMPLES, COLUMNS, ENLARGED = 1442, 8, 8
JUDGED = f"Fréchet_{SAMPLES}"


def trained(config, folder: Path) -> Loaded:
  """The run of a config, trained if it is not there."""
  training.train(config, folder)
  return diffjax.load(folder)


def folder_of(weight: float, channels: int) -> Path:
  """The workdir of an autoencoder."""
  return RUNS / f"kl{weight:g}_z{channels}"


def autoencoder(weight: float, channels: int, steps: int):
  """The config of one."""
  config = digits_kl.get_config()
  config.model.kl.latent_channels, config.objective.kl.weight = channels, weight
  config.train.steps = steps
  return config


def diffusion(place: Path, steps: int):
  """The config of a diffusion model of its latents."""
  config = digits_latent.get_config()
  config.space.latent.run, config.train.steps = str(place), steps
  return config


def perceptual(model: Trained, test, devices, network: str) -> float:
  """LPIPS of the held-out images and what comes back, both enlarged, since its network is of photographs."""
  x = images(test)
  again = to_pixels(mapped(model, "decode", mapped(model, "encode", x, devices)["mean"], devices))
  large = (pixels.repeat(ENLARGED, 1).repeat(ENLARGED, 2) for pixels in (x, again))
  return float(lpips_between(network, *large).mean())


def measured(
  weight: float, channels: int, steps: int, network: str, splits, metric, devices
) -> tuple[dict[str, float], np.ndarray]:
  """The row of one autoencoder, and some samples of its diffusion model."""
  place = folder_of(weight, channels)
  first = trained(autoencoder(weight, channels, steps), place)
  model = Trained(str(place), first.experiment.task.can, first.params, "")
  row = {"KL weight": weight, "channels": channels}
  row |= PROBES["reconstruction"](model, *splits, devices).values
  row |= PROBES["ifid"](model, *splits, devices, features="classifier").values
  if network != NONE:
    row["lpips"] = perceptual(model, splits[1], devices, network)
  second = trained(diffusion(place, steps), RUNS / f"latent_kl{weight:g}_z{channels}")
  distances = []
  for seed in range(3):
    samples = second.sample(SAMPLES, seed)
    distances.append(
      next(value for name, value in metric.judge(samples, {}).items() if name.startswith("frechet"))
    )
  row |= {JUDGED: float(np.median(distances)), "lowest": min(distances), "highest": max(distances)}
  return row, samples["image"][: 2 * COLUMNS]


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
  """Spearman's, of values without ties."""
  ranks = (np.argsort(np.argsort(values)) for values in (a, b))
  return float(np.corrcoef(*ranks)[0, 1])


def interval(count: int, level: float = 0.95) -> float:
  """The least |rank correlation| that chance has in no more than 1 - level of all orders of `count`; above 1: none."""
  correlations = sorted(
    abs(rank_correlation(range(count), order)) for order in itertools.permutations(range(count))
  )
  allowed = int((1 - level) * len(correlations))
  least = [
    value
    for value in sorted(set(correlations))
    if sum(other >= value - 1e-9 for other in correlations) <= allowed
  ]
  return least[0] if least else np.inf


def around(correlation: float, count: int, level: float = 0.95) -> tuple[float, float]:
  """The interval of a rank correlation of `count` > 3 pairs by Fisher's z with Fieller's variance, 1.06 / (count - 3).

  One of 1 counts as half the step to the next lower, since of so few it does not say that all others would agree.
  """
  most = 1 - 6 / (count * (count**2 - 1))
  z = np.arctanh(np.clip(correlation, -most, most))
  reach = statistics.NormalDist().inv_cdf((1 + level) / 2) * np.sqrt(1.06 / (count - 3))
  return float(np.tanh(z - reach)), float(np.tanh(z + reach))


def page(rows: Sequence[Mapping[str, float]]) -> str:
  """The table and what the ranks say."""
  figures = [name for name in FIGURES if name in rows[0]]
  names = ("KL weight", "channels", *figures, "kl", "active", JUDGED, "lowest", "highest")
  heads = [FIGURES.get(name, name) for name in names]
  lines = [heads, ["---"] * len(names), *([f"{row[name]:.4g}" for name in names] for row in rows)]
  text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
  ranks = {name: rank_correlation([r[name] for r in rows], [r[JUDGED] for r in rows]) for name in figures}
  sentence = ", ".join(
    "{} {:+.2f} ({:+.2f} to {:+.2f})".format(FIGURES[name].split(" ")[0], value, *around(value, len(rows)))
    for name, value in ranks.items()
  )
  return (
    f"{text}\n\nRank correlation with {JUDGED}, and its 95 % interval: {sentence}. "
    f"{significance(interval(len(rows)), len(rows))}\n"
  )


def significance(least: float, count: int) -> str:
  """What `interval` says, in words."""
  if np.isfinite(least):
    return f"With {count} autoencoders one below {least:.2f}, of either sign, cannot be told from chance (5 % level)."
  return (
    f"{count} autoencoders are too few to tell any rank correlation from chance (5 % level), even one of 1."
  )


def draw(rows: Sequence[Mapping[str, float]]) -> None:
  """scatter.png: each figure against the distance of the samples."""
  figures = [name for name in FIGURES if name in rows[0]]
  figure = Figure(figsize=(3.2 * len(figures), 3.2), layout="constrained")
  FigureCanvasAgg(figure)
  for axes, name in zip(figure.subplots(1, len(figures)), figures, strict=True):
    for row in rows:
      spread = [[row[JUDGED] - row["lowest"]], [row["highest"] - row[JUDGED]]]
      label = f"KL weight {row['KL weight']:g}, {row['channels']:g} channels"
      axes.errorbar(row[name], row[JUDGED], spread, marker="o", capsize=3, label=label)
    axes.set(xlabel=FIGURES[name], ylabel=f"Fréchet distance of {SAMPLES:,} samples")
    axes.grid(alpha=0.3)
  figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=len(rows))
  figure.savefig(HERE / "scatter.png", dpi=120)


def experimented(steps: int, perceptual: str) -> None:
  """Trains, measures, and writes the table and the pictures."""
  devices, pairs = parallel.create(), list(itertools.product(WEIGHTS, CHANNELS))
  for pair in pairs:
    training.train(autoencoder(*pair, steps), folder_of(*pair))
  splits = [experiment.source(digits_kl.get_config(), split) for split in ("train", "test")]
  metric = METRICS["classifier"](*splits, devices)
  row = lambda pair: measured(*pair, steps, perceptual, splits, metric, devices)
  rows, samples = zip(*map(row, pairs), strict=True)
  (HERE / "table.md").write_text(page(rows))
  draw(rows)
  names = [f"KL weight {weight:g}, {channels} channels" for weight, channels in pairs]
  pictures.save_png(HERE / "samples.png", sheet.named(list(zip(names, samples, strict=True)), 2 * COLUMNS))
  print(page(rows))


def main(argv: Sequence[str] | None = None) -> None:
  """Runs the command line."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--steps", type=int, default=1000, help="of each of the eight trainings")
  parser.add_argument("--perceptual", choices=(NONE, *lpips.NETWORKS), default=NONE, help="LPIPS's network")
  args = parser.parse_args(argv)
  try:
    check("--steps", args.steps, at_least(1))
    if args.perceptual != NONE:
      lpips.load(args.perceptual)  # before anything is trained
    experimented(args.steps, args.perceptual)
  except (ConfigError, RunError, OSError) as error:
    sys.exit(str(error))


if __name__ == "__main__":
  main()
