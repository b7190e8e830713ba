"""The config that a file makes, and the mistakes in it: the user's own line, the field, and what would be right."""

import difflib
import importlib.util
import inspect
import os
import re
import traceback
from collections.abc import Collection, Sequence
from pathlib import Path
from types import ModuleType

from ml_collections import ConfigDict

from diffjax.types import ConfigError


def load(place: str) -> ConfigDict:
  """The config of a file's get_config; see `with_bases`."""
  return with_bases(place)[0]


def with_bases(place: str) -> tuple[ConfigDict, list[ConfigDict]]:
  """The config of a file's get_config, and those of the configs that it imports, which it may be built on.

  Args:
    place: the file's path, with ":argument" where its get_config takes one.

  Raises:
    ConfigError: there is no such file, or it fails.
  """
  name, _, argument = place.partition(":")
  if not os.path.isfile(name):  # of Path the file system refuses a name that is too long
    files = sorted(str(path) for path in Path("configs").glob("*.py"))
    near = difflib.get_close_matches(name, files, n=1)
    there = f" There are {len(files)} in configs/, such as {files[0]}." if files else ""
    hint = f" Did you mean {near[0]}?" if near else there
    raise ConfigError(f"--config={name} is no file.{hint}")
  if not name.endswith(".py"):
    raise ConfigError(f"--config={name} is no Python file; a config is one with a get_config function.")
  spec = importlib.util.spec_from_file_location("config_file", name)
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
      raise ConfigError(f"--config={place} has no function get_config, which returns the config.")
    config = module.get_config(argument) if argument else module.get_config()
    imported = [each for each in vars(module).values() if inspect.ismodule(each)]
    bases = [each.get_config() for each in imported if _has_config(each)]
  except ConfigError:
    raise
  except Exception as error:
    raise ConfigError(f"--config={place} fails at {_where(error)}") from None
  if not isinstance(config, ConfigDict):
    raise ConfigError(f"--config={place}: get_config returns {config!r}; it must return a ConfigDict.")
  return config, bases


def _has_config(module: ModuleType) -> bool:
  """Whether a module has a get_config that needs no argument."""
  make = getattr(module, "get_config", None)
  return callable(make) and all(
    each.default is not inspect.Parameter.empty for each in inspect.signature(make).parameters.values()
  )


def in_vain(config: ConfigDict, bases: Sequence[ConfigDict], overridden: Collection[str]) -> str:
  """What a config's file sets without effect, "" if nothing.

  What stands so in a config that it is built on is not told, nor what has no effect because a flag chose otherwise.

  Args:
    config: the file's config with its overrides, settled.
    bases: those that it may be built on.
    overridden: the paths of the overrides.
  """
  from diffjax.config import base, leaves, unused

  before = [dict(leaves(each.to_dict())) for each in (base(), *bases)]
  changed = [
    path for path, value in leaves(config.to_dict()) if value not in [each.get(path) for each in before]
  ]
  reasons = {}
  for path, by, why in unused(config, changed):
    if by not in overridden:
      reasons.setdefault(why, []).append(f"config.{path}")
  return " ".join(
    f"{', '.join(paths)} {'have' if len(paths) > 1 else 'has'} no effect here: {why}"
    for why, paths in reasons.items()
  )


def _where(error: Exception) -> str:
  """The line that failed, of the user's rather than of a library, and what is wrong with it."""
  if isinstance(error, SyntaxError):
    return f"{error.filename}:{error.lineno}: {error.msg}: {(error.text or '').strip()}"
  frames = traceback.extract_tb(error.__traceback__)
  foreign = re.compile(rf"site-packages|<frozen|/importlib/|{re.escape(__file__)}")
  line = ([frame for frame in frames if not foreign.search(frame.filename)] or frames)[-1]
  message = _field_of(error, line.line) or f"{type(error).__name__}: {error}"
  return f"{line.filename}:{line.lineno}: {line.line}: {message}"


def _field_of(error: Exception, line: str) -> str:
  """What is wrong with the config's field that a line sets, "" if it is something else."""
  from diffjax.config import base, require_path

  fields = base()
  for path in re.findall(r"\b[A-Za-z_]\w*\.([\w.]+)", line):
    try:
      require_path(fields, path)
    except ConfigError as missing:
      if isinstance(error, AttributeError | KeyError):
        return str(missing)
      continue
    field = path.split(".")[-1]
    if isinstance(error, TypeError) and f"'{field}'" in str(error):
      value = fields
      for name in path.split("."):
        value = value[name]
      if isinstance(value, ConfigDict):
        return f"config.{path} is a section; set its fields one by one."
      kind = type(value).__name__
      return f"config.{path} must be of type {kind}, for instance {value!r}."
  return ""
