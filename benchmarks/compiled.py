"""python -m benchmarks.compiled: what XLA makes of a CIFAR-10 training or sampling step for a card that is not there.

The compiler of jax's CUDA plugin needs no GPU, only the facts of one: fusion, layouts, calls of cuDNN and memory are
those of the card; which algorithm a convolution gets is not chosen. Counted are kernels and their traffic, the bytes
of operands and results, and from these a roofline. No time is measured.

    pip install -e '.[compiled]'
"""

import argparse
import math
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

os.environ.setdefault(
  "JAX_PLATFORMS", "cpu"
)  # before jax looks for plugins: this one would look for a driver

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from benchmarks import flops, machine, ours, profile, report
from diffjax import experiment, keys
from diffjax.jobs.train_step import make_chunk, make_step
from diffjax.machine.state import TrainState

# Of NVIDIA's data sheets and what the driver says: memory in bytes, and its bandwidth in bytes/s.
CARDS = {
  "h100": ("NVIDIA H100 80GB HBM3", 84_942_979_072, 3_352_320_000_000),
  "h200": ("NVIDIA H200 141GB HBM3e", 151_397_597_184, 4_800_000_000_000),
}
ATTAINABLE = 0.84  # of that bandwidth, by a kernel that only copies
FLOPS = 500e12  # FLOP/s of convolutions and products in bfloat16, half the tensor cores' peak
LAUNCH = 1.5e-6  # s, the least that a kernel takes

HOPPER = """
gpu_device_info {{
  cuda_compute_capability {{ major: 9 feature_extension: ACCELERATED_FEATURES }}
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98 threads_per_warp: 32
  threads_per_block_limit: 1024 threads_per_core_limit: 2048
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448 shared_memory_per_core: 233472
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  l2_cache_size: 52428800 device_memory_size: {memory} memory_bandwidth: {bandwidth}
  device_address_bits: 64 device_vendor: "NVIDIA Corporation" name: "{name}"
  driver_version: "13.0.0" runtime_version: "13.0.0" compile_time_toolkit_version: "13.0.0" dnn_version: "9.10.0"
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
device_description_str: "{name}"
"""

# Operations of a scheduled program that start no kernel.
FREE = set(
  "parameter constant tuple get-tuple-element bitcast after-all opt-barrier partition-id replica-id while call "
  "conditional copy-done async-done async-update all-reduce-done".split()
)
BYTES = {"pred": 1, "bf16": 2} | {f"{kind}{8 * n}": n for n in (1, 2, 4, 8) for kind in "suf"}
ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\((.*)$")


class Kernel(NamedTuple):
  """One instruction that starts a kernel.

  Attributes:
    name: in the compiled program.
    kind: the operation, and of a custom call what is called.
    bytes: of its operands and its results.
    path: the module path of the operation that asked for it.
    times: how often it runs: the product of the lengths of the loops around it.
  """

  name: str
  kind: str
  bytes: int
  path: str
  times: int


def device(card: str):
  """The device of a card that is not there."""
  name, memory, bandwidth = CARDS[card]
  target = HOPPER.format(name=name, memory=memory, bandwidth=bandwidth)
  return topologies.get_topology_desc(platform="cuda", target_config=target, topology="1x1x1").devices[0]


def compiled(function: Callable, card: str, *operands, donate: tuple[int, ...] = ()):
  """The function compiled for a card; operands are arrays or shapes."""
  place = SingleDeviceSharding(device(card))
  shaped = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)
  return jax.jit(function, donate_argnums=donate).lower(*jax.tree.map(shaped, operands)).compile()


def size(text: str) -> int:
  """Bytes of all arrays named in the text of a type: `(f32[2,3]{1,0}, bf16[])`."""
  total = 0
  for kind, shape in ARRAY.findall(text):
    total += BYTES.get(kind, 0) * math.prod(int(n) for n in shape.split(",") if n)
  return total


