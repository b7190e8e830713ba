"""python -m experiments.cifar10_edm: see README.md, and --help."""

import sys

from experiments.cifar10_edm import RECIPE
from experiments.tools import recipes

if __name__ == "__main__":
  sys.exit(recipes.main(RECIPE, "cifar10_edm"))
