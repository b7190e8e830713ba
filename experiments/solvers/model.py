"""python -m experiments.solvers --workdir=runs/digits: model.png and model.md, for the model trained there.

Every sampler that the model can use draws COUNT samples with each of two seeds, their classes in turn, without
guidance, from the weights that the run samples from. They are judged by the Fréchet distance to the held-out
split in the features of a small classifier (diffjax/metrics/classifier.py). All walk one kind of grid, even in
(sigma / alpha)^(1/7) from 80 (or the schedule's own end) to t_min, and the final denoising is counted.

Such a distance depends on the number of samples, so that the level to compare with is that of as many training
images; the level of all of them is shown as well.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key
from ml_collections import ConfigDict

from diffjax import conditions, experiment, keys
from diffjax.data.source import Field
from diffjax.experiment import Experiment
from diffjax.guidance import Scene, folded
from diffjax.jobs import runs, workdir
from diffjax.jobs.runs import Run
from diffjax.metrics import METRICS
from diffjax.metrics.metric import Metric
from diffjax.samplers import base
from diffjax.schedules import Schedule, rebuilt, shifted
from diffjax.types import ConfigError, Params
from experiments.solvers.page import OPTIONS, Scope, figure, header, steps_within

BUDGETS = "5,10,20,50,100"
TOLERANCES = (1e-1, 1e-3)  # of solvers that choose their own steps, the first and the last
COUNT, SEEDS = 200, (0, 1)
WITHIN = ("clip", "threshold")  # guides that keep the data in their range; the page has no others
NOISIEST = 80.0  # sigma / alpha where grids start; of the noise beyond it a sampler learns nothing


def without_guidance(folder: Path, sampler: str) -> ConfigDict:
  """The run's config with this sampler and the page's grid."""
  config = workdir.load(folder)
  sample = config.sample
  sample.sampler, sample.grid, sample.steps = sampler, "karras", 2
  sample.guides = tuple(name for name in sample.guides if name in WITHIN)
  for option, value in OPTIONS.get(sampler, {}).items():
    sample[sampler][option] = value
  sample.karras.sigma_max = _start(_schedule(config))
  return config


def _maker(config: ConfigDict, section: str, field: str) -> Callable:
  """The maker of what a field names."""
  (make,) = experiment.makers(config, section, field).values()
  return make


def _schedule(config: ConfigDict) -> Schedule:
  return shifted(_maker(config, "schedule", "name")(), config.schedule.shift)


def _start(schedule: Schedule) -> float:
  """NOISIEST, or 0 for the schedule's own end where that is nearer."""
  own = float(np.exp(-schedule.logsnr(1.0) / 2))
  return 0.0 if own <= NOISIEST else NOISIEST


class Draw:
  """Samples of one sampler; one compile serves all grids and seeds, and all tolerances."""

  def __init__(self, parts: Experiment, params: Params, fields: Mapping[str, Field]):
    self.parts, self.params, self.calls = parts, params, 0
    config, index = parts.config, np.arange(COUNT)
    self.request = {"index": index.astype(np.int32)} | parts.task.request(index, None)
    self.sampler = _maker(config, "sample", "sampler")()
    self._schedule = _schedule(config)
    self._space = _maker(config, "space", "name")(fields=fields)
    self._guides = tuple(make() for make in experiment.makers(config, "sample", "guides").values())
    makers = experiment.makers(config, "condition", "names")
    self._conditions = {name: make(fields=fields) for name, make in makers.items()}
    if labels := _maker(config, "data", "augment")().labels:
      self._conditions["augment"] = conditions.augment(labels)
    self._on_grid, self._adapting = jax.jit(self._sample), jax.jit(self._adapt)

  def _denoiser(self, params, schedule):
    """The denoiser of the samples, with what keeps the data in their range."""
    request = {name: jnp.asarray(values) for name, values in self.request.items()}
    cond = conditions.values(self._conditions, request)
    plain = lambda cond: lambda xt, t: self.parts.task.can["denoise"](params, cond)(xt, t, schedule)
    return folded(self._guides, plain(cond), Scene(schedule, plain, cond, None, {}, request, None))

  def _sample(self, params, key, grid, length, sampler=None, watched=lambda denoiser: denoiser):
    schedule = rebuilt(self._schedule, params.get("schedule"))
    denoiser, index = watched(self._denoiser(params, schedule)), jnp.asarray(self.request["index"])
    shape, final = self._space.shape, self.parts.config.sample.final
    return base.sample(denoiser, schedule, sampler or self.sampler, grid, length, key, index, shape, final)

  def _adapt(self, params, key, grid, length, tolerance):
    make = _maker(self.parts.config, "sample", "sampler")
    return self._sample(params, key, grid, length, make(rtol=tolerance, atol=tolerance), self._counted)

  def _counted(self, denoiser):
    def count():
      self.calls += 1

    def watched(xt, t):
      jax.debug.callback(count)
      return denoiser(xt, t)

    return watched

  def on_grid(self, steps: int, key: Key[Array, ""]) -> np.ndarray:
    """Float [COUNT, H, W, C] after so many steps."""
    return np.asarray(self._on_grid(self.params, key, *base.padded(self._grid(steps))))

  def _grid(self, steps: int) -> np.ndarray:
    return _maker(self.parts.config, "sample", "grid")(self._schedule, steps + 1)

  def pixels(self, samples: np.ndarray) -> dict[str, np.ndarray]:
    """Samples as fields."""
    return jax.device_get(self._space.decode({}, samples))

  def adapting(self, tolerance: float, key: Key[Array, ""]) -> tuple[int, np.ndarray]:
    """The calls that the slowest sample took, and the samples."""
    self.calls = 0
    ends = base.padded(self._grid(1))
    images = np.asarray(self._adapting(self.params, key, *ends, jnp.asarray(tolerance)))
    jax.effects_barrier()
    return self.calls, images


