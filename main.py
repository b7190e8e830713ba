"""diffjax: train a diffusion model, sample from it, evaluate it.

    python main.py --config=configs/digits.py --workdir=runs/digits
    python main.py --config=configs/digits.py --workdir=runs/v --config.objective.predict=v
    python main.py --workdir=runs/digits --mode=sample --config.sample.steps=20
    python main.py --workdir=runs/digits --mode=eval
    python main.py --config=configs/cifar10_ddpm.py --workdir=runs/others --mode=eval --images=FOLDER

Training again in a workdir goes on from its last checkpoint; sample and eval take the newest one. A config is
a file in configs/, built on diffjax/config.py; it says what differs from diffjax/sections.py, where every field
stands with its default. The resolved config is <workdir>/config.json.
"""

import sys

from diffjax.machine import huge_pages, signals


def train(*arguments) -> None:
  """--mode=train."""
  from diffjax.jobs import training

  training.train(*arguments)


def sample(*arguments) -> None:
  """--mode=sample."""
  from diffjax.jobs import sampling

  sampling.sample(*arguments)


def evaluate(*arguments) -> None:
  """--mode=eval."""
  from diffjax.jobs import evaluation

  evaluation.evaluate(*arguments)


def score(*arguments) -> None:
  """--mode=eval --images."""
  from diffjax.jobs import evaluation

  evaluation.score(*arguments)


def show(*arguments) -> None:
  """--show."""
  from diffjax.jobs import show as shown

  shown.show(*arguments)


JOBS = {"train": train, "sample": sample, "eval": evaluate, "score": score, "show": show}


def main() -> int:
  """Runs the command line; returns the exit status."""
  with signals.ending():  # before the imports that take seconds
    print("diffjax: starting", file=sys.stderr, flush=True)
    from diffjax.jobs import commandline

    return commandline.run(JOBS, sys.argv, __doc__)


if __name__ == "__main__":
  huge_pages.ask()
  if status := main():
    from diffjax.machine import processes

    processes.leave(status)  # what libraries still hold has been told in a paragraph, and is not told again
