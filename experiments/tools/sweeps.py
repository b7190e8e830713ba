"""A sweep: a base config and named overrides of it, checked as a whole before anything starts.

    SWEEP = product(
      "configs/digits.py",
      {"objective.predict": ("eps", "x0", "v"), "schedule.name": ("linear", "cosine")},
    )

is six runs, eps-linear to v-cosine. Where a value makes a poor name, or one choice sets several fields, an
axis maps names to values, and a field to None leaves it alone:

    product("configs/digits.py", {"train.constant.rates": {"fast": (0.99,), "slow": (0.9999,)}})
    Sweep("configs/digits.py", (Run("small", {"model.unet.channels": 16, "train.batch_size": 32}), ...))

A sweep with `trained` trains one run and samples from it in many ways: its runs change sample. and eval.
alone, and of condition. what samples are told.
"""

import dataclasses
import difflib
import importlib
import importlib.util
import itertools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from diffjax import experiment
from diffjax.config import check as check_config
from diffjax.config import free, require_field, require_used, resolved
from diffjax.data.source import Field
from diffjax.jobs import config_file
from diffjax.types import ConfigError, Trained

HERE = Path(__file__).parents[1]
TRAINED = "trained"  # the run that a sweep of samplings trains
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SAMPLING = ("sample.", "eval.")
NETWORK = ("task", "data", "space", "condition", "objective", "model")  # sections that decide the network


@dataclasses.dataclass(frozen=True)
class Run:
  """A run of a sweep.

  Attributes:
    name: of its workdir: up to 64 letters, digits, dots, underscores and hyphens.
    overrides: config path -> value.
  """

  name: str
  overrides: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Sweep:
  """What is run.

  Attributes:
    base: the config's file, with ":argument" where it takes one.
    runs: the runs.
    shared: overrides of every run, the trained one included; a run's own come after.
    trained: None, or overrides of the one run that is trained for all others to sample from.
    x: the config path on the picture's horizontal axis; by default the one with the most values.
    metrics: what the picture shows, such as "classifier frechet"; by default every metric.
    plane: two of them, the second shown against the first in a panel of its own: perception against distortion.
  """

  base: str
  runs: tuple[Run, ...]
  shared: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  trained: Mapping[str, Any] | None = None
  x: str = ""
  metrics: tuple[str, ...] = ()
  plane: tuple[str, str] | tuple[()] = ()

  @property
  def paths(self) -> tuple[str, ...]:
    """Every path that a run overrides, in order of appearance."""
    return tuple(dict.fromkeys(path for run in self.runs for path in run.overrides))


def product(base: str, axes: Mapping[str, Iterable | Mapping[str, Any]], **settings: Any) -> Sweep:
  """Every combination of values; the last axis changes fastest.

  Args:
    base: the config's file.
    axes: config path -> its values, or a mapping of names to values. Without a name a word names itself, and
      anything else is the field and the value: steps_50.
    **settings: Sweep's other fields.
  """
  columns = [[(path, *pair) for pair in _named(path, values)] for path, values in axes.items()]
  return Sweep(
    base,
    tuple(
      Run("-".join(name for _, name, _ in cell), {path: value for path, _, value in cell})
      for cell in itertools.product(*columns)
    ),
    **settings,
  )


def _named(path: str, values: Iterable | Mapping[str, Any]) -> list[tuple[str, Any]]:
  if isinstance(values, Mapping):
    return list(values.items())
  return [(_name(path, value), value) for value in values]


def _name(path: str, value: Any) -> str:
  if isinstance(value, str):
    return value
  parts = value if isinstance(value, tuple) else (value,)
  return "_".join([path.rsplit(".", 1)[-1], *(f"{p:g}" if isinstance(p, float) else str(p) for p in parts)])


def known() -> list[str]:
  """The names of the sweeps of this folder."""
  return sorted(
    place.parent.name
    for place in HERE.glob("*/__init__.py")
    if re.search(r"^SWEEP\b", place.read_text(encoding="utf-8"), re.MULTILINE)
  )


def folder_of(name: str) -> Path:
  """The folder of a sweep: beside this file, or wherever the name, a path with a slash, says."""
  return Path(name) if "/" in name else HERE / name


