"""A trained run to sample from: `diffjax.load("runs/digits")` in Python, and main.py's --mode=sample.

run = diffjax.load("runs/digits@1000:raw")
run.sample(4, label=7)["image"]
"""

import dataclasses
import functools
import numbers
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from diffjax import keys
from diffjax.config import base
from diffjax.data import cache
from diffjax.data.source import Field
from diffjax.experiment import Experiment
from diffjax.jobs import album, results, runs, trained, workdir
from diffjax.jobs.drawing import Samples, Sampling, image_of
from diffjax.jobs.runs import Run
from diffjax.machine import disk, films, pictures, reporting
from diffjax.ranges import at_least, check, closed
from diffjax.tasks.task import require
from diffjax.types import ConfigError, Params

SHOWN = 64  # videos that play together
ASKED = 256  # pictures that samples ask for, in one picture
EARLY = 0.01  # share of the initial weights in an average above which this is said


@dataclasses.dataclass(frozen=True)
class Unopened:
  """A split of the data of a run as a Source, opened when it is read: most samples need none of it."""

  run: runs.Run
  split: str = "train"

  @property
  def fields(self) -> Mapping[str, Field]:
    """Of the run's data."""
    return self.run.fields

  def __len__(self) -> int:
    """Number of examples."""
    return self.run.examples if self.split == "train" else len(self.run.test)

  def read(self, indices: np.ndarray, names: Sequence[str] = ()) -> Samples:
    """Opens the data."""
    return (self.run.data if self.split == "train" else self.run.test).read(indices, names)


def requests(run: Run, index: np.ndarray, split: str = "train") -> Samples:
  """What the samples of these numbers ask for, "index" with it; where it is rows of the data, those of this split."""
  return {"index": index.astype(np.int32)} | run.experiment.task.request(index, Unopened(run, split))


@dataclasses.dataclass(frozen=True, eq=False)
class Loaded:
  """A trained run with the weights of one checkpoint.

  Attributes:
    run: the run.
    step: of the checkpoint.
    weights: the name of the weights.
    params: the weights.
    drawing: most samples that are asked for together -> Sampling, kept.
  """

  run: Run
  step: int
  weights: str
  params: Params
  drawing: Callable[[int], Sampling]

  @property
  def config(self) -> ConfigDict:
    """The run's config."""
    return self.run.config

  @property
  def experiment(self) -> Experiment:
    """The objects of the config."""
    return self.run.experiment

  @property
  def fields(self) -> Mapping[str, Field]:
    """Of the data that it was trained on."""
    return self.run.fields

  def sample(self, count: int, seed: int = 0, **request_of: Any) -> Samples:
    """Samples by field, each [count, ...].

    Args:
      count: how many.
      seed: sample i of a seed is the same in every call; runs that samples are told by draw from config.sample.seed.
      request_of: fields that they ask for, each [count, ...] or one for all, in place of the config's.

    Raises:
      ConfigError: a count below 1, a field that samples do not ask for, or a value that it cannot have.
    """
    for name, value, allowed in (("count", count, at_least(1)), ("seed", seed, closed(0, 2**32 - 1))):
      if not isinstance(value, numbers.Integral):
        raise ConfigError(f"{name} is {value!r}; it must be a whole number.")
      check(name, value, allowed)
    request = requests(self.run, np.arange(count), self.config.sample.split)
    for name, value in request_of.items():
      if name not in request or name == "index":
        names = ", ".join(field for field in request if field != "index") or "nothing"
        raise ConfigError(f"samples of this run cannot ask for {name!r}; they ask for {names}.")
      request[name] = _checked(name, value, request[name], self.fields.get(name))
    return self.drawing(count).draw(self.params, keys.seed(seed), request)

  def warn_early(self, reporter: reporting.Reporter) -> None:
    """Says it where much of an average is still what training began with."""
    share = self.run.initial_share(self.weights, self.step)
    if share > EARLY:
      reporter.line(
        f"warning: {share:.0%} of the {self.weights} weights are still those of step 0. Train longer, or see the "
        "trained ones by --config.sample.weights=raw; --config.train.averages=ramp is right earlier."
      )

  def denoiser(self, cond: Mapping[str, Any] = {}):  # noqa: B006 (never changed)
    """(x_t, t, schedule) -> Estimate under these conditions, of any schedule."""
    require(self.experiment.task.can, "denoise", "this run")
    return self.experiment.task.can["denoise"](self.params, dict(cond))


