"""DDPM's recipe on CIFAR-10, FID against images seen.

python -m experiments.cifar10_ddpm --minutes=480
"""

from experiments.tools.recipes import Recipe

BATCH = 128

RECIPE = Recipe(
  "configs/cifar10_ddpm.py",
  judged={
    "ddim_100": {
      "sample.sampler": "ddim",
      "sample.ddim.eta": 0.0,
      "sample.grid": "quadratic",
      "sample.steps": 100,
      "sample.guides": (),
    },
    "ancestral_1000": {
      "sample.sampler": "ancestral",
      "sample.ancestral.variance": "fixed_large",
      "sample.grid": "leading",
      "sample.steps": 1000,
      "sample.guides": ("clip",),
    },
  },
  published={
    "Ho et al. 2020, ancestral 1000": ((800_000 * BATCH, 3.17),),
    "Song et al. 2021 on its weights, DDIM 100": ((800_000 * BATCH, 4.16),),
    "tqch/ddpm-torch": (
      (46_800 * BATCH, 9.16),
      (93_600 * BATCH, 5.78),
      (187_000 * BATCH, 4.08),
      (796_000 * BATCH, 3.188),
    ),
  },
)
