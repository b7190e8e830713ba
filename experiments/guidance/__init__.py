"""Fidelity against variety over the weight of classifier-free guidance; 0 is the conditional model.

    python -m experiments.launch guidance --on=local && python -m experiments.collect guidance

One model is trained; the runs sample from it. experiments/classifier_guidance is its pair.
"""

from experiments.tools.sweeps import product

SWEEP = product(
  "configs/digits.py",
  {"sample.classifier_free.w": (0.0, 0.1, 0.3, 1.0, 3.0)},
  shared={"eval.count": 720},
  trained={},
)
