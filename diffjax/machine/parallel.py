"""Devices and processes: the only file that knows them.

Two ways to spread one pure step over the devices, with the same numbers to float32 tolerance:

    jit    the global batch is one sharded array; XLA inserts the collectives
    pmap   every device takes its share, and `mean` averages gradients and metrics across them

and in both the randomness of an example hangs on its place in the global batch. With jit the devices form a
mesh of three axes:

    data    every row of devices holds a copy of the state and takes a share of the batch
    fsdp    takes a share of the batch too, and of every large array of the state (ZeRO, Rajbhandari et al. 2020)
    model   cuts the output features of large arrays, and with them the activations (Shoeybi et al. 2019)

An array of the state is cut by its shape alone, so that parameters, averages and moments lie alike: its last
axis over `model`, its longest other axis over `fsdp`, where these divide; small arrays are copied everywhere.
What computes with parameters gathers them over `fsdp` first: that axis shares out memory, and no convolution sees it.
"""

import dataclasses
import math
import os
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from diffjax.types import ConfigError

DATA, FSDP, MODEL = AXES = ("data", "fsdp", "model")
MODES = ("jit", "pmap")
SMALL = 2**14  # numbers; an array with fewer is copied to every device
# How hard LLVM works on a CPU, of 3: at 1 steps compile in two thirds to three quarters of the time and take up to 8 %
# longer; at 0 they take twice as long, but what runs once does not mind.
EFFORT = "xla_backend_optimization_level"
EFFORTS = {"often": 1, "once": 0}


