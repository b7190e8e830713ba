"""What a figure was measured on: hardware, versions, and the rate of a large matrix product."""

import datetime
import importlib.metadata
import os
import platform
from pathlib import Path

import jax
import jax.numpy as jnp

from benchmarks.turns import in_turn
from diffjax.jobs.workdir import commit
from diffjax.machine import huge_pages

PACKAGES = ("jax", "jaxlib", "flax", "numpy", "torch", "diffusers", "pytorch-fid", "onnxruntime", "openvino")
LOAD = os.getloadavg()[0]  # of everybody on the machine, over the minute before anything was measured
SIDE = {"cpu": 2048}
OTHERWISE = 8192


def description() -> dict:
  """Day and commit, processor, cores, load, glibc's tunables, backend, Python and package versions."""
  versions = {}
  for name in PACKAGES:
    try:
      versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      versions[name] = None
  info = Path("/proc/cpuinfo")
  models = (
    {line.split(": ")[-1] for line in info.read_text().splitlines() if "model name" in line}
    if info.exists()
    else ()
  )
  return {
    "date": datetime.date.today().isoformat(),
    "commit": commit("benchmarks/results"),
    "processor": " ".join(sorted(models)) or platform.processor(),
    "cores": os.cpu_count(),
    "load": round(LOAD, 1),
    "tunables": os.environ.get(huge_pages.VARIABLE, ""),
    "backend": jax.default_backend(),
    "python": platform.python_version(),
    "versions": versions,
  }


def product(dtype: str = "float32"):
  """A function that multiplies two square matrices, and its number of operations."""
  side = SIDE.get(jax.default_backend(), OTHERWISE)
  matrix = jnp.ones((side, side), dtype)
  times = jax.jit(jnp.matmul)
  return lambda: times(matrix, matrix).block_until_ready(), 2 * side**3


def rate(dtype: str = "float32", rounds: int = 7) -> float:
  """FLOP/s of that product, by the fastest of the rounds: what the machine can do when it is free."""
  run, flops = product(dtype)
  return flops / min(in_turn({"product": run}, rounds)["product"].wall)
