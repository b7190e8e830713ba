"""A workdir and what it says of its run: config.json with the resolved config, commit and packages.

config.json   metrics.jsonl   log.txt   tensorboard/   checkpoints/<step>/   samples/   eval/<step>/   lock
tokenizer_<field>.json, of data with text
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from diffjax.config import free, from_resolved, leaves, resolved
from diffjax.data.encoded import AllMoments, Moments
from diffjax.data.source import Field, Source
from diffjax.data.text import Tokenizer
from diffjax.machine import atomic, disk
from diffjax.types import ConfigError, words

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "ml_collections", "numpy")
MAY_GROW = "train.steps"


def about(plain: Mapping[str, Any]) -> dict[str, Any]:
  """The resolved config with the commit and the versions of the packages that run it."""
  return {
    "config": plain,
    "commit": commit(),
    "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
  }


def commit(*besides: str) -> str | None:
  """The git commit of the code, "+changes-" and their hash where the tree differs; None outside a repository.

  Args:
    besides: folders of the repository whose changes do not count.
  """
  root = Path(__file__).resolve().parents[2]
  git = ["git", "-C", str(root)]
  try:
    head = subprocess.run(
      [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    diff = [*git, "diff", "--full-index", "--no-ext-diff", "--no-color", "HEAD", "--", "."]
    diff += [f":(exclude){folder}" for folder in besides]
    changes = subprocess.run(diff, capture_output=True, check=True).stdout
  except (OSError, subprocess.CalledProcessError):
    return None
  return f"{head}+changes-{hashlib.sha256(changes).hexdigest()[:8]}" if changes else head


def save(
  workdir: Path,
  about: Mapping[str, Any],
  source: Source,
  uses: Mapping[str, str],
  moments: AllMoments = {},  # noqa: B006 (never changed)
) -> None:
  """Writes config.json: `about`, the command and its host, the training data and where their latents lie, and
  fingerprints of the runs used.
  """
  fields = {name: field._asdict() for name, field in source.fields.items()}
  for name, field in source.fields.items():
    if tokenizer := field.tokenizer:
      fields[name]["tokenizer"] = {
        "length": tokenizer.length,
        "fill": tokenizer.fill,
        "fingerprint": tokenizer.fingerprint,
      }
      with atomic.writing(_tokenizer(workdir, name)) as file:
        file.write(tokenizer.json.encode())
  data = {
    "host": platform.node(),
    "command": sys.argv,
    "data": source.fingerprint,
    "data_before": _before(workdir, source),
    "examples": len(source),
    "fields": fields,
    "uses": dict(uses),
    "moments": {
      name: {part: values.tolist() for part, values in each._asdict().items()}
      for name, each in moments.items()
    },
  }
  atomic.write_json(workdir / "config.json", {**about, **data})


def _before(workdir: Path, source: Source) -> list[str]:
  """Fingerprints of the data that a run was trained on before these, where they have changed."""
  if not (has_run(workdir) and has_checkpoints(workdir)):
    return []
  with _reading(workdir) as record:
    before, last = list(record.get("data_before", ())), record.get("data", source.fingerprint)
  return before if last == source.fingerprint else [*before, last]


def _tokenizer(workdir: Path, field: str) -> Path:
  return workdir / f"tokenizer_{field}.json"


@contextlib.contextmanager
def _reading(workdir: Path) -> Iterator[dict[str, Any]]:
  """What config.json says, for a block that reads it.

  Raises:
    ConfigError: there is none, or it is not what training wrote.
  """
  path = Path(workdir) / "config.json"
  try:
    yield json.loads(path.read_text("utf-8"))
  except FileNotFoundError:
    raise ConfigError(f"--workdir={workdir} holds no run (no config.json); train one there first.") from None
  except ConfigError as error:
    message = str(error)
    raise (error if str(workdir) in message else ConfigError(f"{path}: {message}")) from None
  except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
    raise ConfigError(
      f"{path} is damaged ({type(error).__name__}: {words(error)}); it is the JSON that training wrote."
    ) from None


def data_of(workdir: Path) -> tuple[dict[str, Field], int, str] | None:
  """Fields, number and fingerprint of the data that a workdir's run was trained on; None where there is none."""
  if not has_run(workdir):
    return None
  with _reading(workdir) as record:
    if "fields" not in record:
      return None
    fields = {
      name: _field(each, _tokenizer_of(workdir, name, each["tokenizer"]) if each.get("tokenizer") else None)
      for name, each in record["fields"].items()
    }
    return fields, _typed(record["examples"], int), _typed(record["data"], str)


