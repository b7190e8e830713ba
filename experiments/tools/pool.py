"""A pool of workers on this machine: every job's commands one after the other, several jobs at a time.

A job that fails stops no other. The first Ctrl-C or SIGTERM is handed on to every command, which saves and
ends; a second one kills them. Commands run in sessions of their own, so that a terminal's Ctrl-C reaches them
through here alone: a main.py that hears it twice would not save.
"""

import contextlib
import dataclasses
import math
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from experiments.tools import progress
from experiments.tools.jobs import OUTPUT, Job, prepare

STATES = {"train": "training", "eval": "evaluating"}
ENDED = ("finished", "failed", "stopped", "not started")
POLL = 0.1  # seconds
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclasses.dataclass
class Task:
  """A job in the pool.

  Attributes:
    job: the job.
    state: "waiting", one of STATES, or one of ENDED.
    slot: the worker that has it.
    process: the command that runs.
    modes: those that are still to run, the running one first.
    since: the length of the log when the command began.
    why: of a failure, in words.
  """

  job: Job
  state: str = "waiting"
  slot: int = -1
  process: subprocess.Popen | None = None
  modes: list[str] = dataclasses.field(default_factory=list)
  since: int = 0
  why: str = ""

  @property
  def active(self) -> bool:
    """Whether a command of it runs."""
    return self.process is not None


def run(
  jobs: Sequence[Job],
  workers: int,
  show: Callable[[Sequence[Task]], None] = lambda tasks: None,
  environment: Callable[[int], Mapping[str, str]] = lambda slot: {},
  until: float = math.inf,
) -> list[Task]:
  """Runs all jobs to their end, or until a signal or a time.

  Args:
    jobs: those that others wait for before them.
    workers: how many run at a time.
    show: called several times a second.
    environment: a worker's number -> variables of its commands.
    until: of time.monotonic(), at which all are asked to save and end as by a signal.
  """
  tasks = [Task(job) for job in jobs]
  with _listening() as signals:
    handed_on = 0
    try:
      while not all(task.state in ENDED for task in tasks):
        if not signals and time.monotonic() >= until:
          signals.append(signal.SIGTERM)
        if len(signals) > handed_on:
          _stop(tasks, kill=handed_on > 0)
          handed_on = len(signals)
        for task in tasks:
          if task.active:
            _look(task, bool(signals), environment)
        _settle(tasks, bool(signals))
        for task in _ready(tasks, workers):
          _begin(task, tasks, environment)
        show(tasks)
        time.sleep(POLL)
    finally:
      _stop(tasks, kill=True)
  return tasks


@contextlib.contextmanager
def _listening() -> Iterator[list[int]]:
  """The list of signals that have asked for an end."""
  signals, before = [], {}
  for number in STOPS:
    before[number] = signal.signal(number, lambda number, frame: signals.append(number))
  try:
    yield signals
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


def _ready(tasks: list[Task], workers: int) -> list[Task]:
  """The tasks that can begin now."""
  finished = {task.job.name for task in tasks if task.state == "finished"} | _outside(tasks)
  ready = [task for task in tasks if task.state == "waiting" and task.job.after in ("", *finished)]
  return ready[: workers - sum(task.active for task in tasks)]


def _outside(tasks: list[Task]) -> set[str]:
  """Jobs that others wait for and that are no task here: they were finished before."""
  return {task.job.after for task in tasks} - {task.job.name for task in tasks}


def _settle(tasks: list[Task], stopping: bool) -> None:
  """What waits in vain does not start."""
  failures = {task.job.name for task in tasks if task.state in ("failed", "stopped", "not started")}
  for task in tasks:
    if task.state == "waiting" and (stopping or task.job.after in failures):
      task.state = "not started"
      task.why = "stopped before" if stopping else f"{task.job.after} is not finished"


def _begin(task: Task, tasks: list[Task], environment) -> None:
  """Starts a job with the first command that is still needed."""
  slots = {other.slot for other in tasks if other.active}
  task.slot = next(slot for slot in range(len(tasks)) if slot not in slots)
  task.modes = [mode for mode in task.job.commands if not task.job.done(mode)] or list(task.job.commands)[-1:]
  prepare(task.job)
  _start(task, environment)


def _start(task: Task, environment) -> None:
  mode, folder = task.modes[0], Path(task.job.folder)
  task.state, task.since = STATES[mode], progress.size(folder)
  try:
    with (folder / OUTPUT).open("ab") as output:
      task.process = subprocess.Popen(
        task.job.commands[mode],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env={**os.environ, **environment(task.slot)},
        start_new_session=True,
      )
  except OSError as error:
    task.state, task.why = "failed", str(error)


def _look(task: Task, stopping: bool, environment) -> None:
  """What has become of a command."""
  status = task.process.poll()
  if status is None:
    return
  task.process = None
  mode = task.modes.pop(0)
  if status == 0 and task.job.done(mode):
    if not task.modes:
      task.state = "finished"
    elif stopping:
      task.state = "stopped"
    else:
      _start(task, environment)
  elif stopping:
    task.state = "stopped"
  else:
    task.state = "failed"
    task.why = f"{mode} " + (
      f"was ended by {signal.Signals(-status).name}"
      if status < 0
      else f"ended with status {status}"
      if status
      else "was stopped before its end"
    )


def _stop(tasks: list[Task], kill: bool) -> None:
  """Asks every command to end, or makes it."""
  for task in tasks:
    if task.active:
      with contextlib.suppress(ProcessLookupError):
        if kill:
          os.killpg(task.process.pid, signal.SIGKILL)
          task.process.wait()
        else:
          task.process.terminate()
