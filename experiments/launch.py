r"""Runs a sweep: here, on Slurm, or on a Cloud TPU.

    python -m experiments.launch objectives --on=local
    python -m experiments.launch objectives --on=local --workers=4 --gpus=2
    python -m experiments.launch ddpm_ablation --on=slurm --partition=gpu --gpus=8 --cpus=32 --time=24:00:00
    python -m experiments.launch ddpm_ablation --on=tpu --workdir=gs://BUCKET/sweeps --dry_run \
      --tpu_name=ablation --tpu_zone=us-central2-b \
      --tpu_type=v4-32 --tpu_runtime=tpu-ubuntu2204-base --tpu_workers=4 \
      --env=TFDS_DATA_DIR=/mnt/diffjax/tfds

Everything is checked before anything starts. The same command goes on where the last one stopped: finished
runs are left alone, broken ones are resumed. --dry_run shows what would run.

Exit status: 0 all finished (Slurm: submitted); 1 a run failed; 2 a mistake in the arguments; 130 stopped.
"""

import argparse
import os
import re
import shlex
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from diffjax.config import resolved
from diffjax.jobs import workdir as workdirs
from diffjax.types import ConfigError, RunError
from experiments.tools import board, jobs, pool, slurm, sweeps, tpu


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    "python -m experiments.launch",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  parser.add_argument("name", help="a sweep of experiments/, or the path of a sweep's folder")
  parser.add_argument("--on", choices=("local", "slurm", "tpu"), required=True, help="where it runs")
  parser.add_argument("--workdir", default="runs/sweeps", help="runs lie in WORKDIR/SWEEP/RUN (%(default)s)")
  parser.add_argument(
    "--workers", type=_positive, help="runs at a time (local: 1, slurm: as many as it lets)"
  )
  parser.add_argument("--dry_run", action="store_true", help="show what would run")
  parser.add_argument("--gpus", type=_natural, default=0, help="of a run; local: 0 leaves them as they are")
  parser.add_argument(
    "--env",
    type=_variable,
    action="append",
    default=[],
    metavar="NAME=VALUE",
    help="an environment variable of every run; may be given several times",
  )
  slurm.add_flags(parser.add_argument_group("slurm"))
  tpu.add_flags(parser.add_argument_group("tpu"))
  return parser


def _natural(text: str) -> int:
  if int(text) < 0:
    raise argparse.ArgumentTypeError(f"{text} is negative")
  return int(text)


def _positive(text: str) -> int:
  if int(text) < 1:
    raise argparse.ArgumentTypeError(f"{text} is not positive")
  return int(text)


def _variable(text: str) -> tuple[str, str]:
  name, equals, value = text.partition("=")
  if not equals or not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):
    raise argparse.ArgumentTypeError(f"{text} is no NAME=VALUE")
  return name, value


def main(argv: Sequence[str] | None = None, program: Sequence[str] = jobs.PROGRAM) -> int:
  """Runs the command line; returns the exit status.

  Args:
    argv: the arguments, by default the process's.
    program: what runs main.py on this machine.
  """
  args = _parser().parse_args(argv)
  try:
    sweep = sweeps.load(args.name)
    configs = sweeps.check(sweep)
    return {"local": _local, "slurm": _slurm, "tpu": _tpu}[args.on](args, sweep, configs, program)
  except (ConfigError, RunError) as error:
    text = textwrap.fill(f"error: {error}", 110, break_long_words=False, break_on_hyphens=False)
    print(f"\n{text}", file=sys.stderr)
    return 2 if isinstance(error, ConfigError) else 1


def _here(args, sweep, configs, program) -> tuple[list[jobs.Job], int]:
  """The jobs of a workdir on this machine that are not finished, and the number of all.

  Raises:
    ConfigError: a workdir holds the run of another config.
  """
  folder = f"{args.workdir}/{Path(args.name).name}"
  every = jobs.of(sweep, configs, folder, program)
  for job in every:
    if workdirs.has_run(Path(job.folder)):
      workdirs.require_same(Path(job.folder), job.config, resolved(job.config))
  rest = [job for job in every if not job.finished]
  print(f"{Path(args.name).name}: {len(every)} runs, {len(every) - len(rest)} finished before, in {folder}")
  return rest, len(every)


def _local(args, sweep, configs, program) -> int:
  todo, _ = _here(args, sweep, configs, program)
  if args.dry_run:
    print(*(f"{line}\n" for line in jobs.exports(args.env)), sep="", end="")
    for job in todo:
      modes = [mode for mode in job.commands if not job.done(mode)]
      print(*(shlex.join(job.commands[mode]) for mode in modes), sep="\n")
    return 0
  screen = board.Board(sys.stdout)
  tasks = pool.run(todo, args.workers or 1, screen, lambda slot: dict(args.env) | _devices(slot, args.gpus))
  if tasks:
    screen.close(tasks)
  if failed := board.failures(tasks, jobs.tail):
    print(failed, file=sys.stderr)
  if any(task.state in ("stopped", "not started") for task in tasks) and not failed:
    print("stopped; the same command goes on from here", file=sys.stderr)
    return 130
  return 1 if failed else 0


def _devices(slot: int, gpus: int) -> dict[str, str]:
  """The GPUs of a worker."""
  if not gpus:
    return {}
  visible = os.environ.get("CUDA_VISIBLE_DEVICES")
  names = visible.split(",") if visible else [str(k) for k in range((slot + 1) * gpus)]
  mine = names[slot * gpus : (slot + 1) * gpus]
  if len(mine) < gpus:
    raise ConfigError(
      f"worker {slot} needs {gpus} GPUs, and CUDA_VISIBLE_DEVICES is {visible}; lower --workers."
    )
  return {"CUDA_VISIBLE_DEVICES": ",".join(mine)}


def _slurm(args, sweep, configs, program) -> int:
  todo, _ = _here(args, sweep, configs, program)
  return slurm.launch(todo, f"{args.workdir}/{Path(args.name).name}", args)


def _tpu(args, sweep, configs, program) -> int:
  return tpu.launch(sweep, configs, Path(args.name).name, args)


if __name__ == "__main__":
  sys.exit(main())
