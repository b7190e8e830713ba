"""Mutated overrides, values, config files and flags: each traces, or ends in one paragraph that names what is wrong.

Everything but the devices: the command line or the file is read, the experiment made, and the whole training step
traced, without a compile; the other modes do what they do before a checkpoint is read. An error names what was
mutated, or says of a field that it does not go with it. What is accepted is in the resolved config as config.json
has it, or a file set it and is told that it has no effect.
"""

import ast
import contextlib
import functools
import io
import json
import re
import traceback
from pathlib import Path

import command
import jax
import numpy as np
import pytest
from test_configs import FIELDS, NAMES, Small, find, taken

from diffjax import config as configs
from diffjax import experiment
from diffjax.choices import CHOICES
from diffjax.config import annotations, from_resolved, leaves, resolved
from diffjax.jobs import commandline, evaluation, sampling, show, trained
from diffjax.jobs.training import steps_per_call
from diffjax.machine import atomic, disk, processes
from diffjax.models import MODELS
from diffjax.ranges import is_tuple, kinds
from diffjax.types import ConfigError, RunError

ROOT = Path(__file__).parents[1]
OF_DIGITS = [name for name in NAMES if name.startswith("digits") and name != "digits_latent"]
NUMBERS = {
  int: (-1, 0, 1, 2, 3, 5, 8, 64, 1000, 4096, 2**31, 2**32, 10**12),
  float: (-1.0, 0.0, 1e-30, 1e-3, 0.3, 0.5, 1.0, 2.0, 50.0, 1e30, float("nan"), float("inf"), -float("inf")),
  bool: (True, False),
  str: ("", "x", "None", "nan", "a=b", "raw", "runs/none", "4"),
}
JUNK = ("x", "none", "()", "[]", "1.5", "True", "(1, 'a')", "{}", "1e999", "--", "'", "(0,)", "0.5,0.5")
LARGE = 64  # of a network, which may be as deep as one likes, and then is traced for hours
PLACES = ("", "{}/file", "{}/file/x", "{}/none", "{}", "/proc/x", "gs://b/x", "~nobody/x", "x" * 300, "a\0b")
FLAGS = {
  "mode": (*commandline.MODES, "", "Train", "trian"),
  "workdir": PLACES,
  "out": PLACES,
  "images": PLACES,
  "config": (*PLACES, "{}/file.py", "{}/none.py", "{}/mutated.py:x"),
  "coordinator": ("", "x", ":1", "x:", "localhost:99999", "localhost:1234", "[::1]:80"),
  "processes": ("", "-1", "0", "1", "2", "x", "1.5"),
  "process": ("", "-1", "0", "1", "x"),
  "join": ("", "-1", "0", "5", "x"),
  "show": ("true", "maybe", ""),
  "flagfile": ("{}/none", "{}/file"),
  "undefok": ("x",),
  **dict.fromkeys(
    ("steps", "batch-size", "stepz", "confg", "config.", "config.train", "config.train.", "-"), ("", "5")
  ),
}
STRAY = (
  "stray",
  "-",
  "--",
  "---",
  "=",
  "--=",
  "--=x",
  "-x",
  "5",
  "{}/file",
  "--nomode",
  "--noshow",
  "--noconfig",
)
# What an error may name where another was mutated.
WITH = {"mode": ("workdir",), "workdir": ("mode",), "process": ("processes", "coordinator")}