@dataclasses.dataclass(frozen=True)
class Parallel:
  """How functions are mapped over the devices.

  Attributes:
    mode: one of MODES.
    mesh: all devices, on some of AXES, `data` first.
    small: arrays of the state with fewer numbers are not cut.
  """

  mode: str
  mesh: Mesh
  small: int = SMALL

  @property
  def device_count(self) -> int:
    """Devices of all processes."""
    return self.mesh.size

  @property
  def batch_devices(self) -> int:
    """Shares that a batch is cut into."""
    return math.prod(self.mesh.shape[axis] for axis in self._batch_axes)

  @property
  def process_index(self) -> int:
    """This process; only process 0 writes files."""
    return jax.process_index()

  @property
  def process_count(self) -> int:
    """Number of processes that the mesh spans."""
    return len({device.process_index for device in self.mesh.devices.flat})

  @property
  def local(self) -> "Parallel":
    """The devices of this process alone."""
    return Parallel("jit", Mesh(np.asarray(jax.local_devices()), (DATA,)))

  @property
  def platform(self) -> str:
    """cpu, gpu or tpu."""
    return self.mesh.devices.flat[0].platform

  def compiling(self, runs: str) -> dict[str, int]:
    """XLA's options for a function that runs "often" or "once"; none where XLA_FLAGS names the effort."""
    if self.platform != "cpu" or EFFORT in os.environ.get("XLA_FLAGS", ""):
      return {}
    return {EFFORT: EFFORTS[runs]}

  @property
  def _batch_axes(self) -> tuple[str, ...]:
    return tuple(axis for axis in (DATA, FSDP) if axis in self.mesh.axis_names)

  def replicated(self) -> NamedSharding:
    """The same value on every device."""
    return NamedSharding(self.mesh, P())

  def cut(self, axis: int = 0) -> NamedSharding:
    """A batch, cut along one array axis."""
    return NamedSharding(self.mesh, P(*(None,) * axis, self._batch_axes))

  def sequence(self, x: jax.Array, axis: int) -> jax.Array:
    """An array [B, ...] of a compiled function, cut along this axis over `model`, and as a batch where it can be.

    Raises:
      ConfigError: the devices of `model` do not divide the axis.
    """
    size = self.mesh.shape.get(MODEL, 1)
    if x.shape[axis] % size:
      raise ConfigError(
        f"a sequence of {x.shape[axis]} tokens cannot be cut over {size} devices of the axis 'model'; choose a patch "
        "that leaves a multiple of them, or fewer devices."
      )
    batch = self._batch_axes if x.shape[0] % self.batch_devices == 0 else None
    place = NamedSharding(self.mesh, P(batch, *(None,) * (axis - 1), MODEL))
    return jax.lax.with_sharding_constraint(x, place)

  def of_state(self, shape: tuple[int, ...]) -> NamedSharding:
    """Where an array of the state with this shape lies."""
    spec = [None] * len(shape)
    if self.mode == "jit" and math.prod(shape) >= self.small and len(shape) > 1:
      others = sorted(range(len(shape) - 1), key=lambda axis: -shape[axis])
      for name, axes in ((MODEL, [len(shape) - 1]), (FSDP, [*others, len(shape) - 1])):
        size = self.mesh.shape.get(name, 1)
        fits = [axis for axis in axes if shape[axis] % size == 0 and spec[axis] is None]
        if size > 1 and fits:
          spec[fits[0]] = name
    while spec and spec[-1] is None:
      spec.pop()
    return NamedSharding(self.mesh, P(*spec))

  def _whole(self, place: NamedSharding) -> NamedSharding:
    """The same place with nothing cut over fsdp."""
    return NamedSharding(self.mesh, P(*(None if axis == FSDP else axis for axis in place.spec)))

  def gathered(self, params: Any) -> Any:
    """Parameters as a compiled function computes with them: whole over `fsdp`, still cut over `model`.

    To be called inside what is differentiated: the gradient is then summed over the batch's axes first and cut to
    where the state lies afterwards. Left to choose, XLA's partitioner gets the gradients of convolutions wrong on
    meshes with all three axes (jax 0.10 to 0.12; tests/machine/test_gathering.py says when it no longer does).
    """
    if self.mode != "jit" or self.mesh.shape.get(FSDP, 1) == 1:
      return params

    def gather(x):
      place = self.of_state(x.shape)
      # Of two constraints the transpose is the same two in the other order.
      return jax.lax.with_sharding_constraint(jax.lax.with_sharding_constraint(x, place), self._whole(place))

    return jax.tree.map(gather, params)

  def init(self, make: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function, a state, computed where it will live."""
    where = jax.tree.map(lambda x: self.of_state(x.shape), jax.eval_shape(make, *arguments))
    return jax.jit(make, out_shardings=where, compiler_options=self.compiling("once"))(*arguments)

  def abstract(self, make: Callable[[], Any]) -> Any:
    """Shapes, types and shardings of what `init` returns."""
    leaf = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.of_state(x.shape))
    return jax.tree.map(leaf, jax.eval_shape(make))

  def replicate(self, tree: Any) -> Any:
    """Puts the same value on every device."""
    return jax.device_put(tree, self.replicated())

  def rows(self, batch_size: int) -> np.ndarray:
    """The places in a global batch that this process reads, ascending."""
    if self.mode == "pmap":
      local = batch_size // self.process_count
      return np.arange(self.process_index * local, (self.process_index + 1) * local)
    parts = self.cut().addressable_devices_indices_map((batch_size,)).values()
    return np.unique(np.concatenate([np.arange(batch_size)[part] for part in parts]))

  def shard(self, batch: Any, axis: int = 0) -> Any:
    """Cuts batches that every process holds whole along `axis`; what is cut already stays."""
    place = self.cut(axis)
    if self.process_count == 1:
      return jax.device_put(batch, place)

    def put(x):
      if isinstance(x, jax.Array) and not x.is_fully_addressable:
        return x
      x = np.asarray(x)
      return jax.make_array_from_callback(x.shape, place, lambda part: x[part])

    return jax.tree.map(put, batch)

  def place(self, batch: Any, batch_size: int) -> Any:
    """A training chunk of this process's `rows`, [K, B_local, ...], put where `train`'s function takes it."""
    if self.mode == "pmap":
      return batch
    if self.process_count == 1:
      return self.shard(batch, axis=1)
    place, rows = self.cut(1), self.rows(batch_size)

    def put(x):
      def part(index):
        examples = np.arange(batch_size)[index[1]]
        return x[(index[0], np.searchsorted(rows, examples), *index[2:])]

      return jax.make_array_from_callback((x.shape[0], batch_size, *x.shape[2:]), place, part)

    return jax.tree.map(put, batch)

  def train(self, chunk: Callable) -> Callable:
    """Compiles (state, frozen, batches) -> (state, metrics); the state is donated.

    Args:
      chunk: a pure function (state, frozen, batches, mean, gathered) over [K, B, ...] batches; `mean` averages a pytree
        over whatever parts the batch is cut into, `gathered` makes of the state's parameters those to compute with.
    """
    if self.mode == "jit":

      def whole(state, frozen, batches):
        state, metrics = chunk(state, frozen, batches, lambda tree: tree, self.gathered)
        stay = lambda x: jax.lax.with_sharding_constraint(x, self.of_state(x.shape))
        everywhere = lambda x: jax.lax.with_sharding_constraint(x, self.replicated())
        return jax.tree.map(stay, state), jax.tree.map(everywhere, metrics)

      return jax.jit(whole, donate_argnums=0, compiler_options=self.compiling("often"))

    def share(state, frozen, batches):
      return chunk(state, frozen, batches, lambda tree: jax.lax.pmean(tree, DATA), self.gathered)

    devices = list(self.mesh.devices.flat)
    mapped = jax.pmap(share, DATA, in_axes=(None, None, 1), out_axes=None, devices=devices, donate_argnums=0)
    local = len([d for d in devices if d.process_index == self.process_index])

    def run(state, frozen, batches):
      parts = lambda x: x.reshape(x.shape[0], local, x.shape[1] // local, *x.shape[2:])
      return self._everywhere(mapped(state, frozen, jax.tree.map(parts, batches)))

    return run

  def _everywhere(self, tree: Any) -> Any:
    """The copies that pmap leaves on each process's devices, as arrays of the whole mesh; nothing is moved."""
    if self.process_count == 1:
      return tree

    def join(x):
      copies = [shard.data for shard in x.addressable_shards]
      return jax.make_array_from_single_device_arrays(x.shape, self.replicated(), copies)

    return jax.tree.map(join, tree)

  def batched(self, function: Callable) -> Callable:
    """Compiles (shared, batch) -> batch: arrays of a state, or the same everywhere; and cut along axis 0.

    Arrays of a state that are cut over `fsdp` are gathered at every call (see `gathered`), before the function: a
    sampler's loop needs them in every step.
    """
    compiled = jax.jit(function, out_shardings=self.cut(), compiler_options=self.compiling("often"))

    def gather(x):
      place = getattr(x, "sharding", None)
      sharded = FSDP in getattr(place, "spec", ())
      return jax.device_put(x, self._whole(place)) if sharded else x

    return lambda shared, batch: compiled(jax.tree.map(gather, shared), self.shard(batch))

  def needs(self, function: Callable, shared: Any, batch: Any) -> tuple[int, float]:
    """Bytes on a device that a function of `batched` needs: of `shared`, and of each example of a batch.

    Args:
      function: (shared, batch) -> batch.
      shared, batch: their shapes and types. The function is compiled for this batch, and an example taken to need
        its part of all that is not `shared`, fixed costs included. That is an estimate: XLA may choose other
        algorithms for other sizes.
    """
    put = lambda place: lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place(x.shape))
    shared = jax.tree.map(put(lambda shape: self._whole(self.of_state(shape))), shared)
    batch = jax.tree.map(put(lambda shape: self.cut()), batch)
    base = sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(shared))
    compiled = jax.jit(function, out_shardings=self.cut(), compiler_options=self.compiling("once"))
    analysis = compiled.lower(shared, batch).compile().memory_analysis()
    needed = analysis.argument_size_in_bytes + analysis.temp_size_in_bytes + analysis.output_size_in_bytes
    return base, (needed - base) * self.batch_devices / len(jax.tree.leaves(batch)[0])

  def fetch(self, tree: Any) -> Any:
    """Copies to NumPy, gathered from all devices and processes."""
    if self.process_count == 1:
      return jax.device_get(tree)
    gather = jax.jit(lambda x: x, out_shardings=self.replicated())
    return jax.tree.map(lambda x: np.asarray(gather(x).addressable_data(0)), tree)

  def each_device(self, function: Callable, shapes: Sequence[tuple[int, ...]]) -> Callable:
    """Compiles arrays of the state -> [devices, arrays]: a number from what each device holds of each array."""
    specs = tuple(self.of_state(shape).spec for shape in shapes)
    stacked = lambda *parts: jnp.stack([function(part) for part in parts])[None]
    out = P(self.mesh.axis_names)
    return jax.jit(jax.shard_map(stacked, mesh=self.mesh, in_specs=specs, out_specs=out, check_vma=False))

  def owners(self, shape: tuple[int, ...]) -> list[tuple[int, Hashable]]:
    """The process of each device, and which part of an array of the state the device holds."""
    parts = self.of_state(shape).devices_indices_map(shape)
    key = lambda device: tuple((part.start, part.stop) for part in parts[device])
    return [(device.process_index, key(device)) for device in self.mesh.devices.flat]

  def agree(self, value: int) -> int:
    """Process 0's value, in every process."""
    if self.process_count == 1:
      return value
    return int(multihost_utils.broadcast_one_to_all(np.asarray(value)))

  def texts(self, text: str) -> list[str]:
    """The texts of all processes, in every process."""
    if self.process_count == 1:
      return [text]
    data = np.frombuffer(text.encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.asarray(data.size))
    buffers = multihost_utils.process_allgather(np.pad(data, (0, int(lengths.max()) - data.size)))
    return [row[:n].tobytes().decode() for row, n in zip(np.asarray(buffers, np.uint8), lengths, strict=True)]

  def asked_to_stop(self, call: int) -> bool:
    """Whether a process was sent SIGTERM and this is the call that all of them end after.

    Args:
      call: 1, 2, 3, ... in every process: XLA stops at the highest number so far plus one, and at no other.
    """
    return self.process_count > 1 and multihost_utils.reached_preemption_sync_point(call)

  def padded(self, count: int) -> int:
    """The next number that the batch's shares divide."""
    return -(-count // self.batch_devices) * self.batch_devices


def create(mode: str = "jit", data: int = 0, fsdp: int = 1, model: int = 1, small: int = SMALL) -> Parallel:
  """All devices of all processes.

  Args:
    mode: one of MODES.
    data: devices on this axis; 0 for as many as are left.
    fsdp: devices on this axis.
    model: devices on this axis.
    small: see Parallel.

  Raises:
    ConfigError: an unknown mode, or sizes that are not those of a mesh over all devices.
  """
  if mode not in MODES:
    raise ConfigError(f"mode is {mode!r}; it must be one of {', '.join(MODES)}.")
  count, sizes = jax.device_count(), {DATA: data, FSDP: fsdp, MODEL: model}
  for name, size in sizes.items():
    if size < (name != DATA):
      raise ConfigError(f"{name} is {size}; it must be at least 1.")
  if not data and count % (fsdp * model) == 0:
    sizes[DATA] = count // (fsdp * model)
  if math.prod(sizes.values()) != count:
    product = " x ".join(str(size or "the rest") for size in sizes.values())
    raise ConfigError(
      f"{' x '.join(sizes)} is {product}, which does not multiply to the {count} devices of this run; choose sizes "
      "whose product they are, and data = 0 for what is left."
    )
  if mode == "pmap" and fsdp * model > 1:
    raise ConfigError(
      f"mode is 'pmap', which copies the state to every device, but fsdp is {fsdp} and model "
      f"{model}; set these to 1, or mode to 'jit'."
    )
  shape = tuple(sizes.values())
  if mode == "pmap":  # which takes each process's devices one after the other
    return Parallel(mode, Mesh(np.asarray(jax.devices()).reshape(shape), AXES), small)
  return Parallel(mode, jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * 3), small)


def check_batch(parallel: Parallel, name: str, batch_size: int, parts: int = 1) -> None:
  """Raises ConfigError if the devices (times `parts`) do not divide a batch."""
  needed = parallel.batch_devices * parts
  if batch_size % needed:
    accumulated = f" times {parts} accumulated parts" if parts > 1 else ""
    raise ConfigError(
      f"{name} is {batch_size}, which {parallel.batch_devices} devices{accumulated} do not divide; choose a "
      f"multiple of {needed}."
    )
