"""Quality over the number of DDIM steps, deterministic and with the noise of ancestral sampling.

    python -m experiments.launch ddim_steps --on=local && python -m experiments.collect ddim_steps

One model is trained; the runs sample from it.
"""

from experiments.tools.sweeps import product

SWEEP = product(
  "configs/digits.py",
  {
    "sample.steps": (5, 10, 20, 50, 100),
    "sample.ddim.eta": {"eta_0": 0.0, "eta_1": 1.0},
  },
  shared={"sample.sampler": "ddim", "eval.count": 720, "sample.guides": ("clip",)},
  trained={},
  x="sample.steps",
)
