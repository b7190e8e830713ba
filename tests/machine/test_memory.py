"""What memory is free, and what is given back."""

import ctypes
from pathlib import Path

import jax
import pytest

from diffjax.machine import memory
from diffjax.types import ConfigError


def test_free_memory_is_what_the_container_leaves(monkeypatch, tmp_path):
  monkeypatch.setattr(memory, "CONTAINER", tmp_path)
  (device, *_), count = jax.devices(), jax.device_count()
  system = memory.free(device, count)
  assert system > 2**20
  (tmp_path / "memory.current").write_text("1000\n")
  (tmp_path / "memory.max").write_text("max\n")
  assert memory.free(device, count) > system / 2
  (tmp_path / "memory.max").write_text("9000\n")
  assert memory.free(device, count) == 8000 // count
  monkeypatch.setattr(memory.os, "sysconf_names", {})
  with pytest.raises(ConfigError, match="name a size"):
    memory.free(device, count)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="no glibc")
def test_what_was_freed_is_given_back():
  library, size, count = ctypes.CDLL(None), 2**16, 1000  # too small for pages of their own
  library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
  resident = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * memory.os.sysconf("SC_PAGE_SIZE")
  pieces = [library.malloc(size) for _ in range(count)]
  for piece in pieces:
    ctypes.memset(piece, 1, size)
  for piece in pieces[:-1]:  # the last one holds the end of the heap
    library.free(piece)
  before = resident()
  memory.give_back()
  assert before - resident() > size * count / 2
  library.free(pieces[-1])


def test_what_a_compiler_held_is_given_back_before_its_program_runs(monkeypatch):
  told, happened = [], []
  monkeypatch.setattr(memory, "LONG", 0.0)
  monkeypatch.setattr(memory, "give_back", lambda: happened.append("given back"))

  def run(x):
    told.append(x)
    jax.debug.callback(lambda: happened.append("run"))
    return x + len(told)

  with memory.given_back_after_compiling():
    jax.block_until_ready(jax.jit(run)(1.0))
    jax.effects_barrier()
  assert happened[-2:] == ["given back", "run"]
  count = len(happened)
  jax.block_until_ready(jax.jit(lambda x: run(x) + 1)(1.0))
  jax.effects_barrier()
  assert happened[count:] == ["run"]
