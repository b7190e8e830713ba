"""The choices of a config: which fields name entries of the library's dicts, and which of them a task takes."""

import dataclasses
import difflib
import functools
import inspect
import sys
import typing
from collections.abc import Callable, Mapping
from importlib.machinery import PathFinder
from typing import Any

from ml_collections import ConfigDict

from diffjax import ranges
from diffjax.conditions import CONDITIONS
from diffjax.data import SOURCES
from diffjax.data.augment import AUGMENTATIONS
from diffjax.data.text import TOKENIZERS
from diffjax.guidance import GUIDES
from diffjax.likelihood import LIKELIHOODS
from diffjax.machine.averages import AVERAGES
from diffjax.machine.optimization import DECAYS, OPTIMIZERS
from diffjax.machine.parallel import MODES
from diffjax.metrics import METRICS, PROBES
from diffjax.models import (
  AUTOENCODERS,
  AUTOREGRESSIVE,
  CRITICS,
  DISCRIMINATORS,
  ENCODERS,
  FLOWS,
  GENERATORS,
  IMAGE_ENCODERS,
  MODELS,
  TEXT_ENCODERS,
)
from diffjax.models.layers import DTYPES
from diffjax.objectives import OBJECTIVES
from diffjax.predictions import INPUT_SCALES, ROWS, TIME_INPUTS
from diffjax.samplers import SAMPLERS
from diffjax.samplers.base import FINALS
from diffjax.samplers.grids import GRIDS
from diffjax.schedules import SCHEDULES
from diffjax.spaces import SPACES
from diffjax.tasks import TASKS
from diffjax.tasks.bottleneck import BOTTLENECKS
from diffjax.tasks.bounds import BOUNDS
from diffjax.tasks.decoders import DECODERS
from diffjax.tasks.pixels import PIXELS
from diffjax.tasks.terms import TERMS
from diffjax.times import TIMES
from diffjax.types import ConfigError
from diffjax.weights import WEIGHTS

names = lambda entries: dict.fromkeys(entries)


@functools.cache  # every config that is settled asks for hundreds
def _parameters(entry: Callable) -> Mapping[str, inspect.Parameter]:
  return inspect.signature(entry).parameters


@functools.cache
def _options(entry: Callable, arguments: tuple[str, ...]) -> Mapping[str, inspect.Parameter]:
  given = lambda p: p.default is not p.empty and p.name not in arguments
  return {name: p for name, p in _parameters(entry).items() if given(p)}


@dataclasses.dataclass(frozen=True)
class Choice:
  """A field that names an entry of a dict.

  Attributes:
    section: the config's section.
    field: the field in it.
    entries: the dict; options are an entry's keyword parameters with defaults.
    part: the name by which a task takes it; "" for what every run has.
    arguments: parameters that the run sets itself.
    many: whether the field is a tuple of names.
    where: whether a config has it, whatever its task.
  """

  section: str
  field: str
  entries: Mapping[str, Any]
  part: str = ""
  arguments: tuple[str, ...] = ()
  many: bool = False
  where: Callable[[ConfigDict], bool] = lambda config: True

  def names(self, config: ConfigDict) -> tuple[str, ...]:
    """The names that a config chooses."""
    value = config[self.section][self.field]
    return value if self.many else (value,)

  def options(self, name: str) -> Mapping[str, inspect.Parameter]:
    """The options of one entry."""
    entry = self.entries[name]
    return _options(entry, self.arguments) if callable(entry) else {}

  def belongs(self, config: ConfigDict) -> bool:
    """Whether a run of this config has this choice."""
    return self.where(config) and (not self.part or self.part in parts(config))

  def check(self, config: ConfigDict) -> None:
    """Raises ConfigError at a name that is no entry, or at an option of one that is outside its range."""
    names = self.names(config)
    if len(set(names)) < len(names):
      raise ConfigError(f"config.{self.section}.{self.field} is {names}; none may stand there twice.")
    for name in names:
      if name not in self.entries:
        _refuse(self.section, self.field, name, self.entries)
      for option, parameter in self.options(name).items():
        value = config[self.section][name][option]
        ranges.check(f"config.{self.section}.{name}.{option}", value, ranges.of(parameter.annotation))


def _has_text(config: ConfigDict) -> bool:
  """Whether its data have captions: those of the source itself, or of its classes."""
  source = SOURCES.get(config.data.source)
  return bool(config.data.templates) or source is not None and "tokenizer" in _parameters(source)


