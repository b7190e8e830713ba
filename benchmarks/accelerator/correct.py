"""What an accelerator can break: the numbers, bit-exact resumption, donation, and compiling once."""

import functools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np

from benchmarks import ours
from benchmarks.accelerator import part, sizes
from diffjax import experiment
from diffjax.keys import Draws
from diffjax.tasks.task import Task

BATCH, STEPS = 8, 20
EXACT = "--xla_gpu_deterministic_ops=true --xla_gpu_autotune_level=0"
RUN = """
import sys
from pathlib import Path
from benchmarks.accelerator import sizes
from diffjax.jobs import commandline, training
config = sizes.resumed(int(sys.argv[2]))
commandline.prepare(config)
training.train(config, Path(sys.argv[1]))
"""


def difference(values, truth) -> float:
  """|values - truth| / |truth| of pytrees together."""
  flat = [
    np.concatenate([np.ravel(np.asarray(x, np.float64)) for x in jax.tree.leaves(t)]) for t in (values, truth)
  ]
  return float(np.linalg.norm(flat[0] - flat[1]) / np.linalg.norm(flat[1]))


def losses_and_gradient(task: Task, precision: str):
  """A function (params, batch) -> losses [B] and the gradient of their mean, at a matrix precision."""

  def loss(params, batch):
    each = task.loss(params, {}, batch, Draws(jax.random.key(1), batch["index"], BATCH), task.start()).each
    return each.mean(), each

  def evaluate(params, batch):
    with jax.default_matmul_precision(precision):
      (_, each), gradient = jax.value_and_grad(loss, has_aux=True)(params, batch)
    return each, gradient

  return jax.jit(evaluate)


WAYS = {"float32": ("float32", "highest"), "bfloat16": ("bfloat16", "default")}


def numbers(make) -> dict[str, float]:
  """Losses and gradients of a network here against float32 on the CPU, at every way to compute them."""
  tasks = {dtype: experiment.create(make(dtype=dtype), ours.fields(32)).task for dtype in WAYS}
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(tasks["float32"].init, jax.random.key(0))
  params = jax.tree.map(lambda x: (0.05 * rng.normal(size=x.shape)).astype(np.float32), shapes)
  batch = {"image": ours.images(BATCH, 32), "index": np.arange(BATCH, dtype=np.int32)}

  def computed(dtype, precision, device):
    evaluate = losses_and_gradient(tasks[dtype], precision)
    with jax.default_device(device):
      return jax.device_get(evaluate(*jax.device_put((params, batch), device)))

  truth, results = computed("float32", "highest", jax.devices("cpu")[0]), {}
  for name, way in WAYS.items():
    here = computed(*way, jax.devices()[0])
    errors = (difference(h, t) for h, t in zip(here, truth, strict=True))
    results[f"{name} loss"], results[f"{name} gradient"] = errors
  return results


ALLOWED = {"float32 loss": 1e-4, "float32 gradient": 1e-3, "bfloat16 loss": 3e-2, "bfloat16 gradient": 1e-1}


def trained(folder: Path, steps: int) -> bool:
  """Trains, or goes on with, a run of `sizes.resumed` in a process of its own; whether it ended well."""
  flags = f"{os.environ.get('XLA_FLAGS', '')} {EXACT}" if jax.default_backend() == "gpu" else ""
  environment = os.environ | {"XLA_FLAGS": flags, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
  return not subprocess.run([sys.executable, "-c", RUN, str(folder), str(steps)], env=environment).returncode


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
  first, metrics = take(now, {}, placed())
  jax.block_until_ready(first)
  old = jax.tree.leaves(now.params)
  share = sum(leaf.is_deleted() for leaf in old) / len(old)
  before = len(count)
  for _ in range(3):
    first, metrics = take(first, {}, placed())
  jax.block_until_ready(first)
  return {"donated": share, "compiles_before": before, "compiles_after": len(count) - before}


def main() -> None:
  """Checks; ends with an error where something is wrong."""
  args = part.arguments("correct", __doc__)
  results, bad = part.Results(args.out, "correct", args.seconds), []
  part.cached()
  for name, make in {"unet": sizes.unet, "dit": sizes.dit}.items():
    row = numbers(functools.partial(make, BATCH, True))
    results.add(**{name: row})
    bad += [f"{name}: {key} {row[key]:.2e}" for key, most in ALLOWED.items() if not row[key] <= most]
  row = compiled_once()
  results.add(**row)
  bad += [f"{row}"] if row["donated"] < 1 or row["compiles_after"] else []
  folders = [args.out / "resume" / name for name in ("whole", "halves")]
  began = time.monotonic()
  for folder, steps in ((folders[0], STEPS), (folders[1], STEPS // 2), (folders[1], STEPS)):
    bad += [] if trained(folder, steps) else [f"{folder} ended badly before step {steps}"]
  one, other = (weights(folder, STEPS) for folder in folders)
  different = [name for name in one if one[name] != other.get(name)]
  results.add(resumed_bit_for_bit=not different, arrays=len(one), different=different[:5])
  results.add(resume_seconds=time.monotonic() - began)
  bad += [f"resumed: {len(different)} of {len(one)} arrays differ"] if different or not one else []
  results.add(wrong=bad)
  sys.exit(1 if bad else 0)


if __name__ == "__main__":
  main()
