"""python -m experiments.solvers: solvers.png and solvers.md beside this file, in a few minutes on a CPU.

The data is a mixture of five Gaussians in 32 dimensions, their means in one plane, with its exact denoiser,
on the continuous cosine schedule between log-SNR -10 and 10, in float64. The grid is even in log-SNR and the
final denoising is counted, so that N evaluations are (N - 1) / evaluations per step steps.

With --workdir=WORKDIR the samplers are compared on the model trained there (model.py). A part of either page, to
look at: --samplers=ddim,heun --budgets=10,20 --out=FOLDER.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from diffjax import keys
from diffjax.denoisers import mixture_denoiser
from diffjax.samplers import SAMPLERS, base, grids
from diffjax.schedules import SCHEDULES
from diffjax.types import ConfigError
from experiments.solvers import model
from experiments.solvers.orders import fitted_order
from experiments.solvers.page import HERE, OPTIONS, Scope, figure, header, scope, steps_within

BUDGETS = "10,20,50,100"
TOLERANCES = (1e-2, 1e-8)  # of the adaptive solver, the first and the last
FEW, MANY = 512, 16384  # samples compared one by one, and by their moments

ANGLES = 2 * np.pi * np.arange(5) / 5
MEANS = np.pad(0.7 * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1), ((0, 0), (0, 30)))
DIM = MEANS.shape[1]
VARS = np.array([0.02, 0.03, 0.04, 0.05, 0.06])
WEIGHTS = np.array([0.1, 0.15, 0.2, 0.25, 0.3])


def data_moments() -> tuple[np.ndarray, np.ndarray]:
  """Mean and covariance of the mixture."""
  mean = WEIGHTS @ MEANS
  gap = MEANS - mean
  return mean, (WEIGHTS @ VARS) * np.eye(DIM) + np.einsum("k,ki,kj->ij", WEIGHTS, gap, gap)


def data(count: int) -> np.ndarray:
  """Exact draws of the mixture."""
  rng = np.random.default_rng(0)
  which = rng.choice(len(WEIGHTS), count, p=WEIGHTS)
  return MEANS[which] + np.sqrt(VARS[which])[:, None] * rng.standard_normal((count, DIM))


def frechet(x: np.ndarray) -> float:
  """Fréchet distance (not squared) of the samples' moments to the mixture's."""
  mean, cov = data_moments()
  gap, own = x.mean(0) - mean, np.cov(x.T)
  squared = gap @ gap + np.trace(own + cov - 2 * np.real(scipy.linalg.sqrtm(own @ cov)))
  return float(np.sqrt(max(squared, 0)))


class Bench:
  """The schedule, the denoiser and the noise that all samplers share, and the exact flow of that noise."""

  def __init__(self):
    self.schedule = SCHEDULES["continuous_cosine"](-10.0, 10.0)
    arrays = (jnp.asarray(a) for a in (MEANS, VARS, WEIGHTS))
    self.denoiser, self.calls = mixture_denoiser(self.schedule, *arrays), 0
    exact = SAMPLERS["adaptive_ode"](rtol=1e-12, atol=1e-12, solver="dopri8", max_steps=100_000)
    self.exact = self.sampler_run(exact, FEW)(2)

  def counted(self, xt, t):
    """The denoiser, counting its calls."""
    jax.debug.callback(self._count)
    return self.denoiser(xt, t)

  def _count(self):
    self.calls += 1

  def sampler_run(self, sampler, samples, counted=False):
    """A function: number of times in the grid -> samples."""
    denoiser, index = self.counted if counted else self.denoiser, jnp.arange(samples)

    @jax.jit
    def run(grid, length):
      return base.sample(denoiser, self.schedule, sampler, grid, length, keys.seed(0), index, (DIM,))

    return lambda steps: np.asarray(run(*base.padded(grids.logsnr(self.schedule, steps))))

  def distance(self, x: np.ndarray) -> float:
    """Root mean square distance from the exact flow."""
    return float(np.sqrt(np.mean(np.sum((x - self.exact) ** 2, axis=-1))))

  def errors(self, sampler, budgets: Sequence[int]) -> list[tuple[int, float] | None]:
    """(evaluations, error) for every budget; None where not one step fits."""
    run = self.sampler_run(sampler, FEW if sampler.deterministic else MANY)
    measure = self.distance if sampler.deterministic else frechet
    steps = [steps_within(sampler, budget) for budget in budgets]
    return [(n * sampler.evaluations + 1, measure(run(n + 1))) if n else None for n in steps]

  def adaptive_errors(self, count: int) -> list[tuple[int, float]]:
    """The same for the adaptive solver and so many tolerances; the slowest example's calls count."""
    points = []
    for tolerance in np.geomspace(*TOLERANCES, count):
      run = self.sampler_run(SAMPLERS["adaptive_ode"](rtol=tolerance, atol=tolerance), FEW, counted=True)
      self.calls = 0
      error = self.distance(run(2))
      jax.effects_barrier()
      points.append((self.calls, error))
    return points


