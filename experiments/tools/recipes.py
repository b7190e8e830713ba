"""A recipe from a paper behind one command: trained for as long as it is given, judged, and told of.

    RECIPE = Recipe(
      "configs/cifar10_ddpm.py",
      judged={"ddim_100": {"sample.sampler": "ddim", "sample.steps": 100, ...}, "ancestral_1000": {}},
      published={"Ho et al. 2020": ((102.4e6, 3.17),)},
    )

    python -m experiments.cifar10_ddpm --minutes=480                     # trains, saves, samples, judges, tells
    python -m experiments.cifar10_ddpm --minutes=480                     # goes on from there
    python -m experiments.cifar10_ddpm --minutes=0 --judge=ancestral_1000

A folder of experiments/ with a RECIPE and a __main__.py that calls `main` is such a command. In the workdir:

    trained/             the run, as main.py writes it
    ddim_100/eval/<step>/    metrics.json and a grid of samples, for every way of sampling
    table.md, curve.csv, curve.png      FID against images seen (curve.py)
"""

import argparse
import ast
import contextlib
import copy
import dataclasses
import re
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffjax.config import require_field, resolved
from diffjax.jobs import config_file
from diffjax.jobs import workdir as workdirs
from diffjax.metrics import inception_weights
from diffjax.types import ConfigError
from experiments.tools import board, curve, jobs, pool, sweeps
from experiments.tools.jobs import Job
from experiments.tools.sweeps import Run, Sweep

