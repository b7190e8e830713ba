"""python -m experiments.cifar10_ddpm: see README.md, and --help."""

import sys

from experiments.cifar10_ddpm import RECIPE
from experiments.tools import recipes

if __name__ == "__main__":
  sys.exit(recipes.main(RECIPE, "cifar10_ddpm"))
