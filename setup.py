"""The package and its requirements; the lock files under requirements/ are resolved from here."""

from setuptools import find_packages, setup

setup(
  name="diffjax",
  version="0.1.0",
  description="Config-driven research on diffusion models in JAX and Flax",
  license="Apache-2.0",
  packages=find_packages(include=["diffjax", "diffjax.*"]),
  python_requires=">=3.11",
  install_requires=[
    "jax>=0.10.2,<0.12",
    "flax>=0.12.8",
    "optax>=0.2.8",
    "orbax-checkpoint>=0.12.8",
    "ml_collections>=1.1.0",
    "absl-py>=2.3",
    "clu>=0.0.12",
    "diffrax>=0.7.2",
    "array-record>=0.8.6",
    "tensorflow-datasets>=4.9.10",
    "importlib_resources>=6.5",
    "jaxtyping>=0.3.11",
    "matplotlib>=3.10",
    "numpy>=2.4",
    "pillow>=12",
    "scikit-learn>=1.8",
    "scipy>=1.16",
    "tensorboardX>=2.6.5",
    "tokenizers>=0.22",
  ],
  extras_require={
    "test": ["pytest>=9", "pytest-xdist>=3.8", "hypothesis>=6.150", "beartype>=0.22", "ruff>=0.14"],
    "wandb": ["wandb>=0.21"],
    "compiled": ["jax-cuda13-pjrt>=0.10.2,<0.12", "jax-cuda13-plugin>=0.10.2,<0.12"],  # of jax's own version
    # Of jax2onnx later versions want an older orbax, and this one reaches into jax 0.10 and no later one.
    "onnx": ["jax2onnx>=0.13; python_version<'3.12'", "onnxruntime>=1.24"],
    "engines": ["onnx>=1.20", "onnxruntime>=1.24", "openvino>=2026.2"],
    "slurm": ["submitit>=1.5.3"],
    "parity": ["torch==2.13.0", "torchvision==0.28.0", "diffusers>=0.35", "pytorch-fid>=0.3.0"],
  },
)
