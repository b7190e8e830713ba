"""Huge pages are asked for where they help, by a process that executes itself once and stays what it was."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from diffjax.machine import huge_pages

ROOT = Path(__file__).parents[2]
PROGRAM = """
import os, signal, sys
from diffjax.machine import huge_pages
huge_pages.asking = lambda environment: {} if "ASKED" in environment else {"ASKED": "once"}
huge_pages.ask()
ignored = signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
print(os.getpid(), os.environ["ASKED"], sys.argv[1:], sys.flags.utf8_mode, sys.flags.optimize, ignored)
sys.exit(7)
"""
YES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


@pytest.mark.parametrize(
  "pages, libc, environment, lacking",
  [
    ("always [madvise] never", "glibc 2.36", {}, YES),
    ("always [madvise] never", "glibc 3.0", {"GLIBC_TUNABLES": ""}, YES),
    (
      "always [madvise] never",
      "glibc 2.36",
      {"GLIBC_TUNABLES": "a=2"},
      {"GLIBC_TUNABLES": "a=2:glibc.malloc.hugetlb=1"},
    ),
    ("always [madvise] never", "glibc 2.36", {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}, {}),
    ("always [madvise] never", "glibc 2.36", YES, {}),
    ("always [madvise] never", "glibc 2.34", {}, {}),
    ("always [madvise] never", None, {}, {}),
    ("[always] madvise never", "glibc 2.36", {}, {}),
    ("always madvise [never]", "glibc 2.36", {}, {}),
    (None, "glibc 2.36", {}, {}),
  ],
)
def test_they_are_asked_for_where_system_and_library_know_them_and_nobody_said_otherwise(
  pages, libc, environment, lacking, tmp_path, monkeypatch
):
  if pages is not None:
    (tmp_path / "enabled").write_text(f"{pages}\n")
  monkeypatch.setattr(os, "confstr_names", {"CS_GNU_LIBC_VERSION": 2} if libc else {})
  monkeypatch.setattr(os, "confstr", {"CS_GNU_LIBC_VERSION": libc}.__getitem__)
  assert huge_pages.asking(environment, tmp_path / "enabled") == lacking


def test_the_process_keeps_its_number_arguments_options_signals_and_status(tmp_path):
  (tmp_path / "program.py").write_text(PROGRAM)
  command = [sys.executable, "-O", "-X", "utf8=1", "-m", "program", "a b", "--c=d", ""]
  environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
  shell = ["sh", "-c", 'trap "" TERM; exec "$@"', "sh", *command]
  child = subprocess.Popen(shell, env=environment, stdout=subprocess.PIPE, text=True)
  output, _ = child.communicate(timeout=60)
  assert output.strip() == f"{child.pid} once {['a b', '--c=d', '']} 1 1 True"
  assert child.returncode == 7


def test_only_main_py_itself_is_executed_again_and_not_its_main_called_in_another_process(
  monkeypatch, capsys
):
  executed = []

  def execute(path, command, environment):
    executed.append((path, environment["ASKED"]))
    raise SystemExit(0)

  monkeypatch.setattr(huge_pages, "asking", lambda environment: {"ASKED": "once"})
  monkeypatch.setattr(os, "execve", execute)
  monkeypatch.setattr(sys, "argv", ["main.py", "--help"])
  assert runpy.run_path(str(ROOT / "main.py"))["main"]() == 0
  assert not executed and "--workdir" in capsys.readouterr().out
  with pytest.raises(SystemExit):
    runpy.run_path(str(ROOT / "main.py"), run_name="__main__")
  assert executed == [(sys.executable, "once")] and not capsys.readouterr().out
