"""Configs: every field with its default, the named choices with their options, and what is refused.

A choice is a field whose value names an entry of one of the library's dicts. The options of an entry are its
keyword parameters, their annotations say what they may be (ranges.py), and they stand beside the choice under the
entry's name:

    config.schedule.name = "linear"
    config.schedule.linear.beta_end = 0.02

so a new entry brings its options with it. The plain fields of a section are a signature too, one of SECTIONS
(sections.py), read by the same code. Only what belongs to a run is saved, compared and shown: the parts that its task
takes, and the options of what is chosen.
"""

import dataclasses
import difflib
import functools
import importlib
import inspect
import math
import os
import re
import sys
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any

from ml_collections import ConfigDict, FrozenConfigDict
from ml_collections.config_dict import placeholder

from diffjax import ranges
from diffjax.choices import CHOICES, PLAIN, Choice, parts
from diffjax.ranges import FREE
from diffjax.sections import FREE_SECTIONS, SECTIONS
from diffjax.types import ConfigError


def _default(parameter: inspect.Parameter) -> Any:
  """The default, or a placeholder of the annotated type where it is None."""
  if parameter.default is not None:
    return parameter.default
  annotation = parameter.annotation
  if typing.get_origin(annotation) is Annotated:
    annotation = typing.get_args(annotation)[0]
  kinds = [kind for kind in typing.get_args(annotation) if kind is not type(None)]
  return placeholder(kinds[0])


def base() -> ConfigDict:
  """Every field with its default, locked; a config changes what differs."""
  config = ConfigDict()
  for section, fields in SECTIONS.items():
    defaults = {field.name: field.default for field in dataclasses.fields(fields)}
    config.update({section: defaults} if section else defaults)
  for choice in CHOICES:
    section = config[choice.section]
    for name in choice.entries:
      if options := {option: _default(p) for option, p in choice.options(name).items()}:
        section[name] = {**(section[name] if name in section else {}), **options}
  return config.lock()


def entries(config: ConfigDict, section: str, field: str) -> dict[str, Callable]:
  """What config.<section>.<field> names, by name, each with its options bound.

  Raises:
    ConfigError: no entry has that name, or an option is outside its range.
  """
  choice = next(c for c in CHOICES if (c.section, c.field) == (section, field))
  choice.check(config)
  return {name: _bound(config, choice, name) for name in choice.names(config)}


def _bound(config: ConfigDict, choice: Choice, name: str) -> Callable:
  entry = choice.entries[name]
  if entry is None:
    return name
  return functools.partial(entry, **_set(config, choice, name)) if callable(entry) else entry


def _set(config: ConfigDict, choice: Choice, name: str) -> dict[str, Any]:
  return {option: config[choice.section][name][option] for option in choice.options(name)}


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
  """(dotted path, value) of every field."""
  for name, value in tree.items():
    if isinstance(value, Mapping | ConfigDict):
      yield from leaves(value, f"{prefix}{name}.")
    else:
      yield f"{prefix}{name}", value


def resolved(config: ConfigDict) -> dict[str, Any]:
  """The run's config as plain data: the parts of its task, and the options of the chosen entries alone."""
  plain = config.to_dict()
  for choice in CHOICES:
    for name in choice.entries:
      plain[choice.section].pop(name, None)
  for choice in CHOICES:
    if not choice.belongs(config):
      plain[choice.section].pop(choice.field)
      continue
    for name in choice.names(config):
      if options := _set(config, choice, name):
        plain[choice.section].setdefault(name, {}).update(options)
  for part, path in PLAIN.items():
    if part not in parts(config):
      section, field = path.split(".")
      plain[section].pop(field)
  return {name: value for name, value in plain.items() if value != {}}


def annotations() -> dict[str, Any]:
  """What every field is annotated with, by its path."""
  types = {
    f"{section}.{field.name}".lstrip("."): field.type
    for section, fields in SECTIONS.items()
    for field in dataclasses.fields(fields)
  }
  for choice in CHOICES:
    for name in choice.entries:
      for option, parameter in choice.options(name).items():
        types[f"{choice.section}.{name}.{option}"] = parameter.annotation
  return types


def free(config: ConfigDict) -> Callable[[str], bool]:
  """Whether a run may change config.<path> while it goes on; all else decides its numbers."""
  paths = {path for path, annotation in annotations().items() if _is_free(annotation)}
  return lambda path: path in paths or path.split(".")[0] in FREE_SECTIONS


