"""What captions of scenes come true over the weight of classifier-free guidance; 0 is the conditional model.

    python -m experiments.launch text_to_image --on=local && python -m experiments.collect text_to_image

One model of configs/scenes_pixel.py is trained; the runs sample from it.
"""

from experiments.tools.sweeps import product

SWEEP = product(
  "configs/scenes_pixel.py",
  {"sample.classifier_free.w": (0.0, 1.0, 2.0, 4.0, 7.0)},
  shared={"eval.count": 256},
  trained={},
  metrics=("scenes true", "scenes frechet_256"),
  plane=("scenes frechet_256", "scenes true"),
)
