"""Batches sized to the devices' free memory, and memory that is given back."""

import contextlib
import ctypes
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from diffjax.machine.parallel import Parallel
from diffjax.types import ConfigError

CONTAINER = Path("/sys/fs/cgroup")  # where Linux says what this process's container may use
SHARE = 0.75  # of the free memory, for batches that are sized to it
COMPILED = (
  "/jax/core/compile/backend_compile_duration"  # the event that jax tells of after it compiled a program
)
LONG = 1.0  # seconds of compiling that leave something to give back


def fitting(parallel: Parallel, function: Callable, shared: Any, batch: Any, at_once: int = 1) -> int:
  """The largest batch, a power of two on each device, with which a function of `Parallel.batched` fits the free memory.

  Args:
    parallel: the devices.
    function, shared, batch: see Parallel.needs.
    at_once: how many such batches are computed at the same time.

  Raises:
    ConfigError: not one example fits.
  """
  base, each = parallel.needs(function, shared, batch)
  least = min(free(device, parallel.device_count) for device in parallel.mesh.local_devices)
  least = min(map(int, parallel.texts(str(least))))  # of all processes
  fits = int((SHARE * least - base) / (each * at_once))
  if fits < 1:
    raise ConfigError(
      f"A batch cannot be sized to the memory: {least / 2**30:.3g} GiB are free on a device, of which {SHARE:.0%} may "
      f"be used, and one example takes {(base + each * at_once) / 2**30:.3g} GiB. Free memory, take a smaller "
      "model, or name the batch size in place of 0."
    )
  return parallel.batch_devices << (fits.bit_length() - 1)


def free(device: Any, devices: int) -> int:
  """Bytes; of a CPU, which keeps no account, what system and container (cgroup v2) leave, by the `devices` of the run.

  So all processes of a run on CPUs are taken to be on one machine, and pages that the system could take back from its
  cache count as used: rather too little than too much.

  Raises:
    ConfigError: the system does not say (macOS).
  """
  if account := device.memory_stats():
    return account["bytes_limit"] - account["bytes_in_use"]
  if "SC_AVPHYS_PAGES" not in os.sysconf_names:
    raise ConfigError("batch_size is 0, but this system does not say what memory is free; name a size.")
  room = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
  with contextlib.suppress(OSError, ValueError):  # no such file, or no limit, which is the word "max"
    most, used = (int((CONTAINER / name).read_text()) for name in ("memory.max", "memory.current"))
    room = min(room, most - used)
  return max(room, 0) // devices


@contextlib.contextmanager
def given_back_after_compiling() -> Iterator[None]:
  """Within it a program that took LONG to compile runs after what its compiler held was given back, not beside it."""

  def finished(name: str, seconds: float, **_) -> None:
    if name == COMPILED and seconds > LONG:
      give_back()

  jax.monitoring.register_event_duration_secs_listener(finished)
  try:
    yield
  finally:
    jax.monitoring.unregister_event_duration_listener(finished)


def give_back() -> None:
  """Gives the system what this process has freed and glibc keeps for it: after a compile, a GiB of the compiler's."""
  library = ctypes.CDLL(None)
  if hasattr(library, "malloc_trim"):  # glibc's alone
    library.malloc_trim(0)
