"""Devices and processes: the only file that knows them.

Two ways to spread one pure step over the devices, with the same numbers to float32 tolerance:

    jit    the global batch is one sharded array; XLA inserts the collectives
    pmap   every device takes its share, and `mean` averages gradients and metrics across them

In both the state is replicated and the randomness of an example hangs on its place in the global batch.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from diffjax.types import ConfigError

AXIS = "data"
MODES = ("jit", "pmap")


@dataclasses.dataclass(frozen=True)
class Parallel:
  """How functions are mapped over the devices.

  Attributes:
    mode: one of MODES.
    mesh: all devices on one axis.
  """

  mode: str
  mesh: Mesh

  @property
  def device_count(self) -> int:
    """Devices of all processes."""
    return self.mesh.size

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
    return Parallel("jit", Mesh(np.asarray(jax.local_devices()), (AXIS,)))

  @property
  def platform(self) -> str:
    """cpu, gpu or tpu."""
    return self.mesh.devices.flat[0].platform

  def sharding(self, axis: int | None = None) -> NamedSharding:
    """Replicated, or sharded along one array axis."""
    return NamedSharding(self.mesh, P() if axis is None else P(*(None,) * axis, AXIS))

  def init(self, make: Callable[[], Any]) -> Any:
    """The result of a function without arguments, computed where it will live."""
    return jax.jit(make, out_shardings=self.sharding())()

  def abstract(self, make: Callable[[], Any]) -> Any:
    """Shapes, types and shardings of what `init` returns."""
    place = self.sharding()
    leaf = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)  # noqa: E731
    return jax.tree.map(leaf, jax.eval_shape(make))

  def replicate(self, tree: Any) -> Any:
    """Puts the same value on every device."""
    return jax.device_put(tree, self.sharding())

  def shard(self, batch: Any, axis: int = 0) -> Any:
    """Makes global arrays of this process's share of a batch, cut along `axis`."""
    place = self.sharding(axis)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(place, np.asarray(x)), batch)

  def train(self, chunk: Callable) -> Callable:
    """Compiles (state, batches, mean) -> (state, metrics); the state is donated.

    Args:
      chunk: a pure function over [K, B, ...] batches; `mean` averages a pytree over whatever parts the batch
        is cut into.
    """
    if self.mode == "jit":
      whole = lambda state, batches: chunk(state, batches, lambda tree: tree)  # noqa: E731
      return jax.jit(whole, out_shardings=self.sharding(), donate_argnums=0)

    def share(state, batches):
      return chunk(state, batches, lambda tree: jax.lax.pmean(tree, AXIS))

    devices = list(self.mesh.devices.flat)
    mapped = jax.pmap(share, AXIS, in_axes=(None, 1), out_axes=None, devices=devices, donate_argnums=0)
    local = len([d for d in devices if d.process_index == self.process_index])

    def run(state, batches):
      cut = lambda x: x.reshape(x.shape[0], local, x.shape[1] // local, *x.shape[2:])  # noqa: E731
      return mapped(state, jax.tree.map(cut, batches))

    return run

  def batched(self, function: Callable) -> Callable:
    """Compiles (shared, batch) -> batch: pytrees that are the same everywhere, and cut along axis 0."""
    if self.mode == "jit":
      cut = self.sharding(0)
      return jax.jit(function, in_shardings=(self.sharding(), cut), out_shardings=cut)
    devices = list(self.mesh.devices.flat)
    mapped = jax.pmap(function, AXIS, in_axes=(None, 0), out_axes=0, devices=devices)

    def run(shared, batch):
      parts = jax.tree.map(lambda x: x.reshape(len(devices), -1, *x.shape[1:]), batch)
      return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), mapped(shared, parts))

    return run

  def place(self, batch: Any) -> Any:
    """A training chunk [K, B_local, ...], put where `train`'s function takes it."""
    return self.shard(batch, axis=1) if self.mode == "jit" else batch

  def fetch(self, tree: Any) -> Any:
    """Copies to NumPy, gathered from all devices and processes."""
    if self.process_count == 1:
      return jax.device_get(tree)
    gather = jax.jit(lambda x: x, out_shardings=self.sharding())
    return jax.tree.map(lambda x: np.asarray(gather(x).addressable_data(0)), tree)

  def agree(self, value: int) -> int:
    """Process 0's value, in every process."""
    if self.process_count == 1:
      return value
    return int(multihost_utils.broadcast_one_to_all(np.asarray(value)))

  def padded(self, count: int) -> int:
    """The next multiple of the device count."""
    return -(-count // self.device_count) * self.device_count


def create(mode: str = "jit") -> Parallel:
  """All devices of all processes on one mesh axis."""
  if mode not in MODES:
    raise ConfigError(f"config.parallel.mode is {mode!r}; it must be one of {', '.join(MODES)}.")
  return Parallel(mode, Mesh(np.asarray(jax.devices()), (AXIS,)))


def check_batch(parallel: Parallel, name: str, batch_size: int, parts: int = 1) -> None:
  """Raises ConfigError if the devices (times `parts`) do not divide a batch."""
  needed = parallel.device_count * parts
  if batch_size % needed:
    accumulated = f" times {parts} accumulated parts" if parts > 1 else ""
    raise ConfigError(
      f"{name} is {batch_size}, which {parallel.device_count} devices{accumulated} do not divide; choose a "
      f"multiple of {needed}."
    )
