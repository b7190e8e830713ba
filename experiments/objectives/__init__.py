"""What the network predicts, on two schedules: the same small U-Net on digits, six runs.

python -m experiments.launch objectives --on=local && python -m experiments.collect objectives
"""

from experiments.tools.sweeps import product

SWEEP = product(
  "configs/digits.py",
  {"objective.predict": ("eps", "x0", "v"), "schedule.name": ("linear", "cosine")},
  shared={
    "train.steps": 500,
    "checkpoint.every": 250,
    "eval.count": 720,
    "sample.guides": ("clip",),
  },
  x="objective.predict",
)
