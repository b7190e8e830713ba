"""How much a score moves with the seed of training alone.

python -m experiments.launch seeds --on=local && python -m experiments.collect seeds
"""

from experiments.tools.sweeps import product

SWEEP = product("configs/digits.py", {"seed": (0, 1, 2, 3, 4)}, shared={"eval.count": 720})