def _checked(name: str, value: Any, like: np.ndarray, field: Field | None) -> np.ndarray:
  """The value of a request with the dtype and shape of `like`; ConfigError where it cannot have them."""
  if field and field.tokenizer and np.asarray(value).dtype.kind == "U":
    value = field.tokenizer(np.ravel(value).tolist(), "prompts")
    return np.broadcast_to(value, like.shape) if len(value) == 1 else _checked(name, value, like, field)
  array, classes = np.asarray(value), field.classes if field else 0
  if classes and not field.tokenizer and array.dtype.kind == "U":
    array = np.vectorize(lambda text: field.number(name, str(text)), otypes=[int])(array)
  if np.issubdtype(like.dtype, np.integer) and not np.issubdtype(array.dtype, np.integer):
    raise ConfigError(f"{name} is {value!r}; it must be of whole numbers.")
  if classes and not np.all(((array >= 0) | bool(field.tokenizer)) & (array < classes)):
    raise ConfigError(f"{name} is {value!r}; the classes are 0 to {classes - 1}.")
  if array.dtype.kind not in "biuf":
    raise ConfigError(f"{name} is {value!r}; it must be of numbers, of shape {like.shape}, or one for all.")
  low, high = (0, 255) if like.dtype == np.uint8 else (-np.inf, np.inf)
  if not np.all(np.isfinite(array) & (array >= low) & (array <= high)):
    raise ConfigError(f"{name} is {value!r}; it must be {'from 0 to 255' if high == 255 else 'finite'}.")
  try:
    return np.broadcast_to(array.astype(like.dtype), like.shape)
  except ValueError:
    raise ConfigError(f"{name} is of shape {array.shape}; it must be {like.shape}, or one for all.") from None


def loaded(run: Run, steps: str, field: str) -> Iterator[Loaded]:
  """The checkpoints that `steps` names, with the weights that config.sample names; see Run.trained."""
  drawing = functools.cache(lambda most: Sampling(run.experiment, run.parallel, most, Unopened(run)))
  for step, weights, params in run.trained(steps, field):
    yield Loaded(run, step, weights, params, drawing)


def load(place: str | os.PathLike) -> Loaded:
  """The run of a place, on this process's devices.

  Raises:
    ConfigError: there is no such run or checkpoint.
    RunError: the checkpoint is damaged.
  """
  folder, step, weights = trained.parse(str(place))
  config = workdir.load(folder)
  config.parallel = base().parallel
  if weights:
    config.sample.weights = weights
  (checkpoint,) = loaded(
    runs.start(config, folder, "sample"), "latest" if step is None else str(step), repr(str(place))
  )
  return checkpoint


def sample(config: ConfigDict, folder: Path, out: Path | None = None) -> None:
  """main.py's --mode=sample: the samples' fields, a grid, a denoising strip, a GIF and MP4 of videos.

  Args:
    config: the config.
    folder: the workdir.
    out: where they go; by default <workdir>/samples.

  Raises:
    ConfigError: see runs.start, and where nothing is trained yet.
  """
  run = runs.start(config, folder, "sample")
  settings = run.config.sample
  (checkpoint,) = loaded(run, str(settings.checkpoint or "latest"), "config.sample.checkpoint")
  drawing = checkpoint.drawing(settings.count)
  key = keys.seed(settings.seed)
  request = requests(run, np.arange(settings.count), settings.split)
  place = out or folder / "samples"
  disk.require_folder(place, f"--out={out}" if out else str(place), run.writes)
  name = results.name_of_samples(
    run.experiment, checkpoint.step, checkpoint.weights, checkpoint.params, request
  )
  with reporting.create(folder, run.writes, log_every=settings.count) as reporter:
    run.warn(reporter)
    checkpoint.warn_early(reporter)
    if run.parallel.agree(cache.load_fields(place / f"{name}.npz", settings.count) is not None):
      return reporter.line(f"these samples are there already: {place / name}*")
    samples = drawing.draw(
      checkpoint.params, key, request, lambda count: reporter.progress(count, settings.count, {})
    )
    strip = drawing.strip(checkpoint.params, key, request)
    if not run.writes:
      return
    if strip is not None:
      images = image_of(samples)
      pictures.save_png(place / f"{name}_grid.png", album.sheet(images, request, run.fields))
      pictures.save_png(place / f"{name}_strip.png", album.walk(strip, request, run.fields))
      if images.ndim == 5:
        pictures.save_gif(place / f"{name}.gif", images[:SHOWN])
        if films.package():
          films.save(place / f"{name}.mp4", pictures.playing(images[:SHOWN]))
    rest = {field: values for field, values in request.items() if field not in (*samples, "index")}
    for field, values in request.items():
      if (picture := image_of({field: values})) is not None:
        pictures.save_png(place / f"{name}_asked_{field}.png", pictures.grid(picture[:ASKED]))
    cache.save_fields(place / f"{name}.npz", samples | rest)  # last: where it is there, all files are
    reporter.line(
      f"{settings.count} samples of step {checkpoint.step}, {checkpoint.weights} weights: {place / name}*"
    )
