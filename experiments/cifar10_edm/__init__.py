"""EDM's recipe on CIFAR-10, FID against images seen.

python -m experiments.cifar10_edm --minutes=480
"""

from experiments.tools.recipes import Recipe

IMAGES = 200e6

RECIPE = Recipe(
  "configs/cifar10_edm.py",
  judged={
    "heun_18": {"sample.sampler": "heun", "sample.grid": "karras", "sample.steps": 18, "sample.guides": ()},
  },
  published={
    "Karras et al. 2022, unconditional": ((IMAGES, 1.97),),
    "Karras et al. 2022, class-conditional": ((IMAGES, 1.79),),
  },
)
