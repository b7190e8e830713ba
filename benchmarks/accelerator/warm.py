"""Fills the compile caches: every program of the other parts is compiled at once, each in a process of its own.

Compiling is most of a short lease, and it keeps one or two cores busy while the others wait: so all programs are
compiled beside each other, and the parts that measure find them in the caches of XLA and torch.compile. Nothing is
timed here but the compiling.
"""

import functools
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.accelerator import part, sizes, speed
from benchmarks.accelerator.peers import Peer

OURS = "import sys; from benchmarks.accelerator import speed; speed.compile_only(sys.argv[1], sys.argv[2] == 'tiny')"
STAGES = ("train", "draw", "score")  # of the recipe (experiments/cifar10_minutes)
RECIPE = ("--count=2500", "--chosen_on=2500", "--scored=2500", "--guidance=0.25")
POLL = 0.2  # seconds


class Process:
  """A command that compiles; a session of its own, so that all that it started can be ended."""

  def __init__(self, command: list[str], log: Path):
    """Starts it; what it says goes into `log`."""
    self._process = subprocess.Popen(
      command, stdout=log.open("w"), stderr=subprocess.STDOUT, start_new_session=True
    )

  def ended(self) -> int | None:
    """The exit status, or None."""
    return self._process.poll()

  def end(self) -> None:
    """Ends it."""
    part.end(self._process)


class Asked:
  """A peer that compiles one thing."""

  def __init__(self, line: speed.Row, mode: str, tiny: bool, log: Path):
    """Starts it."""
    self._peer = Peer(sizes.unet(1, tiny), mode, log)
    self._peer.ask(**{**line.asked, "count": 1 if line.asked["do"] == "train" else line.asked["count"]})
    self.end = self._peer.end

  def ended(self) -> str | int | None:
    """0 when it is compiled, what went wrong, or None."""
    answer = self._peer.answer(0)
    if answer.get("error") == self._peer.LATE:
      return None
    return answer.get("error", 0)


def programs(out: Path, tiny: bool) -> dict[str, Callable[[], Process | Asked]]:
  """What starts the compiling of each program, by name."""
  found, lines = {}, speed.rows(tiny)
  size = "tiny" if tiny else "full"
  log = lambda name: out / f"warm-{''.join(c if c.isalnum() else '-' for c in name)}.log"
  for name in lines:
    found[name] = functools.partial(Process, [sys.executable, "-c", OURS, name, size], log(name))
  recipe = sizes.TINY_RECIPE if tiny else RECIPE
  for stage in STAGES:
    command = [sys.executable, "-m", "experiments.cifar10_minutes", f"--rehearse={stage}", *recipe]
    command += ["--calls=1", f"--workdir={out / 'recipe' / stage}"]
    found[f"recipe, {stage}"] = functools.partial(Process, command, log(f"recipe {stage}"))
  if importlib.util.find_spec("diffusers"):
    asked = [(name, speed.DEFAULT) for name, line in lines.items() if line.asked]
    asked += [(next(iter(lines)), speed.SEARCHED)]
    for name, mode in asked[:1] if tiny else asked:
      mode, label = "" if tiny else mode, f"{name}, {mode}"
      found[label] = functools.partial(Asked, lines[name], mode, tiny, log(label))
  return found


def main() -> None:
  """Compiles until all is done or the time is up; what was cut short is said, and compiled by the part that needs it."""
  args = part.arguments("warm", __doc__)
  results = part.Results(args.out, "warm", args.seconds)
  os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
  running = {name: start() for name, start in programs(args.out, args.tiny).items()}
  began, done = time.monotonic(), {}
  try:
    while running and results.left > speed.SPARE / 3:
      time.sleep(POLL)
      for name, process in list(running.items()):
        status = process.ended()
        if status is not None:
          done[name] = round(time.monotonic() - began, 1)
          results.add(seconds=done, **({} if status == 0 else {f"wrong: {name}": status}))
          running.pop(name).end()
    results.add(seconds=done, cut_short=list(running))
  finally:
    for process in running.values():
      process.end()


if __name__ == "__main__":
  main()
