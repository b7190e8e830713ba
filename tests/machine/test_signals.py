"""SIGTERM and Ctrl-C are answered at once, also while the main thread is deaf to them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from diffjax.machine import signals

ROOT = Path(__file__).parents[2]
# OpenSSL's loop lets other threads run and hears no signal, as XLA's compiler.
PROGRAM = """
import hashlib, signal, threading, time
from diffjax.machine import signals
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start what they put aside with it ignored
signals.GRACE = 0.2 if {deaf} else 60
with signals.{block}():
  try:
    threading.Timer(0.5 * {deaf}, lambda: print("ready", flush=True)).start()  # when the loop has begun
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9) if {deaf} else time.sleep(60)
  finally:
    print("tidied up", flush=True)
"""


def started(block, deaf):
  command = [sys.executable, "-c", PROGRAM.format(block=block, deaf=deaf)]
  child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
  assert child.stdout.readline() == "ready\n"
  return child


@pytest.mark.parametrize("number, deaf", [(signal.SIGTERM, True), (signal.SIGINT, False)])
def test_a_process_with_nothing_to_save_ends_with_one_line(number, deaf):
  child = started("ending", deaf)
  child.send_signal(number)
  output, errors = child.communicate(timeout=30)
  assert child.returncode == 128 + number
  assert (
    errors.strip().startswith(f"{signal.Signals(number).name}: ending.") and len(errors.splitlines()) == 2
  )
  assert output == ("" if deaf else "tidied up\n")


def test_a_request_is_confirmed_at_once_and_the_second_is_an_order():
  child = started("asking", True)
  child.send_signal(signal.SIGINT)
  assert child.stderr.readline() == "\n"
  assert child.stderr.readline().startswith("SIGINT: saving after this step; a second one")
  child.send_signal(signal.SIGTERM)
  output, errors = child.communicate(timeout=30)
  assert child.returncode == 128 + signal.SIGTERM and output == ""
  assert "SIGTERM again: ending without saving." in errors and "Traceback" not in errors


def test_a_request_is_known_when_the_signal_is_sent_and_handlers_come_back(capsys):
  signal.signal(signal.SIGINT, signal.default_int_handler)
  before = [signal.getsignal(number) for number in signals.NUMBERS]
  with pytest.raises(SystemExit) as stopped, signals.ending():
    with signals.asking() as heard:
      assert heard() is None
      os.kill(os.getpid(), signal.SIGTERM)
      assert heard() == "SIGTERM"
    os.kill(os.getpid(), signal.SIGINT)
    raise AssertionError
  assert stopped.value.code == 128 + signal.SIGINT
  assert [signal.getsignal(number) for number in signals.NUMBERS] == before
  output = capsys.readouterr().err
  assert output.count("SIGTERM: saving") == output.count("SIGINT: ending") == 1


def test_what_a_process_was_started_to_ignore_stays_ignored():
  before = signal.signal(signal.SIGINT, signal.SIG_IGN)
  try:
    with signals.ending():
      os.kill(os.getpid(), signal.SIGINT)
  finally:
    signal.signal(signal.SIGINT, before)
