"""main.py's --show and the end of its --help: what a config may say, read from the entries themselves."""

import inspect
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from diffjax.machine import disk
from diffjax.machine.byproducts import to_stderr
from diffjax.types import ConfigError, RunError


def show(config: ConfigDict, mode: str = "train", folder: Path | None = None) -> None:
  """Prints every field that the config's task has, with its type and range, and all choices with their options.

  Where training would refuse the config, in a workdir or in a new one, that is said afterwards.
  """
  try:
    print("\n".join(lines(config)), flush=True)
  except BrokenPipeError:  # a pager that has seen enough
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python's own last flush fails as well
    return
  if mode == "train" and (text := _refusal(config, folder)):
    to_stderr(f"warning: training refuses this config: {text}")


def _refusal(config: ConfigDict, folder: Path | None) -> str:
  from diffjax.jobs import training

  with tempfile.TemporaryDirectory() as empty:
    try:
      training.start(config, folder or Path(empty))
    except (ConfigError, RunError) as error:
      return str(error)
    except OSError as error:
      return disk.paragraph(error)
  return ""


def lines(config: ConfigDict) -> Iterator[str]:
  """The lines that `show` prints: chosen entries have a star, and options of all entries stand at their values."""
  from diffjax.choices import CHOICES
  from diffjax.config import leaves, resolved, settled

  config = settled(config)
  choices = {(c.section, c.field): c for c in CHOICES if c.belongs(config)}
  used = dict(leaves(resolved(config)))
  for name, section in _sections():
    yield f"{name or 'config'}: {section.__doc__}"
    values = config[name] if name else config
    for field, annotation in section.__annotations__.items():
      path, choice = f"{name}.{field}".lstrip("."), choices.get((name, field))
      if path in used:
        yield f"  config.{path} = {values[field]!r}{'' if choice else _note(annotation)}"
      for entry in choice.entries if choice else ():
        yield f"    {'*' if entry in choice.names(config) else ' '} {entry}"
        for option, parameter in choice.options(entry).items():
          yield f"        config.{name}.{entry}.{option} = {values[entry][option]!r}{_note(parameter.annotation)}"


def sections() -> str:
  """The sections of a config, one a line."""
  text = (
    "Sections of the config; --config.SECTION.FIELD=VALUE changes a field, --config=FILE --show prints all:"
  )
  return "\n".join(
    [text, *(f"  {name or '(no section)':<14}{section.__doc__}" for name, section in _sections())]
  )


def _sections() -> Iterator[tuple[str, type]]:
  from diffjax.sections import SECTIONS

  yield from SECTIONS.items()


def _note(annotation: Any) -> str:
  """The type and the range."""
  from diffjax import ranges

  if annotation is inspect.Parameter.empty:
    return ""
  kinds = " or ".join("None" if kind is type(None) else kind.__name__ for kind in ranges.kinds(annotation))
  allowed = ranges.of(annotation)
  limits = "" if allowed is ranges.FINITE else f", {allowed.text}"
  return f"    ({'tuple of ' * ranges.is_tuple(annotation)}{kinds}{limits})"
