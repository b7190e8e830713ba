"""python -m benchmarks.sharding: memory, traffic and time of a training step, spread and saved in every way.

The step of a config is compiled for each way on fake devices, a CPU cut into several. XLA's own memory analysis and
the collectives of the compiled program are per device and need no run; --rounds runs the steps in turn, and `ratio` is
to the first way. Convolutions are XLA's own, as on accelerators. A compiler for CPUs made these programs: one for
accelerators may fuse otherwise, and gathers later; and fake devices share the cores, so that a ratio is what a way
adds to the work and not what it saves. XLA's CPU compiler undoes remat and widens bfloat16, which its memory analysis
then does not show: what JAX asks to be kept from the forward pass for the backward pass is counted beside it.
"""

import argparse
import os

WAYS = {
  "one device": {"devices": 1},
  "data": {},
  "data, pmap": {"parallel.mode": "pmap"},
  "data, accumulated in 4 parts": {"train.accumulate": 4},
  "data, remat": {"model.unet.remat": True},
  "data, bfloat16": {"model.dtype": "bfloat16"},
  "data, 5 steps a call": {"train.steps_per_call": 5},
  "fsdp": {"parallel.fsdp": "all"},
  "fsdp, remat": {"parallel.fsdp": "all", "model.unet.remat": True},
  "data x model 2": {"parallel.model": 2},
  "fsdp x model 2": {"parallel.fsdp": "half", "parallel.model": 2},
}
ON_ONE = ("data", "data, accumulated in 4 parts", "data, remat", "data, bfloat16", "data, 5 steps a call")


class Step:
  """A way's compiled program."""

  def __init__(self, config, image_shape: tuple[int, int, int], one: bool):
    """Compiles it.

    Args:
      config: a run's.
      image_shape: of its data.
      one: whether it gets one device only, instead of all.
    """
    import jax
    import numpy as np

    from benchmarks.ours import fields, images, new_state
    from diffjax import experiment
    from diffjax.jobs.train_step import make_chunk, make_step
    from diffjax.machine import parallel

    settings, size, count = config.parallel, config.train.batch_size, config.train.steps_per_call or 1
    parts = experiment.create(config, fields(*image_shape[1:]))
    if one:
      mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:1]), (parallel.DATA,))
      self.devices = parallel.Parallel("jit", mesh)
    else:
      self.devices = parallel.create(
        settings.mode, settings.data, settings.fsdp, settings.model, settings.small
      )
    pixels, index = images(size, image_shape[0], image_shape[2]), np.arange(size, dtype=np.int32)
    batch = {"image": pixels, "index": index}
    batch = jax.tree.map(lambda x: np.broadcast_to(x, (count, *x.shape)), batch)
    self._batch = self.devices.place(batch, size)
    self._parts, self._make, self.steps = parts, lambda: new_state(parts), count
    self._state, self._take = None, self.devices.train(make_chunk(make_step(parts)))
    self.program = None
    if settings.mode == "jit":  # a pmapped function hides its program
      self.program = self._take.lower(self.devices.abstract(self._make), {}, self._batch).compile()
      self._take = self.program

  def __call__(self) -> float:
    """Takes the next step, or steps."""
    if self._state is None:
      self._state = self.devices.init(self._make)
    self._state, metrics = self._take(self._state, {}, self._batch)
    return float(metrics["loss"][-1])

  def kept(self) -> int:
    """Bytes of one device's arrays with an axis of examples that JAX keeps for the backward pass."""
    import jax

    from diffjax.keys import Draws

    parts, size = self._parts, self._parts.config.train.batch_size

    def backward(state, batch):
      def loss(params):
        draws = Draws(state.key, batch["index"], size)
        return parts.task.loss(params, {}, batch, draws, state.memory).each.mean()

      return jax.vjp(loss, state.params)[1]

    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), self._batch)
    leaves = jax.tree.leaves(jax.eval_shape(backward, jax.eval_shape(self._make), one))
    whole = sum(x.size * x.dtype.itemsize for x in leaves if x.shape and x.shape[0] == size)
    return whole // self.devices.batch_devices // parts.config.train.accumulate

  def figures(self) -> dict:
    """Megabytes of one device, and what it sends in a step."""
    from benchmarks.collectives import traffic

    cells = {"kept, MB": self.kept() / 1e6}
    if self.program is None:
      return cells
    memory = self.program.memory_analysis()
    kinds = traffic(self.program.as_text(), self.devices.mesh.size)
    return cells | {
      "state, MB": memory.argument_size_in_bytes / 1e6,
      "working, MB": memory.temp_size_in_bytes / 1e6,
      "sent, MB": sum(kind.sent for kind in kinds.values()) / 1e6 / self.steps,
      "collectives": ", ".join(
        f"{kind.count / self.steps:.4g} {name} ({kind.sent / 1e6 / self.steps:.3g} MB)"
        for name, kind in kinds.items()
      ),
    }


def main() -> None:
  """Compiles, runs, prints and keeps."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--config", default="configs/cifar10_ddpm.py")
  parser.add_argument("--size", type=int, default=32, help="of the images")
  parser.add_argument("--image_channels", type=int, default=3)
  parser.add_argument("--channels", type=int, default=0, help="of the U-Net, if not the config's")
  parser.add_argument("--batch_size", type=int, default=128)
  parser.add_argument("--devices", type=int, default=8)
  parser.add_argument("--rounds", type=int, default=0, help="of timing; 0 compiles only")
  args = parser.parse_args()
  os.environ["JAX_PLATFORMS"] = "cpu"
  os.environ["NPROC"] = str(max(32, 2 * args.devices))  # fewer threads can deadlock in a collective
  os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={args.devices}"
  if not args.rounds:  # what is counted does not hang on how hard LLVM works
    os.environ["XLA_FLAGS"] += " --xla_backend_optimization_level=0"

  from benchmarks import machine, report, turns
  from diffjax.jobs.config_file import load
  from diffjax.models import conv

  conv.fastest_on_cpu = lambda *shapes: "lax"

  shares, steps, figures_of = {"all": args.devices, "half": args.devices // 2}, {}, {}
  for name in WAYS if args.devices > 1 else ON_ONE:
    changes = dict(WAYS[name])
    one = args.devices == 1 or changes.pop("devices", 0) == 1
    config = load(args.config)
    config.train.batch_size = args.batch_size
    if args.channels:
      config.model.unet.channels = args.channels
    config.update_from_flattened_dict({path: shares.get(v, v) for path, v in changes.items()})
    step = Step(config, (args.size, args.size, args.image_channels), one)
    figures_of[name] = step.figures()
    print(f"{name}: {figures_of[name]}", flush=True)
    if args.rounds:
      steps[name] = step
  times = turns.in_turn(steps, args.rounds) if args.rounds else {}
  times = {name: each.per(steps[name].steps) for name, each in times.items()}
  rows = []
  for name, figures in figures_of.items():
    each = {"step": times[name]} if times else {}
    ratio = {"ratio": times[name].ratio(next(iter(times.values())))} if times else {}
    rows.append(report.row(each, way=name) | ratio | figures)
  name = args.config.split("/")[-1].removesuffix(".py")
  report.write(f"sharding-{name}-{args.devices}-devices", machine.description(), rows, settings=vars(args))


if __name__ == "__main__":
  main()
