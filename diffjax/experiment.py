"""From a config to the objects of a run: the only file that knows what is called by which name."""

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax
from ml_collections import ConfigDict, FrozenConfigDict

from diffjax import ranges
from diffjax.choices import CHOICES, PLAIN, Choice, parts
from diffjax.config import entries, resolved, settled
from diffjax.data import encoded
from diffjax.data.captioned import captioned
from diffjax.data.source import Field, Source
from diffjax.machine.averages import Averages
from diffjax.machine.optimization import learning_rate, optimizer
from diffjax.machine.state import TrainState
from diffjax.metrics import METRICS
from diffjax.metrics.metric import require_data
from diffjax.sections import FREE_SECTIONS
from diffjax.tasks.task import Task, bind, require
from diffjax.types import ConfigError, Frozen, Params, Trained, Unsuitable

Find = Callable[[str, str], Trained]  # (place, what it must be able to do) -> what was trained there


@dataclasses.dataclass(frozen=True, eq=False)
class Experiment:
  """The objects of a run.

  Attributes:
    config: the config.
    task: what is trained.
    frozen: the parameters of the runs that it uses, by their place.
    uses: the fingerprint of each.
    needs: of those that training depends on, which guides of sampling do not.
    learning_rate: step -> learning rate.
    optimizer: the gradient transformation.
    averages: the moving averages, by name: step -> rate.
    moments: where the latents of its training data lie, of which space and data are told.
  """

  config: FrozenConfigDict
  task: Task
  frozen: Frozen
  uses: Mapping[str, str]
  needs: Mapping[str, str]
  learning_rate: optax.Schedule
  optimizer: optax.GradientTransformation
  averages: Averages
  moments: encoded.AllMoments = dataclasses.field(default_factory=dict)

  def with_moments(self, moments: encoded.AllMoments) -> "Experiment":
    """The same where the latents of the training data lie there."""
    return dataclasses.replace(self, frozen={**self.frozen, **encoded.frozen(moments)}, moments=moments)

  @functools.cached_property
  def plain(self) -> dict[str, Any]:
    """What belongs to the run of its config, as plain data."""
    return resolved(self.config)

  def weights(self, state: TrainState) -> tuple[str, Params]:
    """The weights that config.sample names, and what they are called in reports."""
    name = self.weights_name()
    return name, state.params if name == "raw" else state.ema[name]

  def weights_name(self, name: str = "") -> str:
    """The weights of that name, by default config.sample's: "raw", or an average, of which "average" is the first."""
    name = name or self.config.sample.weights
    return next(iter(self.averages)) if name == "average" and self.averages else name


def no_runs(place: str, wants: str) -> Trained:
  """A Find where there are no runs."""
  raise ConfigError("no run can be looked up here.")


@dataclasses.dataclass
class Maker:
  """Calls entries with their options, finds the runs that they name, and says where an error comes from."""

  config: Any
  find: Find
  runs: dict[str, Trained] = dataclasses.field(default_factory=dict)
  needed: set[str] = dataclasses.field(default_factory=set)
  own: Trained | None = None  # what an option that names no run takes

  def entries(self, section: str, field: str) -> dict[str, Callable]:
    """Makers of what a field names, by name."""
    choice = next(c for c in CHOICES if (c.section, c.field) == (section, field))
    bound = entries(self.config, section, field)
    return {name: self._maker(choice, name, make) for name, make in bound.items()}

  def _maker(self, choice: Choice, name: str, make: Callable) -> Callable:
    if not callable(make):
      return make

    @functools.wraps(make.func)
    def call(*arguments, **keywords):
      with placed(self.config, choice, name):
        return make(*arguments, **self._runs(choice, name), **keywords)

    call.__signature__ = inspect.signature(make)
    return call

  def _runs(self, choice: Choice, name: str) -> dict[str, Trained]:
    """The runs that an entry's options name."""
    options = {
      option: uses for option, p in choice.options(name).items() if (uses := ranges.uses(p.annotation))
    }
    places = {option: self.config[choice.section][name][option] for option in options}
    if choice.section not in FREE_SECTIONS:
      self.needed |= {place for place in places.values() if place}
    return {
      option: self._run(option, places[option], uses.can)
      for option, uses in options.items()
      if places[option] or not uses.optional
    }

  def _run(self, option: str, place: str, can: str) -> Trained:
    if not place and not self.own:
      raise ConfigError(f"{option} is empty; name the workdir of a run that can {can}.")
    try:
      if place and place not in self.runs:
        self.runs[place] = self.find(place, can)
      run = self.runs[place] if place else self.own
      require(run.can, can, f"the run {place!r}" if place else "this run")
    except ConfigError as error:
      raise ConfigError(f"{option} is {place!r}: {error}") from None
    return run

  def parts(self, fields: Mapping[str, Field]) -> dict[str, Any]:
    """What the config's task takes, by the names of its parameters."""
    names, values = parts(self.config), {"fields": fields}
    for choice in CHOICES:
      if choice.part in names:
        makers = self.entries(choice.section, choice.field)
        values[choice.part] = makers if choice.many else next(iter(makers.values()))
    for part, path in PLAIN.items():
      if part in names:
        section, field = path.split(".")
        values[part] = self.config[section][field]
    return values


@contextlib.contextmanager
def within(section: str):
  """A block whose errors speak of a field of this section."""
  try:
    yield
  except ConfigError as error:
    raise ConfigError(f"config.{section}.{error}") from None


