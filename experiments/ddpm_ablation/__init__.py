"""The ablation of Ho et al. 2020, table 2, on CIFAR-10, as far as the library's options reach.

python -m experiments.launch ddpm_ablation --on=slurm --gpus=8 --cpus=32 --time=48:00:00
"""

from experiments.sweeps import product

SWEEP = product(
  "configs/cifar10_ddpm.py", {"objective.predict": ("eps", "x0"), "objective.weight": ("simple", "vlb")}
)
