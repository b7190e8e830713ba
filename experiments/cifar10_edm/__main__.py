"""python -m experiments.cifar10_edm: see README.md, and --help."""

import sys

from experiments import recipes
from experiments.cifar10_edm import RECIPE

if __name__ == "__main__":
  sys.exit(recipes.main(RECIPE, "cifar10_edm"))