OVERRIDE = re.compile(r"--config\.([\w.]+)=(.*)", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Recipe:
  """What is trained, how it is judged, and what others got.

  Attributes:
    base: the config's file.
    judged: ways of sampling: name -> overrides of sample. and eval.; the first is the usual one.
    published: whose -> points (images seen, FID).
  """

  base: str
  judged: Mapping[str, Mapping[str, Any]]
  published: Mapping[str, Sequence[tuple[float, float]]] = dataclasses.field(default_factory=dict)

  def sweep(self, overrides: Mapping[str, Any]) -> Sweep:
    """One trained run that the ways of sampling borrow, with these overrides in all of them."""
    runs = tuple(Run(name, changes) for name, changes in self.judged.items())
    return Sweep(self.base, runs, shared=overrides, trained={})


def overrides_of(recipe: Recipe, arguments: Sequence[str]) -> dict[str, Any]:
  """Config path -> value of arguments such as --config.train.batch_size=64.

  Raises:
    ConfigError: an argument that is none, or a field that does not exist or is the recipe's to set.
  """
  config, overrides = config_file.load(recipe.base), {}
  own = {path for changes in recipe.judged.values() for path in changes} | {"eval.checkpoints"}
  for argument in arguments:
    match = OVERRIDE.fullmatch(argument)
    if not match:
      raise ConfigError(f"{argument!r} is no flag, and no --config.FIELD=VALUE; see --help.")
    path, text = match.groups()
    require_field(config, path)
    if path in own:
      raise ConfigError(f"config.{path} is what the ways of sampling set themselves; leave it out.")
    overrides[path] = _value(config, path, text)
  return overrides


def _value(config, path: str, text: str) -> Any:
  *sections, field = path.split(".")
  for name in sections:
    config = config[name]
  if config.get_type(field) is str:
    return text
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return text  # refused with the field's type


def steps_to_judge(job: Job) -> list[int]:
  """The steps of a run's checkpoints that are kept for good, and the last one."""
  names = [place.name for place in (Path(job.folder) / "checkpoints").glob("*")]
  steps, every = sorted(int(name) for name in names if name.isdigit()), job.config.checkpoint.keep_every
  return [step for step in steps[:-1] if every and step % every == 0] + steps[-1:]


def judging(job: Job, steps: Sequence[int]) -> Job | None:
  """A way of sampling as the job that judges what is left of these steps; None where nothing is."""

  def asking(*checkpoints):
    config = copy.deepcopy(job.config)
    config.train.steps = max(steps)  # as far as the training has come
    config.eval.checkpoints = ",".join(map(str, checkpoints))
    return config

  rest = [step for step in steps if not jobs.evaluated(Path(job.folder), asking(step))]
  if not rest:
    return None
  config = asking(*rest)
  command = (*job.commands["eval"], jobs.flag("eval.checkpoints", config.eval.checkpoints))
  return dataclasses.replace(job, commands={"eval": command}, config=config)


def _run(todo: Sequence[Job], until: float) -> int:
  """Runs jobs one after the other, and says what became of them; an exit status."""
  screen = board.Board(sys.stdout)
  tasks = pool.run(todo, 1, screen, until=until)
  if tasks:
    screen.close(tasks)
  if failed := board.failures(tasks, jobs.tail):
    print(failed, file=sys.stderr)
    return 1
  in_time = time.monotonic() < until
  return 130 if in_time and any(task.state != "finished" for task in tasks) else 0


def main(recipe: Recipe, name: str, argv: Sequence[str] | None = None, program=jobs.PROGRAM) -> int:
  """Runs the command line; returns the exit status, as experiments.launch does.

  Args:
    recipe: what is run.
    name: of its folder in experiments/.
    argv: the arguments, by default the process's.
    program: what runs main.py on this machine.
  """
  args, rest = _parser(recipe, name).parse_known_args(argv)
  try:
    names = [one for one in args.judge.split(",") if one]
    if unknown := [one for one in names if one not in recipe.judged]:
      raise ConfigError(f"--judge={args.judge} names {unknown[0]!r}; there are {', '.join(recipe.judged)}.")
    sweep = recipe.sweep(overrides_of(recipe, rest))
    trained, *ways = jobs.of(sweep, sweeps.check(sweep), args.workdir, program)
    if workdirs.has_run(Path(trained.folder)):
      workdirs.require_same(Path(trained.folder), trained.config, resolved(trained.config))
    if names and "inception" in trained.config.eval.metrics:  # not found out after hours of training
      inception_weights.read(inception_weights.locate(trained.config.eval.inception.weights_file or None)[0])
    return _stages(recipe, args, trained, ways, names)
  except ConfigError as error:
    text = textwrap.fill(f"error: {error}", 110, break_long_words=False, break_on_hyphens=False)
    print(f"\n{text}", file=sys.stderr)
    return 2


def _stages(recipe: Recipe, args, trained: Job, ways: Sequence[Job], names: Sequence[str]) -> int:
  if args.minutes > 0 and not trained.done("train"):
    if status := _run([trained], time.monotonic() + 60 * args.minutes):
      return status
  steps = steps_to_judge(trained)
  if not steps:
    raise ConfigError(f"--workdir={args.workdir} holds no checkpoint yet; give it --minutes to train.")
  todo = [judging(job, steps) for job in ways if job.name in names]
  if status := _run([job for job in todo if job], float("inf")):
    return status
  print(curve.write(Path(args.workdir), trained, ways, recipe.published))
  return 0


def _parser(recipe: Recipe, name: str) -> argparse.ArgumentParser:
  usual = next(iter(recipe.judged))
  parser = argparse.ArgumentParser(
    f"python -m experiments.{name}",
    description=f"Trains {recipe.base} for a while, or goes on with it, judges what is there and writes the page.",
    epilog="Fields of the config follow as in main.py: --config.train.batch_size=64. Ctrl-C saves, and ends.",
    allow_abbrev=False,
  )
  parser.add_argument("--workdir", default=f"runs/{name}", help="(%(default)s)")
  parser.add_argument(
    "--minutes", type=_not_negative, default=float("inf"), help="of training (until it is finished)"
  )
  names = ", ".join(recipe.judged)
  parser.add_argument(
    "--judge", default=usual, help=f"some of {names}, with commas; empty for none (%(default)s)"
  )
  return parser


def _not_negative(text: str) -> float:
  with contextlib.suppress(ValueError):
    if float(text) >= 0:
      return float(text)
  raise argparse.ArgumentTypeError(f"{text} is not a number of minutes from 0 on")
