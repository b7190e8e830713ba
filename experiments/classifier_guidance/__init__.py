"""Classifier guidance (Dhariwal & Nichol 2021) of a model that knows no classes, over its weight.

    python main.py --config=configs/digits_classifier.py --workdir=runs/digits_classifier
    python -m experiments.launch classifier_guidance --on=local && python -m experiments.collect classifier_guidance

One unconditional model of the digits is trained; the runs sample from it under a classifier of noisy digits, which is
a run of its own. With weight 0 the model draws digits of its own choice, so that one in ten is the class asked for.
"""

from experiments.tools.sweeps import product

SWEEP = product(
  "configs/digits.py",
  {"sample.classifier.w": (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)},
  shared={
    "condition.names": (),
    "sample.guides": ("classifier", "clip"),
    "sample.classifier.run": "runs/digits_classifier",
    "eval.count": 720,
    "eval.seeds": 2,
  },
  trained={},
)
