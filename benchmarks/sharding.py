"""python -m benchmarks.sharding: memory and traffic of a training step on meshes of fake devices.

Nothing is run: the step of a config is compiled for each way to spread it, and XLA's own memory analysis and
the collectives of the compiled program are printed and written to benchmarks/results/sharding.json. A
compiler for CPUs made these programs: one for accelerators may fuse otherwise, and gathers later.
"""

import argparse
import json
import os
import pathlib
import sys

RESULTS = pathlib.Path(__file__).parent / "results"
WAYS = {
  "data": {},
  "data, accumulated in 4 parts": {"train.accumulate": 4},
  "data, remat": {"model.unet.remat": True},
  "data, bfloat16": {"model.dtype": "bfloat16"},
  "fsdp": {"parallel.fsdp": "all"},
  "fsdp, remat": {"parallel.fsdp": "all", "model.unet.remat": True},
  "data x model 2": {"parallel.model": 2},
  "fsdp x model 2": {"parallel.fsdp": "half", "parallel.model": 2},
}


def compiled(config, image_shape):
  """The step's program, and the mesh that it is for."""
  import jax
  import jax.numpy as jnp

  from diffjax import experiment, keys, parallel, state
  from diffjax.train_step import make_chunk, make_step

  made = experiment.create(config, image_shape, 10)
  settings = config.parallel
  devices = parallel.create(settings.mode, settings.data, settings.fsdp, settings.model, settings.small)
  key = keys.seed(0)
  abstract = devices.abstract(lambda: state.create(made.init(key), made.optimizer, config.train.ema, key))
  size = config.train.batch_size
  leaf = lambda shape, kind: jax.ShapeDtypeStruct((1, size, *shape), kind, sharding=devices.cut(1))  # noqa: E731
  batch = {"image": leaf(image_shape, jnp.uint8), "label": leaf((), jnp.int32), "index": leaf((), jnp.int32)}
  return devices.train(make_chunk(make_step(made))).lower(abstract, batch).compile(), devices


def measured(config, image_shape) -> dict:
  """Megabytes of one device, and what it sends in a step."""
  from benchmarks.collectives import traffic

  program, devices = compiled(config, image_shape)
  memory = program.memory_analysis()
  found = traffic(program.as_text(), devices.device_count)
  return {
    "state_mb": memory.argument_size_in_bytes / 1e6,
    "working_mb": memory.temp_size_in_bytes / 1e6,
    "sent_mb": sum(kind.sent for kind in found.values()) / 1e6,
    "collectives": {name: {"count": kind.count, "sent_mb": kind.sent / 1e6} for name, kind in found.items()},
  }


def main() -> None:
  """Compiles, prints and writes."""
  parser = argparse.ArgumentParser(prog="python -m benchmarks.sharding", description=__doc__)
  parser.add_argument("--config", default="configs/cifar10_ddpm.py")
  parser.add_argument("--size", type=int, default=32, help="of the images")
  parser.add_argument("--batch_size", type=int, default=128)
  parser.add_argument("--devices", type=int, default=8)
  options = parser.parse_args()
  os.environ["JAX_PLATFORMS"] = "cpu"
  os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={options.devices}"

  from diffjax.commandline import load

  shares = {"all": options.devices, "half": options.devices // 2}
  results = {}
  for name, changes in WAYS.items():
    config = load(options.config)
    config.train.batch_size = options.batch_size
    config.update_from_flattened_dict({path: shares.get(v, v) for path, v in changes.items()})
    results[name] = row = measured(config, (options.size, options.size, 3))
    kinds = ", ".join(f"{k} {v['count']} x" for k, v in row["collectives"].items())
    print(
      f"{name:30} state {row['state_mb']:7.1f} MB  working {row['working_mb']:7.1f} MB  "
      f"sent {row['sent_mb']:7.1f} MB  {kinds}",
      flush=True,
    )
  RESULTS.mkdir(exist_ok=True)
  settings = vars(options) | {"command": " ".join(["python", "-m", "benchmarks.sharding", *sys.argv[1:]])}
  (RESULTS / "sharding.json").write_text(json.dumps({"settings": settings, "rows": results}, indent=2) + "\n")


if __name__ == "__main__":
  main()