class Point(NamedTuple):
  """What a sampler did: the evaluations that it took, and the distance for every seed."""

  evaluations: int
  distances: list[float]


def frechet_of(values: dict[str, float]) -> float:
  """The Fréchet distance of as many samples as there were."""
  return next(value for name, value in values.items() if name.startswith("frechet"))


def tolerances(count: int) -> list[float]:
  """So many, evenly spaced in the logarithm."""
  return [float(f"{tolerance:.1g}") for tolerance in np.geomspace(*TOLERANCES, count)]


def points(draw: Draw, metric: Metric, budgets: Sequence[int]) -> Iterator[Point | None]:
  """For every budget, or as many tolerances; None where not one step fits."""

  def judged(images):
    finite = np.isfinite(images).all()
    return frechet_of(metric.judge(draw.pixels(images), draw.request)) if finite else float("nan")

  sampler = draw.sampler
  if sampler.evaluations is None:
    for tolerance in tolerances(len(budgets)):
      walks = [draw.adapting(tolerance, keys.seed(seed)) for seed in SEEDS]
      yield Point(max(calls for calls, _ in walks), [judged(images) for _, images in walks])
    return
  for steps in (steps_within(sampler, budget) for budget in budgets):
    if not steps:
      yield None
      continue
    with ThreadPoolExecutor(len(SEEDS)) as pool:  # in a loop XLA's CPU convolutions keep to one core
      batches = list(pool.map(functools.partial(draw.on_grid, steps), map(keys.seed, SEEDS)))
    yield Point(steps * sampler.evaluations + 1, [judged(images) for images in batches])


def floors(run: Run, metric: Metric) -> dict[str, float]:
  """The distance of all training images, and of as many as there are samples, their classes in turn."""
  rows, rng = run.data.read(np.arange(len(run.data))), np.random.default_rng(0)
  request = run.experiment.task.request(np.arange(COUNT), None)
  nothing = np.zeros(max(COUNT, len(run.data)))
  targets, labels = (request["label"], rows["label"]) if "label" in request else (nothing[:COUNT], nothing)

  def some():
    places = rng.permutation(len(run.data))
    sample = [places[labels[places] == c][: np.sum(targets == c)] for c in np.unique(targets)]
    sample = {name: values[np.concatenate(sample)] for name, values in rows.items()}
    return frechet_of(metric.judge(sample, sample))

  return {
    f"{COUNT} training images": float(np.median([some() for _ in range(9)])),
    f"all {len(run.data)} training images": metric.floor_at(len(run.data))["frechet"],
  }


def table(
  results: dict, refused: dict[str, str], levels: dict[str, float], weights: str, budgets: Sequence[int]
) -> str:
  """The Markdown table."""
  lines = header(["sampler", *(f"{budget} evaluations" for budget in budgets)])
  for name, (sampler, points) in results.items():
    cells = ["" if point is None else _cell(point, sampler.evaluations is None) for point in points]
    lines.append(f"| `{name}` | {' | '.join(cells)} |")
  notes = [f"The level of {name}: {level:.2f}." for name, level in levels.items()]
  if any(sampler.evaluations is None for sampler, _ in results.values()):
    notes.append(
      f"Adaptive solvers have the tolerances {', '.join(map(str, tolerances(len(budgets))))} in place of the budgets."
    )
  notes += [f"`{name}` is refused: {why}" for name, why in refused.items()]
  about = (
    f"Mean Fréchet distance of {len(SEEDS)} seeds of {COUNT} samples (and the seeds' own), {weights} weights."
  )
  return "\n".join([about, "", *lines, "", " ".join(notes)]) + "\n"


def _cell(point: Point, adaptive: bool) -> str:
  calls = f", {point.evaluations} calls" if adaptive else ""
  low, high = min(point.distances), max(point.distances)
  return f"{np.mean(point.distances):.1f} ({low:.1f} to {high:.1f}){calls}"


def main(folder: Path, scope: Scope) -> None:
  """Writes the table and the figure.

  Raises:
    ConfigError: see runs.start, and where nothing is trained yet.
  """
  run = runs.start(workdir.load(folder), folder)
  ((_, weights, params),) = run.trained("latest", "config.eval.checkpoints")
  metric = METRICS["classifier"](run.data, run.test, run.parallel.local)
  results, refused, levels = {}, {}, floors(run, metric)
  for name in scope.samplers:
    try:
      config = without_guidance(folder, name)
      draw = Draw(experiment.create(config, run.fields), params, run.fields)
      curve = list(points(draw, metric, scope.budgets))
    except ConfigError as error:
      refused[name] = str(error)
      continue
    results[name] = draw.sampler, curve
    print(name, curve, flush=True)
  (scope.out / "model.md").write_text(table(results, refused, levels, weights, scope.budgets))
  means = {
    name: (sampler, [(point.evaluations, np.mean(point.distances)) for point in curve if point])
    for name, (sampler, curve) in results.items()
  }
  figure(scope.out / "model.png", means, ("Fréchet distance",) * 2, (levels, levels))