def load(name: str) -> Sweep:
  """The sweep of a name, or of the path of its folder.

  Raises:
    ConfigError: there is none, or its file fails.
  """
  place = folder_of(name) / "__init__.py"
  if "/" in name:
    if not place.is_file():
      raise ConfigError(f"{name} is no sweep: there is no {place}.")
  elif name not in known():
    near = difflib.get_close_matches(name, known(), n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ConfigError(f"there is no sweep {name!r}; there are {', '.join(known())}.{hint}")
  try:
    sweep = _module(name, place).SWEEP
  except ConfigError:
    raise
  except Exception as error:
    raise ConfigError(f"{place} fails: {type(error).__name__}: {error}") from error
  if not isinstance(sweep, Sweep):
    raise ConfigError(f"SWEEP in {place} is a {type(sweep).__name__}; it must be a Sweep.")
  return sweep


def _module(name: str, place: Path):
  if "/" not in name:
    return importlib.import_module(f"experiments.{name}")
  spec = importlib.util.spec_from_file_location("sweep", place)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def all_runs(sweep: Sweep) -> tuple[Run, ...]:
  """The runs with every override, the trained one, if any, first."""
  first = () if sweep.trained is None else (Run(TRAINED, sweep.trained),)
  before = {**sweep.shared, **(sweep.trained or {})}
  return tuple(Run(run.name, {**before, **run.overrides}) for run in (*first, *sweep.runs))


def check(sweep: Sweep) -> dict[str, ConfigDict]:
  """The config of every run by name.

  Raises:
    ConfigError: two runs of one name, a name that is no file's, or an override that cannot be right.
  """
  _check_names([run.name for run in all_runs(sweep)])
  if sweep.x and sweep.x not in sweep.paths:
    raise ConfigError(f"the picture's axis is {sweep.x!r}, which no run overrides: {', '.join(sweep.paths)}.")
  if sweep.trained is not None:
    may_change = free(config_file.load(sweep.base))
    for run in sweep.runs:
      for path in run.overrides:
        if not path.startswith(SAMPLING) and not (path.startswith("condition.") and may_change(path)):
          raise ConfigError(
            f"run {run.name}: config.{path} changes how a model is trained, and this sweep trains one model "
            "for all its runs; leave out `trained`, or override sample., eval. and what samples are told alone."
          )
  configs = {run.name: _config(sweep.base, run) for run in all_runs(sweep)}
  fields: dict[str, Mapping[str, Field] | None] = {}
  networks = set()
  for name, config in configs.items():
    plain = resolved(config)
    data, network = str(plain["data"]), str([plain.get(section) for section in NETWORK])
    if data not in fields:
      fields[data] = _fields(config)
    if fields[data] is not None:
      _check_together(name, config, fields[data], traced=network not in networks)
    networks.add(network)
  return configs


def _check_names(names: list[str]) -> None:
  if not names:
    raise ConfigError("the sweep has no runs.")
  by_name = {}
  for name in names:
    if not NAME.fullmatch(name):
      raise ConfigError(
        f"{name!r} is no name of a run: it must be up to 64 letters, digits, '.', '_' and '-', a letter or a "
        "digit first; name the axis's values yourself: {'name': value}."
      )
    if name.casefold() in by_name:
      other = by_name[name.casefold()]
      same = "two runs have the name" if other == name else f"on some disks {other} is the same folder as"
      raise ConfigError(f"{same} {name}; every run needs a name of its own.")
    by_name[name.casefold()] = name


def _config(base: str, run: Run) -> ConfigDict:
  """The base with a run's overrides."""
  config = config_file.load(base)
  try:
    for path, value in run.overrides.items():
      require_field(config, path)
      _set(config, path, value)
    check_config(config)
    require_used(config, run.overrides)
  except ConfigError as error:
    raise ConfigError(f"run {run.name}: {error}") from None
  return config


def _fields(config: ConfigDict) -> Mapping[str, Field] | None:
  """The fields of a config's data; None where they lie on other machines alone."""
  try:
    return experiment.source(config, "train").fields
  except (ConfigError, ImportError):
    return None


class _Elsewhere(Exception):
  """A run that is used, which may be trained only when the sweep begins."""


def _elsewhere(place: str, wants: str) -> Trained:
  raise _Elsewhere


def _check_together(name: str, config: ConfigDict, fields: Mapping[str, Field], traced: bool) -> None:
  """Parts that do not go together, which are seen when the objects are made."""
  try:
    experiment.create(config, fields, _elsewhere, traced)
  except _Elsewhere:
    return
  except ConfigError as error:
    raise ConfigError(f"run {name}: {error}") from None


def _set(config: ConfigDict, path: str, value: Any) -> None:
  *sections, field = path.split(".")
  section = config
  for name in sections:
    section = section[name]
  try:
    section[field] = value
  except (TypeError, ValueError):
    kind = section.get_type(field).__name__
    raise ConfigError(
      f"config.{path} is of type {kind}, for instance {section[field]!r}; it cannot be {value!r}."
    ) from None