def moments_of(workdir: Path, names: Sequence[str]) -> dict[str, Moments]:
  """Where the latents lie that a workdir's run was trained on; ConfigError where that is wanted and not there."""
  with _reading(workdir) as record:
    moments = {
      name: Moments(*(np.asarray(each[part], np.float32) for part in ("mean", "deviation")))
      for name, each in record.get("moments", {}).items()
    }
  if not {*names} <= moments.keys():
    raise ConfigError(
      f"--workdir={workdir} holds a run of an earlier version, which did not keep where its training data's latents "
      "lie; train it anew."
    )
  return moments


def _typed(value: Any, kind: type) -> Any:
  if type(value) is not kind:
    raise TypeError(f"{value!r} is no {kind.__name__}")
  return value


def _field(record: Mapping[str, Any], tokenizer: Tokenizer | None = None) -> Field:
  """The field that config.json describes."""
  several = lambda name, kind: tuple(_typed(value, kind) for value in record.get(name, ()))
  shape, names, counts = several("shape", int), several("names", str), several("counts", int)
  return Field(shape, _typed(record["dtype"], str), _typed(record["classes"], int), names, tokenizer, counts)


def _tokenizer_of(workdir: Path, field: str, about: Mapping[str, Any]) -> Tokenizer:
  """The tokenizer that lies in a workdir; ConfigError where it is gone or not the one that the run was trained with."""
  place = _tokenizer(workdir, field)
  try:
    tokenizer = Tokenizer(place.read_text("utf-8"), about["length"], about["fill"])
  except (OSError, UnicodeDecodeError) as error:
    raise ConfigError(
      f"{place}, which the run was trained with, cannot be read ({error}); restore it."
    ) from None
  if tokenizer.fingerprint != about["fingerprint"]:
    raise ConfigError(f"{place} is not the tokenizer that the run was trained with; restore that one.")
  return tokenizer


def require_uses(workdir: Path, uses: Mapping[str, str]) -> None:
  """Raises ConfigError if a run that a workdir's run was trained with is not among these; it may lie elsewhere now."""
  with _reading(workdir) as record:
    before = dict(record.get("uses", {}))
  for place, trained_with in before.items():
    if trained_with not in uses.values():
      raise ConfigError(
        f"--workdir={workdir} holds a run that was trained with the weights {trained_with} of {place!r}, and here are "
        f"{', '.join(f'{now} of {there!r}' for there, now in uses.items()) or 'none'}: it was trained further, or "
        f"anew, or is another. Name the checkpoint, as {place}@STEP, or the folder in which it lies now."
      )


def load(workdir: Path) -> ConfigDict:
  """The config of a workdir's run.

  Raises:
    ConfigError: there is none, or it is damaged.
  """
  with _reading(workdir) as record:
    return from_resolved(record["config"])


@contextlib.contextmanager
def locked(workdir: Path, writes: bool = True) -> Iterator[None]:
  """A block in which no other process trains in a workdir. The system unlocks it when the process dies.

  Args:
    workdir: the workdir.
    writes: of a run's processes the one that writes holds the lock for all.

  Raises:
    ConfigError: another process is in such a block. A file system without locks lets all of them in.
  """
  if not writes:
    yield
    return
  disk.make_folder(workdir, f"--workdir={workdir}")
  with (workdir / "lock").open("a") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise ConfigError(
        f"another process is training in --workdir={workdir} (`fuser {workdir}/lock` names it). Let it end, or "
        "name another workdir."
      ) from None
    except OSError:
      pass
    yield


def has_run(workdir: Path) -> bool:
  """Whether a run was started there."""
  return (Path(workdir) / "config.json").is_file()


