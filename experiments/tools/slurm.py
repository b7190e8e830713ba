"""A sweep on Slurm, through submitit: an array of jobs, requeued when it is preempted or out of time.

    <workdir>/<sweep>/slurm/          submitit's files: scripts, pickles, the jobs' output
    <workdir>/<sweep>/slurm/jobs.json run -> job id, so that what is queued is not submitted again

A job runs main.py's commands. On SIGTERM (a preemption) or SIGUSR2 (submitit's, 90 seconds before the time
is up) it lets main.py save and puts itself into the queue again; there main.py goes on from its checkpoint.
"""

import dataclasses
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffjax.machine import atomic
from diffjax.types import ConfigError, RunError
from experiments.tools import jobs
from experiments.tools.jobs import Job

POLL = 0.5  # seconds
PATIENCE = 80  # seconds that main.py has for saving


def add_flags(group: Any) -> None:
  """The flags of --on=slurm."""
  group.add_argument("--partition", help="the cluster's default if left out")
  group.add_argument("--account", help="who pays")
  group.add_argument("--time", default="24:00:00", help="[DAYS-]HOURS:MINUTES:SECONDS of a job (%(default)s)")
  group.add_argument("--cpus", type=int, default=4, help="of a run, on each node (%(default)s)")
  group.add_argument("--memory", help="of a run, on each node, such as 32G")
  group.add_argument("--nodes", type=int, default=1, help="of a run; --gpus is on each (%(default)s)")
  group.add_argument("--timeouts", type=int, default=100, help="how often time may run out (%(default)s)")


def minutes(text: str) -> int:
  """Slurm's [DAYS-]HOURS:MINUTES:SECONDS, or minutes alone, in whole minutes, rounded up.

  Raises:
    ConfigError: the text is neither.
  """
  if text.isdigit() and int(text):
    return int(text)
  match = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", text)
  days, hours, mins, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0, 0)
  total = (days * 24 + hours) * 60 + mins + (seconds > 0)
  if not total:
    raise ConfigError(f"--time={text} is no time; give [DAYS-]HOURS:MINUTES:SECONDS, such as 24:00:00.")
  return total


@dataclasses.dataclass
class Work:
  """What a Slurm job does: the commands of a run, with their modes."""

  name: str
  commands: tuple[tuple[str, tuple[str, ...]], ...]

  def __call__(self) -> str:
    """Runs the commands.

    Raises:
      RunError: a command failed.
    """
    signals, requeue = [], signal.getsignal(signal.SIGUSR2)
    for number in (signal.SIGTERM, signal.SIGUSR2):
      signal.signal(number, lambda number, frame: signals.append(number))
    for mode, command in self.commands:
      status = self._run(command, signals)
      if signals:
        requeue(signal.SIGUSR2, None)  # submitit's: calls checkpoint, requeues, ends the process
        return f"{self.name} is stopped"  # what submitit leaves to the first of several tasks
      if status:
        raise RunError(f"{self.name}: {mode} ended with status {status}: {shlex.join(command)}")
    return f"{self.name} is finished"

  def _run(self, command: Sequence[str], signals: list[int]) -> int:
    """A command's exit status. A signal that was heard is handed on as SIGINT: Slurm itself may have sent
    main.py a SIGTERM, and it does not save when it hears that twice."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_deaf_to_submitit)
    since = None
    while child.poll() is None:
      if signals and since is None:
        since = time.monotonic()
        child.send_signal(signal.SIGINT)
      if since is not None and time.monotonic() - since > PATIENCE:
        child.kill()
      time.sleep(POLL)
    return child.returncode

  def checkpoint(self) -> Any:
    """What submitit puts into the queue again."""
    import submitit

    return submitit.helpers.DelayedSubmission(self)


def _deaf_to_submitit() -> None:
  """Slurm sends a signal to a job's every process, and an unheard SIGUSR2 would end main.py unsaved."""
  signal.signal(signal.SIGUSR2, signal.SIG_IGN)
  signal.signal(signal.SIGINT, signal.SIG_DFL)