_TOWER = ("parent", "name", "vocabulary", "length", "end", "projection", "dtype")
_OF_AUTOENCODERS = ("parent", "name", "out_channels", "conditions", "dtype", "shape", "variational")
_OF_IMAGES = ("parent", "name", "shape", "outputs", "conditions", "dtype")
_OF_TASKS = (
  Choice("data", "source", SOURCES, arguments=("tokenizer",)),
  Choice("data", "tokenizer", TOKENIZERS, where=_has_text),
  Choice("data", "augment", AUGMENTATIONS, "augmentation"),
  Choice("space", "name", SPACES, "space", ("fields",)),
  Choice("condition", "names", CONDITIONS, "conditions", ("fields",), many=True),
  Choice("schedule", "name", SCHEDULES, "schedule"),
  Choice("objective", "name", OBJECTIVES, "objective", ("weight",)),
  Choice("objective", "terms", TERMS, "terms", many=True),
  Choice("objective", "predict", ROWS, "row", ("sigma_data",)),
  Choice("objective", "times", TIMES, "times"),
  Choice("objective", "weight", WEIGHTS, "weight", ("sigma_data",)),
  Choice("objective", "input_scale", INPUT_SCALES, "input_scale", ("sigma_data",)),
  Choice("objective", "time_input", TIME_INPUTS, "time_input"),
  Choice("model", "name", MODELS, "model", ("parent", "name", "out_channels", "conditions", "dtype", "cut")),
  Choice("model", "encoder", ENCODERS, "encoder", ("parent", "name", "outputs", "conditions", "dtype")),
  Choice("model", "autoencoder", AUTOENCODERS, "autoencoder", _OF_AUTOENCODERS),
  Choice("model", "bottleneck", BOTTLENECKS, "bottleneck"),
  Choice("model", "decoder", DECODERS, "decoder"),
  Choice("model", "discriminator", DISCRIMINATORS, "discriminator", ("parent", "name", "dtype")),
  Choice("model", "text_encoder", TEXT_ENCODERS, "text_encoder", _TOWER),
  Choice("model", "image_encoder", IMAGE_ENCODERS, "image_encoder", _TOWER),
  Choice("model", "generator", GENERATORS, "generator", _OF_IMAGES),
  Choice("model", "critic", CRITICS, "critic", _OF_IMAGES),
  Choice("model", "flow", FLOWS, "flow", _OF_IMAGES),
  Choice("model", "autoregressive", AUTOREGRESSIVE, "autoregressive", _OF_IMAGES),
  Choice("model", "pixels", PIXELS, "pixels"),
  Choice("model", "dtype", names(DTYPES), "dtype"),
  Choice("train", "optimizer", OPTIMIZERS),
  Choice("train", "decay", DECAYS),
  Choice("train", "averages", AVERAGES, many=True),
  Choice("sample", "sampler", SAMPLERS, "sampler"),
  Choice("sample", "grid", GRIDS, "grid"),
  Choice("sample", "final", FINALS, "final"),
  Choice("sample", "guides", GUIDES, "guides", arguments=("fields",), many=True),
  Choice("eval", "metrics", METRICS, many=True),
  Choice("eval", "probes", PROBES, many=True),
  Choice("eval", "likelihood", LIKELIHOODS, "likelihoods", many=True),
  Choice("eval", "bound", BOUNDS, "bounds", many=True),
  Choice("parallel", "mode", names(MODES)),
)
# Plain fields that a task may take as well, by the name of its parameter.
PLAIN = {"shift": "schedule.shift", "sampling_steps": "sample.steps", "temperature": "sample.temperature"}
PARTS = {*PLAIN, *(choice.part for choice in _OF_TASKS if choice.part)}
CHOICES = (Choice("task", "name", TASKS, arguments=(*PARTS, "fields")), *_OF_TASKS)
_OWN = {(choice.section, choice.field): frozenset(choice.entries) for choice in CHOICES}


def parts(config: ConfigDict) -> set[str]:
  """The names of the parts that the config's task takes."""
  task = TASKS.get(config.task.name)
  return PARTS & set(_parameters(task)) if task else PARTS


def require_declared(config: ConfigDict) -> None:
  """Raises ConfigError at an entry from outside that no module of config.extensions brings when the run is opened."""
  for choice in CHOICES:
    for name in choice.names(config) if choice.belongs(config) else ():
      module = _module(choice.entries[name])
      inside = module.partition(".")[0] == __package__
      if inside and name in _OWN[choice.section, choice.field]:
        continue
      if any(inside or _brings(extension, module) for extension in config.extensions):
        continue
      by = "something" if inside else f"the module {module!r}"
      own = inside or module == "__main__" or PathFinder.find_spec(module.partition(".")[0]) is None
      modules = (*config.extensions, "NAME" if own else module)
      raise ConfigError(
        f"config.{choice.section}.{choice.field} names {name!r}, which {by} has added, but config.extensions is "
        f"{config.extensions}, which brings no such thing: the run could not be opened again. "
        f"{'Put it into a module NAME of its own; let' if own else 'Let'} the config's file import that module before "
        f"config.base(), and write c.extensions = {modules} there."
      )


def _module(entry: Any) -> str:
  """Where an entry was written."""
  entry = inspect.unwrap(entry) if callable(entry) else entry
  return getattr(getattr(entry, "func", entry), "__module__", None) or __package__


def _brings(extension: str, module: str) -> bool:
  """Whether importing an extension imports this module: it is that, or has that or something of it."""
  values = vars(sys.modules[extension]).values()
  names = {
    extension,
    *(getattr(each, "__module__", None) or getattr(each, "__name__", "") for each in values),
  }
  return any(f"{module}.".startswith(f"{name}.") for name in names if isinstance(name, str) and name)


# Names that other libraries use for an entry.
ALSO = {
  "fid": "inception",
  "kid": "inception",
  "is": "inception",
  "frechet": "classifier",
  "euler_a": "ancestral",
}


def _refuse(section: str, field: str, value: Any, entries) -> typing.NoReturn:
  also = ALSO.get(str(value).lower())
  near = [also] if also in entries else difflib.get_close_matches(str(value), list(entries), n=1)
  hint = f" Did you mean {near[0]!r}?" if near else ""
  raise ConfigError(f"config.{section}.{field} is {value!r}; it must be one of {', '.join(entries)}.{hint}")
