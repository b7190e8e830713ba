"""python -m experiments.cifar10_ddpm: see README.md, and --help."""

import sys

from experiments import recipes
from experiments.cifar10_ddpm import RECIPE

if __name__ == "__main__":
  sys.exit(recipes.main(RECIPE, "cifar10_ddpm"))