def _computations(hlo: str) -> tuple[str, Mapping[str, list[str]]]:
  """The name of the entry and the lines of every computation."""
  computations, entry, lines = {}, "", []
  for line in hlo.splitlines():
    if head := re.match(r"^(ENTRY )?%([\w.-]+) \(.*\{$", line):
      lines = computations[head[2]] = []
      entry = head[2] if head[1] else entry
    elif line.startswith(" "):
      lines.append(line)
  return entry, computations


def _read(lines: list[str]) -> Mapping[int, float]:
  """The share of every parameter that a fusion reads: less than 1 where only slices of what follows are wanted."""
  shares, needs = {}, defaultdict(float)
  instructions = [INSTRUCTION.match(line).groups() for line in lines if INSTRUCTION.match(line)]
  sizes = {name: size(kind) for name, kind, _, _ in instructions}
  needs[next(INSTRUCTION.match(line)[1] for line in lines if "ROOT" in line)] = 1.0
  for name, kind, operation, rest in reversed(instructions):
    share = min(needs[name], 1.0)
    if operation == "parameter":
      shares[int(rest.split(")")[0])] = share
    for operand in re.findall(r"%([\w.-]+)", rest.split("), ")[0]):
      part = (
        size(kind) / sizes[operand] if operation in ("slice", "dynamic-slice") and sizes.get(operand) else 1.0
      )
      needs[operand] += share * min(part, 1.0)
  return shares


def kernels(hlo: str) -> Iterator[Kernel]:
  """Every kernel of a compiled program, from its text.

  Raises:
    ValueError: a loop whose length the compiler does not know.
  """
  entry, computations = _computations(hlo)

  def inside(name, times):
    types = {}
    for line in computations[name]:
      match = INSTRUCTION.match(line)
      if not match:
        continue
      result, kind, operation, rest = match.groups()
      types[result] = kind
      if operation == "while":
        length = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', rest)
        yield from inside(re.search(r"body=%([\w.-]+)", rest)[1], times * int(length[1] if length else 1))
      elif operation == "call":
        yield from inside(re.search(r"to_apply=%([\w.-]+)", rest)[1], times)
      elif operation == "conditional":
        for branch in re.findall(r"%([\w.-]+)", re.search(r"branch_computations=\{(.*?)\}", rest)[1])[:1]:
          yield from inside(branch, times)
      elif operation not in FREE and not operation.endswith("-done"):
        operands = re.findall(r"%([\w.-]+)", rest.split("), ")[0])
        body = re.search(r"calls=%([\w.-]+)", rest)
        read = _read(computations[body[1]]) if operation == "fusion" else {}
        reads = (round(read.get(i, 1.0) * size(types.get(name, ""))) for i, name in enumerate(operands))
        touched = size(kind) + sum(reads)
        called = re.search(r'custom_call_target="([^"]*)"', rest) or re.search(r"kind=(\w+)", rest)
        path = re.search(r'op_name="([^"]*)"', rest)
        what = f"{operation} {called[1]}" if called else operation
        yield Kernel(result, what, touched, path[1] if path else "", times)

  yield from inside(entry, 1)


def totals(kernels: list[Kernel], card: str, steps: int, products: int) -> dict:
  """Kernels, traffic and the roofline's time of a step, of which `kernels` is `steps`; `products` are its FLOP."""
  count, traffic = sum(k.times for k in kernels) / steps, sum(k.times * k.bytes for k in kernels) / steps
  memory = sum(k.times * max(k.bytes / (ATTAINABLE * CARDS[card][2]), LAUNCH) for k in kernels) / steps
  return {
    "kernels": round(count),
    "below 1 MB": round(sum(k.times for k in kernels if k.bytes < 1e6) / steps),
    "GB": traffic / 1e9,
    "memory, ms": 1e3 * memory,
    "products, ms": 1e3 * products / FLOPS,
  }


