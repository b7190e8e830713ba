"""Runs that other runs use: their weights alone, what they can do, and a fingerprint of both.

A place is a workdir, "runs/vae", with a step after "@" and the weights after ":", "runs/vae@40000:ema_0.999"; by
default the newest step, and the weights that the run itself samples with. The folder of a published model is a place
as well (interop/folders.py).
"""

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from diffjax import experiment
from diffjax.config import base, free, leaves
from diffjax.experiment import Experiment
from diffjax.interop import folders
from diffjax.jobs import workdir
from diffjax.jobs.stages import Stage
from diffjax.machine.checkpoint import Checkpoints
from diffjax.machine.parallel import Parallel
from diffjax.machine.state import fingerprint as checksums
from diffjax.tasks.task import require
from diffjax.types import ConfigError, Params, Trained


class Place(NamedTuple):
  """What a place names.

  Attributes:
    folder: the workdir.
    step: of the checkpoint, or None for the newest.
    weights: "raw" or an average, or "" for the run's own choice.
  """

  folder: Path
  step: int | None
  weights: str


def parse(place: str) -> Place:
  """The parts of a place."""
  match = re.fullmatch(r"(?P<folder>.+?)(@(?P<step>\d+))?(:(?P<weights>[\w.]+))?", place)
  if not match:
    raise ConfigError(
      f"{place!r} names no run; a place is runs/NAME, runs/NAME@STEP or runs/NAME@STEP:WEIGHTS."
    )
  folder = Path(match["folder"]).expanduser()
  return Place(folder, int(match["step"]) if match["step"] else None, match["weights"] or "")


def restored(place: str, devices: Parallel, seed: int = 0) -> tuple[Experiment, Params, int, str]:
  """The objects of a run, that draws from this seed, its weights, their step and their name.

  Raises:
    ConfigError: there is no such run, checkpoint or average.
    RunError: the checkpoint is damaged.
  """
  folder, step, weights = parse(place)
  if not workdir.has_run(folder):
    raise ConfigError(f"{place!r} names no run: {folder} holds no config.json.")
  config, (fields, *_) = workdir.load(folder), workdir.data_of(folder)
  config.sample.seed = seed
  parts = experiment.create(config, fields, functools.partial(trained, devices=devices, seed=seed))
  parts = with_moments(parts, folder)
  workdir.require_uses(folder, parts.needs)
  weights = parts.weights_name(weights)
  if weights not in (names := ("raw", *parts.averages)):
    raise ConfigError(f"{place!r} names the weights {weights!r}, and there are {', '.join(names)}.")
  target = devices.abstract(lambda: parts.task.init(jax.random.key(0)))
  with Checkpoints(folder / "checkpoints") as checkpoints:
    there = checkpoints.steps()
    step = there[-1] if step is None and there else step
    if step not in there:
      raise ConfigError(
        f"{place!r} names step {'none' if step is None else step}, and the checkpoints there are "
        f"{', '.join(map(str, there)) or 'none'}."
      )
    return parts, checkpoints.restore_weights(target, step, weights), step, weights


def with_moments(parts: Experiment, folder: Path) -> Experiment:
  """A run's objects with the moments of its training data's latents; ConfigError where its workdir has none."""
  names = {each.moments for each in parts.task.encodings.values()} - {""}
  return parts.with_moments(workdir.moments_of(folder, names))


def trained(place: str, wants: str, devices: Parallel, seed: int = 0) -> Trained:
  """What was trained at a place.

  Args:
    place: see the module's docstring.
    wants: what it must be able to do.
    devices: where its parameters are put, as those of a state.
    seed: of samples that it is asked for.

  Raises:
    ConfigError: there is no such run or checkpoint, or its task cannot do what is wanted.
    RunError: the checkpoint is damaged.
  """
  folder = parse(place).folder
  if folders.kind(folder):
    return _published(place, folder, wants, devices)
  parts, params, step, weights = restored(place, devices, seed)
  can = dict(parts.task.can)
  if parts.task.draw:
    fields, *_ = workdir.data_of(folder)
    stage = Stage(parts, fields, step, weights, folder, devices)
    can |= {"sample": stage.sample, "shapes": stage.shapes, "data": lambda params: fields}
  require(can, wants, f"the run {place!r}")
  return Trained(place, can, params, fingerprint(parts, params))


def _published(place: str, folder: Path, wants: str, devices: Parallel) -> Trained:
  model = folders.published(folder)
  require(model.can, wants, f"the folder {place!r}")
  target = devices.abstract(lambda: jax.tree.map(jnp.asarray, model.params))
  params = jax.tree.map(lambda leaf, like: jax.device_put(leaf, like.sharding), model.params, target)
  return Trained(place, model.can, params, _hash(folders.read_json(folder / "config.json"), params))


def fingerprint(experiment: Experiment, params: Params) -> str:
  """A hash of a run's weights and of what its config says of them, which training further does not change.

  What has its default is left out, so that a later version's new options are no other run.
  """
  may_change, defaults = free(experiment.config), dict(leaves(base()))
  plain = {
    path: value
    for path, value in leaves(experiment.plain)
    if not (may_change(path) or path == workdir.MAY_GROW or (path in defaults and defaults[path] == value))
  }
  return _hash(plain, params)


def _hash(plain: Mapping[str, Any], params: Params) -> str:
  sums = {name: int(value) for name, value in jax.device_get(checksums(params)).items()}
  return hashlib.sha256(json.dumps([plain, sums], sort_keys=True).encode()).hexdigest()[:16]


def parameters(place: str, target: Any, devices: Parallel) -> Params:
  """The weights of a place, for a task with parameters of these shapes.

  Where all that differs is that one convolution sees more channels here, the planes of a condition that is named after
  all others, its weights of these are 0: the network begins as what it was.

  Raises:
    ConfigError: they have other names or shapes; the first of them are named.
  """
  try:
    _, params, _, _ = restored(place, devices)
  except ConfigError as error:
    raise ConfigError(f"config.train.start: {error}") from None
  shapes = lambda tree: {
    jax.tree_util.keystr(path): tuple(leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }
  there, here = shapes(params), shapes(target)
  differ = [name for name in sorted({*there, *here}) if there.get(name) != here.get(name)]
  if len(differ) == 1 and _sees_more(differ[0], *(shapes.get(differ[0], ()) for shapes in (there, here))):
    return devices.init(lambda tree: jax.tree.map(_padded, tree, target), params)
  if differ:
    listed = "; ".join(
      f"{n} is {there.get(n, 'missing')} there and {here.get(n, 'missing')} here" for n in differ[:5]
    )
    raise ConfigError(
      f"config.train.start is {place!r}, whose parameters are not this model's: {listed}"
      f"{f'; and {len(differ) - 5} more' if len(differ) > 5 else ''}."
    )
  return params


def _sees_more(name: str, there: tuple[int, ...], here: tuple[int, ...]) -> bool:
  """Whether these are shapes of a convolution's kernel [K, K, in, out], with more channels that come in here."""
  grown = len(there) == len(here) == 4 and there[-2] < here[-2]
  return name.endswith("['kernel']") and grown and there == (*here[:2], there[2], here[3])


def _padded(kernel: jax.Array, like: jax.ShapeDtypeStruct) -> jax.Array:
  return jnp.pad(kernel, [(0, new - old) for old, new in zip(kernel.shape, like.shape, strict=True)])
