"""SIGTERM and Ctrl-C, heard at once.

Python's handlers run in the main thread between two of its instructions: while XLA compiles, nothing is heard for
half a minute. So a thread listens too, at the pipe to which Python writes the number of every signal when it comes.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

NUMBERS = (signal.SIGINT, signal.SIGTERM)
GRACE = 5.0  # seconds to tidy up


@contextlib.contextmanager
def _listening(main: Callable[[int], None], aside: Callable[[int], None]) -> Iterator[None]:
  """A block in which a signal calls `aside` in a thread, at once, and `main` in the main thread when it can.

  What the process was started to ignore (nohup, the child of `processes.watched`) is still ignored.
  """
  if threading.current_thread() is not threading.main_thread():  # which alone may listen
    yield
    return
  numbers = [number for number in NUMBERS if signal.getsignal(number) is not signal.SIG_IGN]
  reading, writing = os.pipe()
  os.set_blocking(writing, False)

  def listen():
    with open(reading, "rb", buffering=0) as pipe:
      while byte := pipe.read(1):
        if byte[0] in numbers:
          aside(byte[0])

  threading.Thread(target=listen, daemon=True).start()
  before = {number: signal.signal(number, lambda number, _: main(number)) for number in numbers}
  pipe_before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
  try:
    yield
  finally:
    signal.set_wakeup_fd(pipe_before)
    for number, handler in before.items():
      signal.signal(number, handler or signal.SIG_DFL)
    os.close(writing)


def _hard(number: int) -> None:
  """Ends the process with the status that shells give a signal."""
  os._exit(128 + number)


def _say(text: str) -> None:
  print(f"\n{text}", file=sys.stderr, flush=True)


class _First:
  """Does something the first time that either of two threads asks for it."""

  def __init__(self, do: Callable[[int], None]):
    self._do, self._lock, self._done = do, threading.Lock(), False

  def __call__(self, number: int) -> None:
    with self._lock:
      if not self._done:
        self._done = True
        self._do(number)


@contextlib.contextmanager
def ending() -> Iterator[None]:
  """A block that a signal ends with one line; SystemExit, so that what it opened is closed.

  A second signal ends the process hard, as GRACE seconds do where the main thread does not come back.
  """
  end, came = threading.Event(), []

  def first(number):
    name = signal.Signals(number).name
    _say(f"{name}: ending. What is saved stays, and the same command goes on from there.")
    threading.Thread(target=lambda: end.wait(GRACE) or _hard(number), daemon=True).start()

  answer = _First(first)

  def aside(number):
    came.append(number)
    if len(came) > 1:
      _hard(number)
    answer(number)

  def main(number):
    answer(number)
    raise SystemExit(128 + number)

  try:
    with _listening(main, aside):
      yield
  finally:
    end.set()


@contextlib.contextmanager
def asking() -> Iterator[Callable[[], str | None]]:
  """A block in which the first signal is only a request: its name, from then on. A second ends the process hard."""
  names, came = [], []

  def first(number):
    names.append(signal.Signals(number).name)
    _say(f"{names[0]}: saving after this step; a second one ends the run without.")

  answer = _First(first)

  def aside(number):
    came.append(number)
    if len(came) > 1:
      _say(f"{signal.Signals(number).name} again: ending without saving.")
      _hard(number)
    answer(number)

  with _listening(answer, aside):
    yield lambda: names[0] if names else None
