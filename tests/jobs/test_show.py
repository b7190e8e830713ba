"""--show prints every field that a task has, and of every choice all entries with their options."""

import re
import subprocess
import sys
from pathlib import Path

import command
import pytest

from diffjax import config as configs
from diffjax.choices import CHOICES
from diffjax.config import annotations, leaves, resolved
from diffjax.jobs import commandline, show
from diffjax.sections import SECTIONS
from diffjax.tasks import TASKS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("task", TASKS)
def test_every_field_entry_and_option_is_shown(task):
  config = configs.base()
  config.task.name = task
  text = "\n".join(show.lines(config))
  shown = dict(re.findall(r"config\.(\S+) = (.*?)(?:    \(.*\))?$", text, flags=re.M))
  assert shown.keys() <= annotations().keys()
  for path, value in leaves(resolved(configs.settled(config))):
    assert shown[path] == repr(value)
  for choice in CHOICES:
    for entry in choice.entries if choice.belongs(config) else ():
      star = r"\*" if entry in choice.names(config) else " "
      assert re.search(rf"^    {star} {entry}$", text, flags=re.M)
      assert all(f"{choice.section}.{entry}.{option}" in shown for option in choice.options(entry))
  hidden = {c.field for c in CHOICES if not c.belongs(config)}
  assert not [path for path in shown if path.count(".") == 1 and path.split(".")[1] in hidden - {"name"}]


def test_types_and_ranges_are_shown(capsys):
  show.show(configs.base(), "sample")
  lines = capsys.readouterr().out.splitlines()
  assert "  config.train.steps = 10000    (int, at least 1)" in lines
  assert (
    "        config.train.ramp.rates = (0.9999,)    (tuple of float, at least 0 and less than 1)" in lines
  )
  assert "        config.sample.ancestral.var_frac = None    (float or None, between 0 and 1)" in lines
  assert (
    "        config.sample.adaptive_ode.solver = 'dopri5'    (str, one of dopri5, tsit5, bosh3, dopri8)"
    in lines
  )


def test_the_help_names_every_section():
  message = show.sections()
  assert all(
    re.search(rf"^  {name or '.no section.'} +{section.__doc__}$", message, re.M)
    for name, section in SECTIONS.items()
  )


def test_what_training_would_refuse_is_shown_with_its_reason(monkeypatch, capsys, tmp_path):
  monkeypatch.chdir(ROOT)
  arguments = ("--config=configs/digits.py", "--config.train.steps=7", "--show")
  wrong = ("--config.objective.predict=flow", f"--workdir={tmp_path / 'new'}")
  for more, refused in (((), False), (wrong, True), ((*wrong, "--mode=sample"), False)):
    assert commandline.run({"show": show.show}, command.line(*arguments, *more), "") == 0
    output = capsys.readouterr()
    assert "  config.train.steps = 7    (int, at least 1)" in output.out
    reason = "warning: training refuses this config: config.objective.predict is 'flow', which"
    assert output.err.startswith(reason) and output.err.count("\n") == 1 if refused else not output.err
  assert not [*tmp_path.iterdir()]


def test_the_command_ends_quietly_when_its_reader_has_seen_enough():
  command = [sys.executable, "main.py", "--config=configs/digits.py", "--show"]
  pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
  started = subprocess.Popen(command, cwd=ROOT, **pipes)
  started.stdout.close()
  _, output = started.communicate()
  assert started.returncode == 0 and "error" not in output and "Broken" not in output


def test_help_ends_with_the_sections():
  command = [sys.executable, "main.py", "--help"]
  process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
  assert process.stdout.rstrip().endswith(show.sections().rstrip()) and "--workdir" in process.stdout