def _is_free(annotation: Any) -> bool:
  """Whether a run may change the field: it is marked FREE, or names another run, whose weights are compared instead."""
  return any(mark is FREE for mark in getattr(annotation, "__metadata__", ())) or bool(
    ranges.uses(annotation)
  )


def from_resolved(plain: Mapping[str, Any]) -> ConfigDict:
  """The config of `resolved` data; fields that these lack have their defaults.

  Raises:
    ConfigError: a field that no longer exists, or an extension that cannot be imported.
  """
  for name in plain.get("extensions", ()):
    _import(name)
  config = base()
  for path, value in leaves(plain):
    try:
      require_field(config, path)
    except ConfigError as error:
      raise ConfigError(
        f"{error} If a file of your own brought it, name that file's module in config.extensions, or give the run's "
        "config by --config=FILE as well."
      ) from None
    *sections, field = path.split(".")
    section = config
    for name in sections:
      section = section[name]
    if value is None and isinstance(section[field], float):  # in JSON, which has no infinity
      value = math.inf
    section[field] = tuple(value) if isinstance(value, list) else value
  return config


def _import(name: str) -> None:
  """Imports an extension, which may lie in the current folder."""
  here = os.getcwd()
  if here not in sys.path:
    sys.path.append(here)
  try:
    importlib.import_module(name)
  except ModuleNotFoundError as error:
    if error.name is None or not f"{name}.".startswith(f"{error.name}."):
      raise
    raise ConfigError(
      f"config.extensions names the module {name!r}, which is not found from {here}; start where it can be imported."
    ) from None


# What fields of earlier versions have become.
RENAMED = {
  "data.flip": "--config.data.augment=flip",
  "model.conditional": "--config.condition.names=\"('label',)\"",
  "objective.label_dropout": "--config.condition.label.dropout",
  "objective.edm.sigma_data": "--config.space.pixels.std",
  "sample.label": "--config.condition.label.request",
  "sample.clip": "'clip' in --config.sample.guides",
  "sample.guidance": "'classifier_free' in --config.sample.guides, with --config.sample.classifier_free.w",
  "sample.guidance_interval": "--config.sample.classifier_free.sigma_min and sigma_max",
  "sample.guidance_rescale": "--config.sample.classifier_free.rescale",
  "train.ema": "--config.train.ramp.rates, or those of another of --config.train.averages",
  "task.autoencoder.prior": "of no use: samples are decoded from the unit Gaussian, and a run that uses an "
  "autoencoder measures where its latents lie, or is told by --config.space.latent.scale. Train a run that has it anew",
  "train.ema_warmup": "--config.train.averages",
}


# Names that other libraries use for a field.
SHORT = {
  "lr": "train.learning_rate",
  "bs": "train.batch_size",
  "epochs": "train.steps",
  "ema": "train.averages",
  "ema_decay": "train.constant.rates",
  "cfg": "sample.classifier_free.w",
  "guidance_scale": "sample.classifier_free.w",
}


def require_path(config: ConfigDict, path: str) -> Any:
  """What lies at config.<path>; raises ConfigError, naming the nearest field, if that does not exist."""
  node = config
  for name in path.split("."):
    if not isinstance(node, ConfigDict) or name not in node:
      if path in RENAMED:
        raise ConfigError(f"config.{path} is now {RENAMED[path]}.")
      if (last := path.split(".")[-1]) in SHORT:
        raise ConfigError(f"config.{path} does not exist; did you mean config.{SHORT[last]}?")
      paths = [place for place, _ in leaves(config)]
      same_name = [place for place in paths if place.split(".")[-1] == path.split(".")[-1]]
      near = difflib.get_close_matches(path, same_name or paths, n=1, cutoff=0.0 if same_name else 0.5)
      hint = f"; did you mean config.{near[0]}?" if near else "."
      raise ConfigError(f"config.{path} does not exist{hint}")
    node = node[name]
  return node


def require_field(config: ConfigDict, path: str) -> None:
  """Raises ConfigError if config.<path> does not exist, or is a whole section."""
  value = require_path(config, path)
  if isinstance(value, ConfigDict):
    first, _ = next(leaves(value, f"{path}."))
    raise ConfigError(f"config.{path} is a section; set its fields one by one, such as config.{first}.")


