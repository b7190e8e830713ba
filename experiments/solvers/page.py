"""What the page of the exact denoisers and the page of a trained model share: budgets, options, the picture."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np

from diffjax.samplers import SAMPLERS
from diffjax.samplers.base import Sampler
from diffjax.types import ConfigError

matplotlib.use("agg")
import matplotlib.pyplot as plt  # noqa: E402

HERE = pathlib.Path(__file__).parent
OPTIONS = {"annealed_langevin": {"corrections": 4}}  # 100 would not fit into the budgets
MARKERS = "osv^D*Px"
BEYOND = 100  # times the median error, where a picture ends
LEAST = 2  # evaluations: a step and the final denoising


class Scope(NamedTuple):
  """What a page is about: the samplers' names, the budgets of evaluations, and the folder that it goes to."""

  samplers: tuple[str, ...]
  budgets: tuple[int, ...]
  out: pathlib.Path


def scope(samplers: str, budgets: str, out: pathlib.Path) -> Scope:
  """The scope of lists with commas; no samplers are all of them.

  Raises:
    ConfigError: a sampler that does not exist, or budgets that are no numbers of evaluations, or too small.
  """
  names = tuple(samplers.split(",")) if samplers else tuple(SAMPLERS)
  if unknown := [name for name in names if name not in SAMPLERS]:
    raise ConfigError(f"--samplers names {', '.join(unknown)}; it must be some of {', '.join(SAMPLERS)}.")
  numbers = budgets.split(",")
  if not all(number.isdecimal() and int(number) >= LEAST for number in numbers):
    raise ConfigError(
      f"--budgets is {budgets!r}; it must be numbers of evaluations, each at least {LEAST}, such as 10,20,50."
    )
  return Scope(names, tuple(map(int, numbers)), out)


def steps_within(sampler: Sampler, budget: int) -> int:
  """Steps that cost at most `budget` evaluations with the final denoising."""
  return (budget - 1) // sampler.evaluations


def figure(
  path: pathlib.Path,
  results: Mapping[str, tuple[Sampler, Sequence[tuple[float, float]]]],
  ylabels: tuple[str, str],
  lines: tuple[Mapping[str, float], Mapping[str, float]],
) -> None:
  """Points (evaluations, error) by sampler, the deterministic ones on the left and the others on the right.

  The errors shown end at BEYOND times their median; a line above it leaves the picture, as the title says.

  Args:
    path: the PNG.
    results: by the sampler's name.
    ylabels: what is measured in the left and the right half; less is better.
    lines: levels to compare with, by what they are called, in each half.
  """
  fig, axes = plt.subplots(1, 2, figsize=(13, 6.5), layout="constrained")
  counts = [0, 0]
  for name, (sampler, points) in results.items():
    side = 0 if sampler.deterministic else 1
    marker = MARKERS[counts[side] % len(MARKERS)]
    axes[side].loglog(*zip(*sorted(points), strict=True), marker=marker, label=name, alpha=0.8)
    counts[side] += 1
  for axis, title, ylabel, levels in zip(axes, ("deterministic", "stochastic"), ylabels, lines, strict=True):
    for (name, level), style in zip(levels.items(), (":", "--", "-."), strict=False):
      axis.axhline(level, color="gray", linestyle=style, label=name)
    beyond = _cut(axis)
    title = "\n".join([f"{title} samplers", *beyond])
    axis.set(title=title, xlabel="evaluations of the denoiser", ylabel=f"{ylabel} (lower is better)")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.12))
  fig.savefig(path, dpi=110)
  plt.close(fig)


def _cut(axis: plt.Axes) -> list[str]:
  """Ends the errors shown at BEYOND times their median; says which samplers leave the picture there."""
  errors = {line.get_label(): line.get_ydata() for line in axis.lines if line.get_marker() != "None"}
  top = BEYOND * np.nanmedian(np.concatenate([*errors.values()])) if errors else np.inf
  beyond = [name for name, ys in errors.items() if np.nanmax(ys) > top]
  if beyond:
    axis.set_ylim(top=top)
  return [f"(above {top:.2g}: {', '.join(beyond)})"] if beyond else []


def header(columns: Sequence[str]) -> list[str]:
  """The first two lines of a Markdown table."""
  return [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
