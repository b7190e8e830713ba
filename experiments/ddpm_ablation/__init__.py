"""The ablation of Ho et al. 2020, table 2, on CIFAR-10, as far as the library's options reach.

python -m experiments.launch ddpm_ablation --on=slurm --gpus=8 --cpus=32 --time=48:00:00
"""

from experiments.tools.sweeps import Run, Sweep

SWEEP = Sweep(
  "configs/cifar10_ddpm.py",
  (
    Run("eps-simple", {}),
    Run("eps-vlb", {"objective.weight": "vlb"}),
    Run("mean-vlb", {"objective.predict": "posterior", "objective.weight": "vlb"}),
    Run("x0-simple", {"objective.predict": "x0"}),
    Run("eps-hybrid", {"objective.name": "hybrid", "sample.ancestral.variance": "learned"}),
  ),
  x="objective.predict",
)
