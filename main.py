"""diffjax: train a diffusion model, sample from it, evaluate it.

    python main.py --config=configs/digits.py --workdir=runs/digits
    python main.py --config=configs/digits.py --workdir=runs/v --config.objective.predict=v
    python main.py --workdir=runs/digits --mode=sample --config.sample.steps=20
    python main.py --workdir=runs/digits --mode=eval
    python main.py --config=configs/cifar10_ddpm.py --workdir=runs/others --mode=eval --images=FOLDER

Training again in a workdir goes on from its last checkpoint; sample and eval take the newest one. A config is
a file in configs/, built on diffjax/config.py, where every field stands with its default. The resolved config
is <workdir>/config.json.
"""

import sys


def main() -> int:
  """Runs the command line; returns the exit status."""
  from diffjax import commandline

  return commandline.run(_jobs(), sys.argv, __doc__)


def _jobs():
  from diffjax.evaluation import evaluate, score
  from diffjax.sampling import sample
  from diffjax.training import train

  return {"train": train, "sample": sample, "eval": evaluate, "score": score}


if __name__ == "__main__":
  sys.exit(main())