class Case:
  """A mutated command line, from random numbers."""

  def __init__(self, number, names, folder):
    self.rng = np.random.default_rng(number)
    self.name = self.pick(names)
    self.folder = folder
    used = [path for path, _ in leaves(resolved(configs.settled(config_of(self.name))))]
    every = list(annotations())
    self.overrides, self.flags = {}, []
    of_flags = self.rng.random() < 0.3
    for _ in range(self.rng.integers(0 if of_flags else 1, 2 if of_flags else 4)):
      path = self.pick(used if self.rng.random() < 0.7 else every)
      self.overrides[path] = self.value(path)
    if typo := self.rng.random() < 0.05:
      path = self.pick(every)
      self.overrides[path[:-1] + self.pick("xyz")] = "1"
    self.by_file = self.rng.random() < 0.3 and not typo
    for _ in range(self.rng.integers(1, 4) if of_flags else 0):
      self.flags.append(self.flag())

  def pick(self, values):
    return values[self.rng.integers(len(values))]

  def value(self, path):
    """Something of the right type mostly, as Python."""
    annotation = annotations()[path]
    section, _, field = path.rpartition(".")
    choice = next((c for c in CHOICES if (c.section, c.field) == (section, field)), None)
    one = lambda: self.pick(NUMBERS[self.pick([k for k in kinds(annotation) if k in NUMBERS])])
    if choice and self.rng.random() < 0.8:
      one = lambda: self.pick(list(choice.entries))
    if self.rng.random() < 0.1:
      return self.pick(JUNK)
    capped = lambda each: min(each, LARGE) if section.startswith("model") and isinstance(each, int) else each
    if is_tuple(annotation):
      return tuple(capped(one()) for _ in range(self.rng.integers(0, 4)))
    return capped(one())

  def flag(self):
    """One or two arguments: a flag with a value, with none, or what is no flag."""
    if self.rng.random() < 0.15:
      return [self.pick(STRAY).format(self.folder)]
    name = self.pick(list(FLAGS))
    value = self.pick(FLAGS[name]).format(self.folder)
    dashes = self.pick(("--", "--", "-"))
    forms = ([f"{dashes}{name}={value}"],) * 4 + ([f"{dashes}{name}", value], [f"{dashes}{name}"])
    return self.pick(forms)

  def argv(self):
    """The command line, in a folder with the config's file."""
    lines = [f"  c.{path} = {value!r}" for path, value in self.overrides.items() if self.by_file]
    head = ["from math import inf, nan", f"from configs import {self.name} as one", "def get_config():"]
    text = "\n".join([*head, "  c = one.get_config()", '  c.model.name = "small"', *lines, "  return c", ""])
    (self.folder / "mutated.py").write_text(text)
    given = [] if self.by_file else [f"--config.{p}={text_of(v)}" for p, v in self.overrides.items()]
    given = [
      [argument]
      for argument in (f"--config={self.folder}/mutated.py", f"--workdir={self.folder}/run", *given)
    ]
    for flag in self.flags:
      given.insert(self.rng.integers(len(given) + 1), flag)
    return [argument for each in given for argument in each]

  def mutated(self):
    """What an error may name."""
    names = {f"config.{path}" for path in self.overrides}
    names |= {f"the {path.split('.')[0]}" for path in self.overrides}  # "the schedule's 8 steps"
    for flag in self.flags:
      name = flag[0].lstrip("-").partition("=")[0]
      names |= {repr(arg) for arg in flag} | {f"--{each}" for each in (name, *WITH.get(name, ()))}
      names |= {f"flag -{name}."}  # absl's words where a value is missing
      names |= {name} if name.startswith("config.") else set()
    return names

  def is_named(self, message):
    """Whether a message names what was mutated, or in its section the field alone."""
    paths = [path.split(".") for path in self.overrides]
    alone = any(f"config.{p[0]}." in message and re.search(rf"\b{p[-1]}\b", message) for p in paths)
    chosen = [
      f"config.{path.split('.')[0]}.{entry}."
      for path, value in self.overrides.items()
      for entry in (value if isinstance(value, tuple) else (value,))
    ]
    return alone or any(name in message for name in (*chosen, *self.mutated()))

  def __str__(self):
    return f"{self.name} {self.overrides} {self.flags}{' by file' * self.by_file}"


def text_of(value):
  return repr(value) if isinstance(value, tuple) else str(value)


def config_of(name):
  config = configs_module(name).get_config()
  config.model.name = "small"
  return config


def configs_module(name):
  return __import__(f"configs.{name}", fromlist=[name])


def find_any(place, wants, **how):
  """A run that is not trained, where its name is that of a config."""
  if Path(place).name not in NAMES:
    raise ConfigError(f"{place!r} is no run.")
  return find(place, wants)