def by(kernels: list[Kernel], key: Callable[[Kernel], tuple], card: str, steps: int) -> list[dict]:
  """Rows of kernels, traffic and time by a key, the largest traffic first."""
  groups = defaultdict(list)
  for kernel in kernels:
    groups[key(kernel)].append(kernel)
  rows = [
    {"what": " ".join(name), **totals(group, card, steps, 0)}
    for name, group in sorted(groups.items(), key=lambda item: -sum(k.times * k.bytes for k in item[1]))
  ]
  return [{name: value for name, value in row.items() if name != "products, ms"} for row in rows]


def training(config, pixels: int, steps: int, card: str):
  """The chunk of `steps` training steps of a config for images of this size and three channels."""
  parts = experiment.create(config, ours.fields(pixels))
  chunk, count = make_chunk(make_step(parts)), config.train.batch_size
  now: TrainState = jax.eval_shape(lambda: ours.new_state(parts))
  batch = {"image": np.empty((steps, count, pixels, pixels, 3), np.uint8)}
  batch["index"] = np.empty((steps, count), np.int32)
  return compiled(lambda now, batch: chunk(now, {}, batch, lambda x: x), card, now, batch, donate=(0,))


def sampling(config, pixels: int, batch: int, card: str):
  """The walk along the whole grid of a config, and how many calls of the network it has."""
  task = experiment.create(config, ours.fields(pixels)).task
  drawing = task.draw

  def walk(params, key, plan, index):
    request, sample_keys = {"index": index}, keys.of_examples(key, index)
    carry = drawing.begin(params, {}, plan, request, sample_keys)
    return drawing.advance(params, {}, plan, request, sample_keys, carry, 0, drawing.stops)

  params = jax.eval_shape(task.init, keys.seed(0))
  return compiled(walk, card, params, keys.seed(0), drawing.plan, np.arange(batch)), drawing.evaluations


def arguments() -> argparse.Namespace:
  """The command line's."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--card", default="h100", choices=sorted(CARDS))
  parser.add_argument("--what", default="train", choices=("train", "sample"))
  parser.add_argument("--batch", type=int, default=128)
  parser.add_argument("--channels", type=int, default=128)
  parser.add_argument("--size", type=int, default=32)
  parser.add_argument("--dtype", default="bfloat16", choices=("float32", "bfloat16"))
  parser.add_argument("--steps", type=int, default=10, help="of training, in one call")
  parser.add_argument("--text", default="", help="a file for the compiled program")
  return parser.parse_args()


def main() -> None:
  """Compiles, counts, prints and keeps."""
  args = arguments()
  config = ours.cifar10(args.batch, args.channels, args.size, args.dtype)
  if args.what == "train":
    program, steps = training(config, args.size, args.steps, args.card), args.steps
    products = flops.training_step(config, args.size)
  else:
    program, steps = sampling(config, args.size, args.batch, args.card)
    products = flops.sampling_step(config, args.size, args.batch)
  text = program.as_text()
  if args.text:
    with open(args.text, "w") as file:
      file.write(text)
  every = list(kernels(text))
  memory = {"temp, GB": program.memory_analysis().temp_size_in_bytes / 1e9}
  whole = {"what": "all", **totals(every, args.card, steps, products), **memory}
  print(report.table([whole]))
  rows = [whole]
  for name, key in {
    "layer": lambda k: (profile.place(k.path)[0], profile.place(k.path)[2]),
    "part": lambda k: (profile.place(k.path)[1],),
    "kind": lambda k: (re.sub(r"[\d.]+$", "", k.kind),),
  }.items():
    rows += [{"by": name} | row for row in by(every, key, args.card, steps)]
  settings = {name: value for name, value in vars(args).items() if name != "text"}
  report.write(f"compiled-{args.card}-{args.what}-{args.dtype}", machine.description(), rows, **settings)


if __name__ == "__main__":
  main()
