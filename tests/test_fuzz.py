"""Mutated overrides, values, config files and flags: each traces, or ends in one paragraph that names the field.

Everything but the devices: the command line or the file is read, the experiment made, and the whole training step
traced, without a compile. An accepted override is in the resolved config with its value.
"""

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
from diffjax.config import annotations, leaves, resolved
from diffjax.jobs import commandline
from diffjax.jobs.training import steps_per_call
from diffjax.models import MODELS
from diffjax.ranges import is_tuple, kinds
from diffjax.types import ConfigError

ROOT = Path(__file__).parents[1]
OF_DIGITS = [name for name in NAMES if name.startswith("digits") and name != "digits_latent"]
NUMBERS = {
  int: (-1, 0, 1, 2, 3, 5, 8, 64, 1000, 4096, 2**31, 2**32, 10**12),
  float: (-1.0, 0.0, 1e-30, 1e-3, 0.3, 0.5, 1.0, 2.0, 50.0, 1e30, float("nan"), float("inf"), -float("inf")),
  bool: (True, False),
  str: ("", "x", "None", "nan", "a=b", "raw", "runs/none", "4"),
}
JUNK = ("x", "none", "()", "[]", "1.5", "True", "(1, 'a')", "{}", "1e999", "--", "'", "(0,)", "0.5,0.5")
LARGE = 4096  # of a network; one may be as large as one likes


class Case:
  """A mutated config, from random numbers."""

  def __init__(self, number, names):
    self.rng = np.random.default_rng(number)
    self.name = self.pick(names)
    self.plain = resolved(configs.settled(config_of(self.name)))
    used = [path for path, _ in leaves(self.plain)]
    every = list(annotations())
    self.overrides = {}
    for _ in range(self.rng.integers(1, 4)):
      path = self.pick(used if self.rng.random() < 0.7 else every)
      self.overrides[path] = self.value(path)
    self.typo = self.rng.random() < 0.05
    if self.typo:
      path = self.pick(every)
      self.overrides[path[:-1] + self.pick("xyz")] = "1"

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
    if is_tuple(annotation):
      return tuple(one() for _ in range(self.rng.integers(0, 4)))
    found = one()
    return min(found, LARGE) if section.startswith("model") and isinstance(found, int) else found

  def arguments(self):
    """As a command line."""
    return [f"--config.{path}={text(value)}" for path, value in self.overrides.items()]

  def file(self, fields):
    """A config file that sets these fields."""
    lines = [f"  c.{path} = {value!r}" for path, value in fields.items()]
    head = ["from math import inf, nan", f"from configs import {self.name} as one", "def get_config():"]
    return "\n".join([*head, "  c = one.get_config()", '  c.model.name = "small"', *lines, "  return c", ""])


def text(value):
  return repr(value) if isinstance(value, tuple) else str(value)


def config_of(name):
  config = configs_module(name).get_config()
  config.model.name = "small"
  return config


def configs_module(name):
  return __import__(f"configs.{name}", fromlist=[name])


def parsed(argv):
  """The config of a command line."""
  with command.line(*argv) as given:
    return commandline.parse(given)[1][0]


def found(place, wants):
  """A run that is not trained, where its name is that of a config."""
  if Path(place).name not in NAMES:
    raise ConfigError(f"{place!r} is no run.")
  return find(place, wants)


def traced(config):
  """The experiment of a config and its step, as shapes."""
  config = configs.settled(config)
  # TFDS takes seconds to import.
  fields = FIELDS["tfds"] if config.data.source == "tfds" else experiment.source(config, "train").fields
  made = experiment.create(config, fields, found)
  steps_per_call(config, "cpu", 0)
  _, run, params, batch = taken(made, config.train.batch_size, fields)
  jax.eval_shape(run, params, batch)
  return config


def attempt(case, tmp_path):
  """What is said of a case, "" where it traces; raises what is a fault."""
  by_file = case.rng.random() < 0.3 and not case.typo
  place = tmp_path / "mutated.py"
  place.write_text(case.file(case.overrides if by_file else {}))
  argv = [f"--config={place}", f"--workdir={tmp_path / 'run'}", *([] if by_file else case.arguments())]
  try:
    config = traced(parsed(argv))
  except ConfigError as error:
    said = str(error)
    assert "\n" not in said and len(said) < 1200, said
    assert re.search(r"config\.\w+|--\w+", said), f"no field is named: {said}"
    return said
  if not by_file:
    used = dict(leaves(resolved(config)))
    for path, value in case.overrides.items():
      assert path in used, f"config.{path} has no effect"
      assert value not in NUMBERS[int] or used[path] == value, f"config.{path} is {used[path]!r}"
  return ""


def run(numbers, names, tmp_path):
  accepted, faults = 0, []
  for number in numbers:
    case = Case(number, names)
    try:
      accepted += not attempt(case, tmp_path)
    except Exception as error:
      where = traceback.extract_tb(error.__traceback__)[-1]
      said = f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"
      faults.append(f"{number} {case.name} {case.overrides}: {said}"[:900])
  assert not faults, f"{len(faults)} of {len(numbers)}\n" + "\n".join(faults)
  return accepted / len(numbers)


@pytest.fixture
def small(monkeypatch):
  monkeypatch.setitem(MODELS, "small", Small)
  monkeypatch.chdir(ROOT)


def test_a_hundred_mutations_trace_or_name_the_field(small, tmp_path):
  assert 0.05 < run(range(100), OF_DIGITS, tmp_path) < 0.95


@pytest.mark.slow
def test_a_thousand_mutations_trace_or_name_the_field(small, tmp_path):
  assert 0.05 < run(range(100, 1100), NAMES, tmp_path) < 0.95
