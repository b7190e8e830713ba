"""What an accelerator can break: the numbers, bit-exact resumption, donation, and compiling once."""

import functools
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np

from benchmarks import ours
from benchmarks.accelerator import part, sizes
from diffjax import experiment
from diffjax.keys import Draws
from diffjax.train_step import losses

BATCH, STEPS = 8, 20
EXACT = "--xla_gpu_deterministic_ops=true --xla_gpu_autotune_level=0"
RUN = """
import sys
from pathlib import Path
from benchmarks.accelerator import sizes
from diffjax import commandline, training
config = sizes.resumed(int(sys.argv[2]))
commandline.prepare(config)
training.train(config, Path(sys.argv[1]))
"""


def difference(found, truth) -> float:
  """|found - truth| / |truth| of pytrees together."""
  flat = [
    np.concatenate([np.ravel(np.asarray(x, np.float64)) for x in jax.tree.leaves(t)]) for t in (found, truth)
  ]
  return float(np.linalg.norm(flat[0] - flat[1]) / np.linalg.norm(flat[1]))


def losses_and_gradient(config, precision: str):
  """A function (params, batch) -> losses [B] and the gradient of their mean, at a matrix precision."""
  made = experiment.create(config, (32, 32, 3), 0)

  def loss(params, batch):
    times, draws = made.memory.times(made.start_memory()), Draws(jax.random.key(1), batch["index"], BATCH)
    each = losses(made, params, times, batch, draws)
    return each.mean(), each

  def evaluate(params, batch):
    with jax.default_matmul_precision(precision):
      (_, each), gradient = jax.value_and_grad(loss, has_aux=True)(params, batch)
    return each, gradient

  return jax.jit(evaluate)


WAYS = {"float32": ("float32", "highest"), "bfloat16": ("bfloat16", "default")}


def numbers(make) -> dict[str, float]:
  """Losses and gradients of a network here against float32 on the CPU, at every way to compute them."""
  made = experiment.create(make("float32"), (32, 32, 3), 0)
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(made.init, jax.random.key(0))
  params = jax.tree.map(lambda x: (0.05 * rng.normal(size=x.shape)).astype(np.float32), shapes)
  batch = {"image": ours.images(BATCH, 32), "index": np.arange(BATCH, dtype=np.int32)}

  def computed(dtype, precision, device):
    evaluate = losses_and_gradient(make(dtype), precision)
    with jax.default_device(device):
      return jax.device_get(evaluate(*jax.device_put((params, batch), device)))

  with ThreadPoolExecutor() as pool:  # they compile at the same time
    truth = pool.submit(computed, "float32", "highest", jax.devices("cpu")[0])
    here = {name: pool.submit(computed, *way, jax.devices()[0]) for name, way in WAYS.items()}
  found = {}
  for name, way in here.items():
    errors = (difference(h, t) for h, t in zip(way.result(), truth.result(), strict=True))
    found[f"{name} loss"], found[f"{name} gradient"] = errors
  return found


ALLOWED = {"float32 loss": 1e-4, "float32 gradient": 1e-3, "bfloat16 loss": 3e-2, "bfloat16 gradient": 1e-1}


def training(folder: Path, steps: int) -> subprocess.Popen:
  """A process that trains, or goes on with, a run of `sizes.resumed`."""
  flags = f"{os.environ.get('XLA_FLAGS', '')} {EXACT}" if jax.default_backend() == "gpu" else ""
  environment = os.environ | {"XLA_FLAGS": flags, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
  return subprocess.Popen([sys.executable, "-c", RUN, str(folder), str(steps)], env=environment)


def weights(folder: Path, step: int) -> dict[str, int]:
  """The checksums of a checkpoint."""
  text = next((folder / "checkpoints" / str(step) / "about").glob("*")).read_text()
  return json.loads(text)["checksums"]


def compiled_once() -> dict:
  """Whether a step gives away its old state, and whether the calls after the first compile anything."""
  count = []
  jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **other: count.append(name) if "backend_compile" in name else None
  )
  take, now, placed = ours.training(sizes.unet(BATCH, True), ours.images(BATCH, 32), 2)
  first, metrics = take(now, placed())
  jax.block_until_ready(first)
  big = [leaf for leaf in jax.tree.leaves(now.params)]
  given = sum(leaf.is_deleted() for leaf in big) / len(big)
  before = len(count)
  for _ in range(3):
    first, metrics = take(first, placed())
  jax.block_until_ready(first)
  return {"donated": given, "compiles_before": before, "compiles_after": len(count) - before}


def main() -> None:
  """Checks; ends with an error where something is wrong."""
  args = part.arguments("correct", __doc__)
  results, bad = part.Results(args.out, "correct", args.seconds), []
  part.cached()
  folders = [args.out / "resume" / name for name in ("whole", "halves")]
  began = time.monotonic()
  whole, half = (
    training(folders[0], STEPS),
    training(folders[1], STEPS // 2),
  )  # at the same time as what follows
  with ThreadPoolExecutor() as pool:
    networks = {"unet": sizes.unet, "dit": sizes.dit}
    checked = {
      name: pool.submit(numbers, functools.partial(make, BATCH, True)) for name, make in networks.items()
    }
  for name, check in checked.items():
    found = check.result()
    results.add(**{name: found})
    bad += [f"{name}: {key} {found[key]:.2e}" for key, most in ALLOWED.items() if not found[key] <= most]
  found = compiled_once()
  results.add(**found)
  bad += [f"{found}"] if found["donated"] < 1 or found["compiles_after"] else []
  bad += ["the first half ended badly"] if half.wait() else []
  second = training(folders[1], STEPS)
  bad += ["the whole run ended badly"] if whole.wait() else []
  bad += ["the second half ended badly"] if second.wait() else []
  one, other = (weights(folder, STEPS) for folder in folders)
  different = [name for name in one if one[name] != other.get(name)]
  results.add(resumed_bit_for_bit=not different, arrays=len(one), different=different[:5])
  results.add(resume_seconds=time.monotonic() - began)
  bad += [f"resumed: {len(different)} of {len(one)} arrays differ"] if different or not one else []
  results.add(wrong=bad)
  sys.exit(1 if bad else 0)


if __name__ == "__main__":
  main()