def launch(todo: Sequence[Job], folder: str, args: Any) -> int:
  """Submits what is neither finished nor in the queue; returns at once.

  Raises:
    ConfigError: submitit or Slurm is missing, or a flag cannot be right.
    RunError: Slurm refuses a job.
  """
  limit = minutes(args.time)
  if args.dry_run:
    print(*(f"{line}\n" for line in jobs.exports(args.env)), sep="", end="")
    for job in todo:
      print(f"{job.name}: " + " && ".join(shlex.join(command) for command in job.commands.values()))
    return 0
  submitit, place = _submitit(), Path(folder).absolute() / "slurm"
  from submitit.core.utils import FailedSubmissionError

  before = _recorded(place)
  queued = _queued(before)
  fresh = [job for job in todo if job.name not in queued]
  for job in fresh:
    jobs.prepare(job)
  executor = submitit.SlurmExecutor(place, max_num_timeout=args.timeouts)
  executor.update_parameters(**_parameters(args, limit, place.parent.name))
  ids = dict(before)
  try:
    first, rest = [job for job in fresh if not job.after], [job for job in fresh if job.after]
    ids |= _submit(executor, first)
    atomic.write_json(place / "jobs.json", ids)
    waits = {ids[job.after] for job in rest if job.after in {job.name for job in first} | queued}
    if waits:
      executor.update_parameters(dependency="afterok:" + ":".join(sorted(waits)))
    ids |= _submit(executor, rest)
    atomic.write_json(place / "jobs.json", ids)
  except FailedSubmissionError as error:
    raise RunError(f"Slurm refuses the jobs: {error}") from None
  for job in todo:
    print(f"{job.name}: {'queued before' if job.name in queued else 'submitted'} as job {ids[job.name]}")
  return 0


def _submitit() -> Any:
  try:
    import submitit
  except ImportError:
    raise ConfigError("--on=slurm needs submitit, which is not installed: pip install -e .[slurm]") from None
  if not shutil.which("sbatch"):
    raise ConfigError(
      "--on=slurm needs Slurm, and there is no sbatch on this machine; run it on a login node."
    )
  return submitit


def _parameters(args: Any, limit: int, name: str) -> dict[str, Any]:
  """submitit's parameters."""
  values = {
    "job_name": f"diffjax-{name}",
    "time": limit,
    "nodes": args.nodes,
    "ntasks_per_node": 1,
    "cpus_per_task": args.cpus,
    "gpus_per_node": args.gpus or None,
    "partition": args.partition,
    "account": args.account,
    "mem": args.memory,
    "stderr_to_stdout": True,
    "array_parallelism": args.workers,
    "setup": jobs.exports(args.env) or None,
  }
  # What waits for a job that fails is cancelled: it would stay in the queue for ever, and count as queued.
  more = {"additional_parameters": {"requeue": True, "kill-on-invalid-dep": "yes"}}
  return {name: value for name, value in values.items() if value is not None} | more


def _submit(executor: Any, todo: Sequence[Job]) -> dict[str, str]:
  """Run -> job id; one array."""
  if not todo:
    return {}
  works = [
    Work(job.name, tuple((mode, command) for mode, command in job.commands.items() if not job.done(mode)))
    for job in todo
  ]
  with executor.batch():
    submitted = [executor.submit(work) for work in works]
  return {job.name: one.job_id for job, one in zip(todo, submitted, strict=True)}


def _recorded(place: Path) -> dict[str, str]:
  try:
    return json.loads((place / "jobs.json").read_text())
  except FileNotFoundError:
    return {}


def _queued(ids: dict[str, str]) -> set[str]:
  """The runs whose jobs Slurm still holds.

  Raises:
    RunError: Slurm does not answer: a job submitted twice would ruin the run.
  """
  if not ids:
    return set()
  command = ["squeue", "--noheader", "--array", "--format=%i", f"--user={os.getuid()}"]
  answer = subprocess.run(command, capture_output=True, text=True)
  if answer.returncode:
    raise RunError(f"squeue fails: {answer.stderr.strip()}")
  there = set(answer.stdout.split())
  return {name for name, job_id in ids.items() if job_id in there}
