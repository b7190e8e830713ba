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
    "jaxtyping>=0.3.11",
    "numpy>=2.4",
    "scipy>=1.16",
  ],
  extras_require={
    "test": ["pytest>=9", "hypothesis>=6.150", "beartype>=0.22", "ruff>=0.14"],
    "parity": ["torch==2.13.0", "diffusers>=0.35"],
  },
)