def traced(config, folder):
  """The experiment of a config and its step, as shapes."""
  disk.require_folder(folder, f"--workdir={folder}")
  config = configs.settled(config)
  # TFDS takes seconds to import.
  fields = FIELDS["tfds"] if config.data.source == "tfds" else experiment.source(config, "train").fields
  parts = experiment.create(config, fields, find_any)
  steps_per_call(config, "cpu", 0)
  _, run, params, batch = taken(parts, config.train.batch_size, fields)
  jax.eval_shape(run, params, batch)


JOBS = {
  "train": traced,
  "sample": sampling.sample,
  "eval": evaluation.evaluate,
  "score": evaluation.score,
  "show": show.show,
}


def done(argv):
  """What a command line is: the job and its arguments, once all that costs nothing is done."""
  job, arguments = commandline.parse(command.line(*argv))
  flags = [commandline.flags.FLAGS[name].value for name in ("coordinator", "processes", "process")]
  processes.several(*flags)
  JOBS[job](*arguments)
  return job, arguments


@functools.cache
def plain_error(name):
  """What is wrong with a config as it stands, without the data and the runs that it names."""
  try:
    traced(config_of(name), Path("runs/x"))
  except ConfigError as error:
    return str(error)


def saved(config):
  """Every field of the run that a config makes, as it comes back from config.json."""
  plain = json.loads(atomic.as_json(resolved(config)))
  return dict(leaves(resolved(configs.settled(from_resolved(plain)))))


def meant(value, annotation):
  """What a value that was accepted means."""
  if (
    isinstance(value, str) and str not in kinds(annotation) or isinstance(value, str) and is_tuple(annotation)
  ):
    value = ast.literal_eval(value)
  return value


def attempt(case):
  """What is said of a case, "" where it traces; raises what is a fault."""
  argv, told = case.argv(), io.StringIO()
  try:
    with contextlib.redirect_stderr(told):
      job, (config, *places) = done(argv)
  except (ConfigError, RunError, OSError) as error:
    message = disk.paragraph(error) if isinstance(error, OSError) else str(error)
    assert "\n" not in message and len(message) < 1200, message
    assert case.is_named(message) or message == plain_error(case.name), f"names nothing of it: {message}"
    return message
  places = () if job == "show" else places
  for flag, place in zip(("workdir", "out" if job != "score" else "images"), places, strict=False):
    last = [a.partition("=")[2] for a in argv if re.match(f"--?{flag}=", a)]
    assert str(place) == str(Path(last[-1]).expanduser()), f"--{flag} is {place}"
  used = saved(config)
  before = [dict(leaves(each.to_dict())) for each in (configs.base(), config_of(case.name))]
  for path, value in case.overrides.items():
    new = meant(value, annotations()[path])
    if path in used:
      assert used[path] == new, f"config.{path} is {used[path]!r}"
    elif new not in [fields[path] for fields in before]:
      assert case.by_file and f"config.{path}" in told.getvalue(), f"config.{path} has no effect"
  return ""


def run(numbers, names, folder):
  (folder / "file").write_text("")
  (folder / "file.py").write_text("")
  accepted, faults = 0, []
  for number in numbers:
    case = Case(number, names, folder)
    try:
      accepted += not attempt(case)
    except BaseException as error:
      where = traceback.extract_tb(error.__traceback__)[-1]
      message = f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"
      faults.append(f"{number} {case}: {message}"[:900])
  assert not faults, f"{len(faults)} of {len(numbers)}\n" + "\n".join(faults)
  return accepted / len(numbers)


@pytest.fixture
def small(monkeypatch):
  monkeypatch.setitem(MODELS, "small", Small)
  monkeypatch.setattr(trained, "trained", find_any)
  monkeypatch.chdir(ROOT)


def test_a_hundred_mutations_trace_or_name_what_is_wrong(small, tmp_path):
  assert 0.05 < run(range(100), OF_DIGITS, tmp_path) < 0.95


@pytest.mark.slow
def test_a_thousand_mutations_trace_or_name_what_is_wrong(small, tmp_path):
  assert 0.05 < run(range(100, 1100), NAMES, tmp_path) < 0.95
