"""The ablation of Ho et al. 2020, table 2, on CIFAR-10, as far as the library's options reach.

python -m experiments.launch ddpm_ablation --on=slurm --gpus=8 --cpus=32 --time=48:00:00
"""

from experiments.sweeps import Run, Sweep

SWEEP = Sweep(
  "configs/cifar10_ddpm.py",
  (
    Run("eps-simple-large", {}),
    Run("eps-simple-small", {"sample.ancestral.variance": "fixed_small"}),
    Run("eps-vlb-large", {"objective.weight": "vlb"}),
    Run("eps-vlb-small", {"objective.weight": "vlb", "sample.ancestral.variance": "fixed_small"}),
    Run("x0-simple-large", {"objective.predict": "x0"}),
    Run("x0-vlb-large", {"objective.predict": "x0", "objective.weight": "vlb"}),
  ),
  x="objective.weight",
)
