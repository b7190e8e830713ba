"""Perception against distortion: from 4x4 to 8x8 digits, over the steps of sampling and the weight of guidance.

    python -m experiments.launch perception_distortion --on=local
    python -m experiments.collect perception_distortion

One model, told no small image in a tenth of its examples, is trained; the runs sample from it. experiments/cascades is
its pair over the noise on the small image.
"""

from experiments.cascades import SWEEP as LEVELS
from experiments.tools.sweeps import product

SWEEP = product(
  LEVELS.base,
  {"sample.classifier_free.w": (0.0, 0.5, 2.0), "sample.steps": (1, 2, 5, 10, 20)},
  shared=LEVELS.shared
  | {
    "condition.low.dropout": 0.1,
    "sample.sampler": "ddim",
    "sample.guides": ("classifier_free", "clip"),
  },
  trained={},
  x="sample.steps",
  metrics=LEVELS.metrics,
  plane=LEVELS.plane,
)