@contextlib.contextmanager
def placed(config, choice: Choice, name: str):
  """A block whose errors begin with the place in the config that they come from."""
  try:
    yield
  except Unsuitable:
    raise
  except (ValueError, TypeError, ArithmeticError, IndexError) as error:
    text = str(error)
    first = text.split(" ")[0].rstrip(":")
    if text.startswith("config."):
      raise
    if first in choice.options(name):
      text = f"{name}.{text}"
    elif first not in config[choice.section]:
      text = f"{choice.field} is {name!r}: {text}"
    raise ConfigError(f"config.{choice.section}.{text}") from None


def makers(
  config: ConfigDict, section: str, field: str, find: Find = no_runs, own: Trained | None = None
) -> dict[str, Callable]:
  """Makers of what config.<section>.<field> names, by name; their errors say where in the config they come from.

  Args:
    config: the config.
    section, field: of it.
    find: looks up the runs that options name.
    own: what options that name no run take.
  """
  return Maker(config, find, own=own).entries(section, field)


def source(config: ConfigDict, split: str) -> Source:
  """The data of a split, "train" or "test"."""
  (make,), (tokenizer,) = (makers(config, "data", field).values() for field in ("source", "tokenizer"))
  data = bind(make, tokenizer=tokenizer)(split=split)
  if not config.data.templates:
    return data
  return captioned(data, config.data.templates, tokenizer)


def create(
  config: ConfigDict,
  fields: Mapping[str, Field],
  find: Find = no_runs,
  traced: bool = True,
  cut: Callable | None = None,
) -> Experiment:
  """All objects of a config.

  Args:
    config: the config.
    fields: of the data.
    find: looks up the runs that the config names.
    traced: whether the network is traced, without which it cannot say what is wrong with it.
    cut: how config.parallel.sequence lays out a sequence, see Parallel.sequence; None: it stays on one device.

  Raises:
    ConfigError: a field that cannot be right, by itself, beside another or with these data.
  """
  config = settled(config)
  maker = Maker(config, find)
  (make,) = maker.entries("task", "name").values()
  arguments = maker.parts(fields)
  if config.parallel.sequence:
    arguments["model"] = _of_sequences(config, arguments.get("model"), cut)
  try:
    task = make(**arguments)
  except Unsuitable as error:
    raise _unsuitable(config, error) from None
  try:
    if traced:
      jax.eval_shape(task.init, jax.random.key(0))  # the model's own checks, before anything is compiled
  except ConfigError as error:
    raise ConfigError(f"config.model: {error}") from None
  train = config.train
  if task.couples and (train.accumulate > 1 or config.parallel.mode == "pmap"):
    raise ConfigError(
      f"config.task.name is {config.task.name!r}, in which the loss of an example depends on its whole batch, but "
      f"config.train.accumulate is {train.accumulate} and config.parallel.mode {config.parallel.mode!r}, which compute "
      "it in parts; set them to 1 and 'jit'."
    )
  _check_metrics(config, fields)
  (decay,), (scale,) = (maker.entries("train", field).values() for field in ("decay", "optimizer"))
  rate = learning_rate(train.learning_rate, train.warmup, decay(warmup=train.warmup, steps=train.steps))
  averages = {}
  for make in maker.entries("train", "averages").values():
    averages |= make()
  _check_weights(config, averages)
  return Experiment(
    config=config,
    task=task,
    frozen={place: trained.params for place, trained in maker.runs.items()} | dict(task.frozen),
    uses={place: trained.fingerprint for place, trained in maker.runs.items()},
    needs={place: maker.runs[place].fingerprint for place in sorted(maker.needed)},
    learning_rate=rate,
    optimizer=optimizer(scale(), rate, train.clip),
    averages=averages,
  )


def _of_sequences(config, make: Callable | None, cut: Callable | None) -> Callable:
  """A maker of networks whose tokens are cut; ConfigError where there is none, or nothing to cut them over."""
  if make is None or "cut" not in inspect.signature(make).parameters:
    task, name = config.task.name, config.model.name
    raise ConfigError(
      f"config.parallel.sequence is True, which cuts a transformer's tokens, but config.task.name is {task!r} and "
      f"config.model.name {name!r}, which has none; set it to False, or choose 'dit'."
    )
  if config.parallel.model == 1:
    raise ConfigError(
      "config.parallel.sequence is True, but config.parallel.model is 1, which cuts nothing; set it to 2 or more."
    )
  return functools.partial(make, cut=cut)


def _unsuitable(config, error: Unsuitable) -> ConfigError:
  """The error of a choice that does not go with the others, with its place and its value."""
  for choice in CHOICES:
    if error.field in (choice.part, choice.field) and choice.belongs(config):
      value = config[choice.section][choice.field]
      return ConfigError(f"config.{choice.section}.{choice.field} is {value!r}, {error.which}.")
  return ConfigError(str(error))


def _check_metrics(config, fields: Mapping[str, Field]) -> None:
  for name in config.eval.metrics:
    try:
      require_data(METRICS[name], fields)
    except ConfigError as error:
      raise ConfigError(f"config.eval.metrics names {name!r}: {error}") from None


def _check_weights(config, averages: Averages) -> None:
  names = ("raw", *averages, *(("average",) if averages else ()))
  if config.sample.weights == "average" and not averages:
    raise ConfigError(
      f"config.sample.weights is 'average', but config.train.averages is {config.train.averages}, in which nothing is "
      "averaged; set config.sample.weights to 'raw', or name an average and its rates."
    )
  if config.sample.weights not in names:
    raise ConfigError(
      f"config.sample.weights is {config.sample.weights!r}; it must be one of {', '.join(names)}."
    )