def has_checkpoints(workdir: Path) -> bool:
  """Whether anything was saved there, or was being saved."""
  folder = Path(workdir) / "checkpoints"
  return folder.is_dir() and any(folder.iterdir())


def require_data(workdir: Path, source: Source, changed: bool, by_text: bool = False) -> list[str]:
  """Raises ConfigError if the run of a workdir was trained on other data.

  Returns:
    What is to be told of data that changed and may have.

  Args:
    workdir: the workdir.
    source: the training data here.
    changed: whether they may have changed; not so that a class, or a token, means another.
    by_text: whether the run is given texts themselves, so that it does not matter what their tokens are here.
  """
  with _reading(workdir) as record:
    there = {name: _field(each) for name, each in record["fields"].items()}
    tokenizers = {
      name: (each.get("tokenizer") or {}).get("fingerprint") for name, each in record["fields"].items()
    }
    fingerprint, examples = record["data"], _typed(record["examples"], int)
  if fingerprint == source.fingerprint:
    return []
  here, differ = source.fields, []
  for name in sorted({*there, *here}):
    old, new = ((_kind(fields[name]) if name in fields else "missing") for fields in (there, here))
    if old != new:
      differ.append(f"the field {name!r} is {new} here and was {old}")
    elif not by_text and (tokenizer := here[name].tokenizer) and tokenizer.fingerprint != tokenizers[name]:
      differ.append(f"the tokenizer of {name!r} is another one here, to which words have other numbers")
  what = f"there are {len(source)} examples here and were {examples}"
  for name in sorted({*there} & {*here}):
    pairs = zip(here[name].names, here[name].counts, there[name].counts, strict=False)
    changes = [f"{new} of {name} and were {old}" for name, new, old in pairs if new != old]
    what += f" ({', '.join(changes[:5])}{', ...' if len(changes) > 5 else ''})" if changes else ""
  head = f"--workdir={workdir} holds a run that was trained on other data:"
  if differ:
    raise ConfigError(f"{head} {'; '.join(differ)}. Name another workdir, or restore the data.")
  if not changed:
    raise ConfigError(
      f"{head} {what}. Name another workdir, restore the files, or go on with these by --config.data.changed=True."
    )
  return [f"{head} {what}. It goes on with these, as config.data.changed says."]


def _kind(field: Field) -> str:
  """What a network depends on, as text."""
  names = f" ({', '.join(field.names)})" if field.names else ""
  return f"{field.dtype} {list(field.shape)}" + (
    f" of {field.classes} classes{names}" if field.classes else ""
  )


def require_same(workdir: Path, config: ConfigDict, plain: Mapping[str, Any]) -> None:
  """Raises ConfigError, naming what differs, if the checkpoints of a workdir were made by another config.

  Args:
    workdir: the workdir.
    config: the config.
    plain: what belongs to the run of it.
  """
  old, new = dict(leaves(resolved(load(workdir)))), dict(leaves(plain))
  if not has_checkpoints(workdir):
    return
  if new[MAY_GROW] > old[MAY_GROW] and new["train.decay"] != "cosine":
    old[MAY_GROW] = new[MAY_GROW]
  may_change = free(config)
  if new[MAY_GROW] > old[MAY_GROW]:  # so its decay is a cosine
    raise ConfigError(
      f"config.{MAY_GROW} is {new[MAY_GROW]} here and {old[MAY_GROW]} in --workdir={workdir}, whose learning rates "
      "fall over all its steps (config.train.decay = 'cosine'): with more steps the ones that it took would have been "
      f"others. Train on from its weights in a new workdir, by --config.train.start={workdir}."
    )
  paths = [path for path in sorted({*old, *new}) if not may_change(path)]
  changes = [path for path in paths if old.get(path) != new.get(path)]
  if changes:
    listed = "; ".join(f"config.{p} is {new.get(p)!r} here and {old.get(p)!r} there" for p in changes[:5])
    more = f"; and {len(changes) - 5} more" if len(changes) > 5 else ""
    raise ConfigError(
      f"--workdir={workdir} holds the run of another config: {listed}{more}. Name another workdir, or leave "
      "these fields as they were."
    )
