"""What noise on the small image is worth at sampling: from 4x4 to 8x8 digits, over condition.low.level.

    python -m experiments.launch cascades --on=local && python -m experiments.collect cascades

One model is trained with levels up to 0.3; the runs sample from it. The last panel shows perception against distortion.
"""

from experiments.tools.sweeps import product

SWEEP = product(
  "configs/digits.py",
  {"condition.low.level": (0.0, 0.05, 0.1, 0.2, 0.3)},
  shared={
    "condition.names": ("low",),
    "condition.low.noise": 0.3,
    "model.unet.channels": 16,
    "model.unet.attention": (),
    "train.steps": 600,
    "train.batch_size": 32,
    "train.learning_rate": 2e-3,
    "checkpoint.every": 300,
    "sample.split": "test",
    "sample.guides": ("clip",),
    "eval.metrics": ("restoration", "classifier"),
    "eval.split": "test",
  },
  trained={},
  metrics=("classifier frechet_355", "restoration consistency"),
  plane=("restoration psnr", "classifier frechet_355"),
)
