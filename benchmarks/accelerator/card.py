"""The card, its driver, the packages, and the two ceilings: the rate of matrix products and of memory."""

import shutil
import subprocess

import jax
import jax.numpy as jnp

from benchmarks import machine
from benchmarks.accelerator import part
from benchmarks.turns import in_turn

QUERY = "name,driver_version,memory.total,clocks.sm,clocks.mem,clocks.max.sm,power.limit,temperature.gpu"
ROUNDS, REPEATS = 9, 10


def product(side: int):
  """A product of two random bfloat16 matrices, REPEATS times, and the operations of all."""
  a, b = (jax.random.normal(jax.random.key(i), (side, side), jnp.bfloat16) for i in range(2))
  times = jax.jit(jnp.matmul)
  return lambda: jax.block_until_ready([times(a, b) for _ in range(REPEATS)]), REPEATS * 2 * side**3


def copy(size: int):
  """A pass over `size` random bytes that writes as many, REPEATS times, and the bytes read and written by all."""
  x = jax.random.normal(jax.random.key(0), (size // 4,), jnp.float32)
  negative = jax.jit(lambda x: -x)

  def run():
    for _ in range(REPEATS):
      out = negative(x)
    out.block_until_ready()

  return run, REPEATS * 2 * size


def main() -> None:
  """Measures."""
  args = part.arguments("card", __doc__)
  results = part.Results(args.out, "card", args.seconds)
  if shutil.which("nvidia-smi"):
    process = subprocess.run(
      ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv"], capture_output=True, text=True, timeout=20
    )
    results.add(nvidia_smi=process.stdout.strip())
  device = jax.devices()[0]
  results.add(
    machine=machine.description(),
    device=device.device_kind,
    compute=getattr(device, "compute_capability", None),
  )
  run, count = product(512 if args.tiny else 8192)
  times = in_turn({"product": run}, ROUNDS)["product"]
  results.add(product_flop_per_s=count / times.median, product_best=count / min(times.wall))
  run, count = copy(1 << (24 if args.tiny else 32))
  times = in_turn({"copy": run}, ROUNDS)["copy"]
  results.add(copy_bytes_per_s=count / times.median, copy_best=count / min(times.wall))


if __name__ == "__main__":
  main()
