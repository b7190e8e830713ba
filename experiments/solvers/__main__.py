"""python -m experiments.solvers: solvers.png and solvers.md beside this file, in a few minutes on a CPU.

The data is a mixture of five Gaussians in the plane with its exact denoiser, on the continuous cosine
schedule between log-SNR -10 and 10, in float64. The grid is even in log-SNR and the final denoising is
counted, so that N evaluations are (N - 1) / evaluations per step steps.
"""

import pathlib

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import scipy.linalg

from diffjax import keys
from diffjax.denoisers import mixture_denoiser
from diffjax.samplers import SAMPLERS, base, grids
from diffjax.schedules import SCHEDULES
from experiments.solvers.orders import fitted_order

matplotlib.use("agg")
import matplotlib.pyplot as plt  # noqa: E402

HERE = pathlib.Path(__file__).parent
BUDGETS = (10, 20, 50, 100)
TOLERANCES = (1e-1, 1e-2, 1e-4, 1e-6)
OPTIONS = {"annealed_langevin": {"corrections": 4}}  # 100 would not fit into the budgets
FEW, MANY = 512, 32768  # samples compared one by one, and by their moments

ANGLES = 2 * np.pi * np.arange(5) / 5
MEANS = 0.7 * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
VARS = np.array([0.02, 0.03, 0.04, 0.05, 0.06])
WEIGHTS = np.array([0.1, 0.15, 0.2, 0.25, 0.3])


def data_moments() -> tuple[np.ndarray, np.ndarray]:
  """Mean and covariance of the mixture."""
  mean = WEIGHTS @ MEANS
  gap = MEANS - mean
  return mean, (WEIGHTS @ VARS) * np.eye(2) + np.einsum("k,ki,kj->ij", WEIGHTS, gap, gap)


def frechet(x: np.ndarray) -> float:
  """Frechet distance (not squared) of the samples' moments to the mixture's."""
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
      return base.sample(denoiser, self.schedule, sampler, grid, length, keys.seed(0), index, (2,))

    return lambda steps: np.asarray(run(*base.padded(grids.logsnr(self.schedule, steps))))

  def distance(self, x: np.ndarray) -> float:
    """Root mean square distance from the exact flow."""
    return float(np.sqrt(np.mean(np.sum((x - self.exact) ** 2, axis=-1))))

  def errors(self, sampler) -> list[tuple[int, float]]:
    """(evaluations, error) for every budget."""
    run = self.sampler_run(sampler, FEW if sampler.deterministic else MANY)
    measure = self.distance if sampler.deterministic else frechet
    steps = [(budget - 1) // sampler.evaluations for budget in BUDGETS]
    return [(n * sampler.evaluations + 1, measure(run(n + 1))) for n in steps]

  def adaptive_errors(self) -> list[tuple[int, float]]:
    """The same for the adaptive solver and every tolerance; the slowest example's calls count."""
    points = []
    for tolerance in TOLERANCES:
      run = self.sampler_run(SAMPLERS["adaptive_ode"](rtol=tolerance, atol=tolerance), FEW, counted=True)
      self.calls = 0
      error = self.distance(run(2))
      jax.effects_barrier()
      points.append((self.calls, error))
    return points


def table(results: dict) -> str:
  """The Markdown table."""
  lines = [
    "| sampler | claimed order | fitted order | measure | " + " | ".join(str(b) for b in BUDGETS) + " |",
    "|---" * (4 + len(BUDGETS)) + "|",
  ]
  for name, (sampler, order, points) in results.items():
    adaptive = sampler.evaluations is None
    cells = [f"{e:.2g} ({n} calls)" if adaptive else f"{e:.2g}" for n, e in points]
    measure = "flow" if sampler.deterministic else "moments"
    claimed, fitted = sampler.order or "none", "" if order is None else f"{order:.2f}"
    lines.append(f"| `{name}` | {claimed} | {fitted} | {measure} | " + " | ".join(cells) + " |")
  return "\n".join(lines) + "\n"


def figure(results: dict, path: pathlib.Path) -> None:
  """Error against evaluations, deterministic samplers on the left and the others on the right."""
  fig, axes = plt.subplots(1, 2, figsize=(13, 5.5), layout="constrained")
  titles = ("distance from the exact flow (root mean square)", "Frechet distance of the samples' moments")
  markers, drawn = "osv^D*Px", [0, 0]
  for name, (sampler, _, points) in results.items():
    side = 0 if sampler.deterministic else 1
    marker = markers[drawn[side] % len(markers)]
    axes[side].loglog(*zip(*points, strict=True), marker=marker, label=name, alpha=0.8)
    drawn[side] += 1
  floor = np.sqrt(np.trace(data_moments()[1]) / MANY)
  axes[1].axhline(floor, color="gray", linestyle=":", label="noise of the sample mean")
  for axis, title in zip(axes, titles, strict=True):
    axis.set(title=title, xlabel="evaluations of the denoiser")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
  fig.savefig(path, dpi=110)


def main() -> None:
  """Writes the table and the figure."""
  results = {}
  with jax.enable_x64(True):
    bench = Bench()
    for name, make in SAMPLERS.items():
      sampler = make(**OPTIONS.get(name, {}))
      points = bench.adaptive_errors() if sampler.evaluations is None else bench.errors(sampler)
      results[name] = sampler, fitted_order(sampler) if sampler.order else None, points
      print(name, results[name][1:], flush=True)
  (HERE / "solvers.md").write_text(table(results))
  figure(results, HERE / "solvers.png")


if __name__ == "__main__":
  main()
