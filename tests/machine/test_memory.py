"""What memory is free."""

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