def table(results: dict, budgets: Sequence[int]) -> str:
  """The Markdown table."""
  lines = header(["sampler", "claimed order", "fitted order", "measure", *map(str, budgets)])
  for name, (sampler, order, points) in results.items():
    adaptive = sampler.evaluations is None
    cells = ["" if point is None else _cell(*point, adaptive) for point in points]
    measure = "flow" if sampler.deterministic else "moments"
    claimed, fit = sampler.order or "none", "" if order is None else f"{order:.2f}"
    lines.append(f"| `{name}` | {claimed} | {fit} | {measure} | " + " | ".join(cells) + " |")
  return "\n".join(lines) + "\n"


def _cell(calls: int, error: float, adaptive: bool) -> str:
  return f"{error:.2g} ({calls} calls)" if adaptive else f"{error:.2g}"


def exact(scope: Scope) -> None:
  """Writes the table and the figure of the exact denoisers."""
  results = {}
  with jax.enable_x64(True):
    bench = Bench()
    for name in scope.samplers:
      sampler = SAMPLERS[name](**OPTIONS.get(name, {}))
      adaptive = sampler.evaluations is None
      points = bench.adaptive_errors(len(scope.budgets)) if adaptive else bench.errors(sampler, scope.budgets)
      results[name] = sampler, fitted_order(sampler) if sampler.order else None, points
      print(name, results[name][1:], flush=True)
  (scope.out / "solvers.md").write_text(table(results, scope.budgets))
  points = {name: (sampler, list(filter(None, errors))) for name, (sampler, _, errors) in results.items()}
  ylabels = ("distance from the exact flow, root mean square", "Fréchet distance of the samples' moments")
  figure(scope.out / "solvers.png", points, ylabels, ({}, {"as many draws of the data": frechet(data(MANY))}))


def main(arguments: Sequence[str] | None = None) -> None:
  """The page of the exact denoisers, or with --workdir that of a trained model."""
  parser = argparse.ArgumentParser(prog="python -m experiments.solvers", description=__doc__.split("\n")[0])
  parser.add_argument("--workdir", type=Path, help="compare on the model that is trained there")
  parser.add_argument("--samplers", default="", help="some of them, with commas; default all")
  parser.add_argument(
    "--budgets", help=f"evaluations; default {BUDGETS}, {model.BUDGETS} for a trained model"
  )
  parser.add_argument("--out", type=Path, default=HERE, help="folder of the page; default that of the code")
  options = parser.parse_args(arguments)
  try:
    budgets = options.budgets or (BUDGETS if options.workdir is None else model.BUDGETS)
    choice = scope(options.samplers, budgets, options.out)
    options.out.mkdir(parents=True, exist_ok=True)
    return exact(choice) if options.workdir is None else model.main(options.workdir, choice)
  except (ConfigError, OSError) as error:
    sys.exit(str(error))


if __name__ == "__main__":
  main()