def settled(config: ConfigDict | FrozenConfigDict) -> FrozenConfigDict:
  """The config checked and frozen; a frozen one, which was checked before, is returned as it is.

  Raises:
    ConfigError: see `check`.
  """
  if isinstance(config, FrozenConfigDict):
    return config
  config = typed(config)
  _check(config)
  return FrozenConfigDict(config)


def typed(config: ConfigDict) -> ConfigDict:
  """A copy in which every field is there and has its type, whole numbers as floats where it is a float.

  Raises:
    ConfigError: a field that is missing, unknown, or of another type.
  """
  types, values = annotations(), dict(leaves(config.to_dict()))
  for path in types:
    if path not in values and (path.count(".") < 2 or path.split(".")[1] in _names(config)):
      raise ConfigError(
        f"config.{path} is missing; a config begins with config.base(), which has every field."
      )
  config = config.copy_and_resolve_references().unlock()
  for path, value in values.items():
    if path not in types:
      require_path(base(), path)
    cast = ranges.fitted(f"config.{path}", value, types[path])
    if repr(cast) != repr(value):
      *sections, field = path.split(".")
      node = functools.reduce(ConfigDict.__getitem__, sections, config)
      with node.ignore_type():
        node[field] = cast
  return config.lock()


def _names(config: ConfigDict) -> set[str]:
  """All names that a config chooses."""
  return {name for choice in CHOICES for name in choice.names(config)}


def require_used(config: ConfigDict, paths: Iterable[str]) -> None:
  """Raises ConfigError at a field of an entry that is not chosen, and names the flag that chooses the entry."""
  for path, _, why in unused(config, paths):
    raise ConfigError(f"config.{path} has no effect here: {why}")


def unused(config: ConfigDict, paths: Iterable[str]) -> Iterator[tuple[str, str, str]]:
  """Which of the fields have no effect: the path, that of the field which decides it, and why."""
  used = dict(leaves(resolved(config)))
  for path in paths:
    if path in used:
      continue
    section, name, *_ = path.split(".")
    choice = next(
      (c for c in CHOICES if c.section == section and name in c.entries and c.belongs(config)), None
    )
    if choice is None:
      yield path, "task.name", f"config.task.name is {config.task.name!r}, which takes no such thing."
      continue
    field, entry = f"{section}.{choice.field}", f"\"('{name}',)\"" if choice.many else name
    why = f"config.{field} is {config[section][choice.field]!r}; --config.{field}={entry} chooses it."
    yield path, field, why


def check(config: ConfigDict) -> None:
  """Raises ConfigError at the first field whose value cannot be right, whatever the data are."""
  settled(config)


def _check(config: ConfigDict) -> None:
  if late := [name for name in config.extensions if name not in sys.modules]:
    raise ConfigError(
      f"config.extensions names the module {late[0]!r}, which must be imported before config.base() is called, by the "
      "config's file."
    )
  for choice in CHOICES:
    choice.check(config)
  for section, fields in SECTIONS.items():
    values = config[section] if section else config
    for field in dataclasses.fields(fields):
      path = f"{section}.{field.name}".lstrip(".")
      ranges.check(f"config.{path}", values[field.name], ranges.of(field.type))
  if config.train.batch_size % config.train.accumulate:
    raise ConfigError(
      f"config.train.batch_size is {config.train.batch_size}, which config.train.accumulate = "
      f"{config.train.accumulate} does not divide."
    )
  if not config.sample.batch_size and (config.eval.likelihood or config.eval.bound):
    raise ConfigError(
      "config.sample.batch_size is 0, which sizes batches to the memory that sampling takes, but "
      f"config.eval.likelihood is {config.eval.likelihood} and config.eval.bound {config.eval.bound}, which take more; "
      "set a number of images, 64 say."
    )
  seeds = config.sample.seed, config.sample.seed + config.eval.seeds - 1
  if seeds[1] >= 2**32:
    raise ConfigError(
      f"config.sample.seed is {seeds[0]} and config.eval.seeds {config.eval.seeds}, so that the last seed would be "
      f"{seeds[1]}; it must be at most {2**32 - 1}."
    )
  if not re.fullmatch(r"latest|all|\d+(,\d+)*", config.eval.checkpoints):
    raise ConfigError(
      f"config.eval.checkpoints is {config.eval.checkpoints!r}; it must be latest, all, or steps such as "
      "1000,2000."
    )
