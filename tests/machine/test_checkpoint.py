"""Checkpoints on other devices than they were made on, kept and dropped, torn and damaged; checksums."""

import asyncio
import dataclasses
import errno
import gc
import json
import logging
import shutil
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
import tensorstore
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from diffjax.machine import checkpoint, state
from diffjax.machine.checkpoint import Checkpoints
from diffjax.machine.parallel import Parallel
from diffjax.types import ConfigError, RunError

# orbax leaves reads of other arrays unawaited when one fails: of these nothing is to be heard.
pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")


def on(count):
  return Parallel("jit", Mesh(np.asarray(jax.devices()[:count]), ("data",)))


def make(seed=0, size=64):
  keys = jax.random.split(jax.random.key(seed), 2)
  params = {
    "w": jax.random.normal(keys[0], (size, 8)),
    "half": jax.random.normal(keys[1], (5,), jnp.bfloat16),
  }
  return state.create(params, optax.adam(1e-3), ("ema_0.9", "ema_0.99"), jax.random.key(seed + 1))


def at(step, **changes):
  return dataclasses.replace(make(**changes), step=jnp.int32(step))


def raw(tree):
  """The bytes of every leaf, by path."""
  data = lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {jax.tree_util.keystr(path): (x.dtype, x.shape, np.asarray(data(x)).tobytes()) for path, x in leaves}


def flip(path, place=0.5, bit=4):
  data = bytearray(path.read_bytes())
  data[int(len(data) * place)] ^= 1 << bit
  path.write_bytes(data)


def unseal(about):
  """Takes away the digest, as of a checkpoint of an earlier version."""
  record = json.loads(about.read_text())
  del record["digest"]
  about.write_text(json.dumps(record))


def data_files(folder):
  """A checkpoint's files of arrays, the largest first."""
  files = [file for file in (folder / "state").rglob("d/*") if file.is_file()]
  return sorted(files, key=lambda file: -file.stat().st_size)


@pytest.mark.parametrize("saved_on, restored_on", [(8, 8), (8, 1), (1, 8)])
def test_a_state_comes_back_bit_for_bit_on_any_number_of_devices(tmp_path, saved_on, restored_on):
  one, other = on(saved_on), on(restored_on)
  whole = one.replicate(at(3))
  rows = NamedSharding(one.mesh, P("data"))
  whole = dataclasses.replace(whole, params=whole.params | {"w": jax.device_put(whole.params["w"], rows)})
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(whole, {"config": {"a": 1}})
  with Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.steps() == [3] and checkpoints.latest() == 3
    result = checkpoints.restore(other.abstract(make), 3)
  assert raw(result) == raw(at(3)) and len(raw(result)) == 13
  assert raw(result) != raw(at(3, seed=1))
  for leaf in jax.tree.leaves(result):
    assert leaf.sharding.device_set == set(other.mesh.devices.flat)


def test_the_newest_are_kept_and_every_so_many(tmp_path):
  with Checkpoints(tmp_path, keep=2, keep_every=3) as checkpoints:
    assert checkpoints.latest() is None and checkpoints.steps() == []
    for step in (2, 3, 4, 5, 6, 7):
      checkpoints.save(at(step, size=8), {})
  with Checkpoints(tmp_path, keep=2, keep_every=3) as checkpoints:
    assert checkpoints.steps() == [3, 6, 7]
  assert {path.name for path in tmp_path.iterdir()} == {"3", "6", "7"}


def test_a_step_that_is_saved_is_not_saved_again(tmp_path):
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(at(1), {})
    checkpoints.wait()
    checkpoints.save(at(1, seed=5), {})
    assert raw(checkpoints.restore(on(8).abstract(make), 1)) == raw(at(1))


def test_a_save_that_failed_is_told_by_the_next_and_at_the_end(tmp_path, monkeypatch):
  def full(manager):
    raise OSError(errno.ENOSPC, "No space left on device")

  cause = r"\(No space left on device; .* are free there\)"
  message = rf"could not be saved in {tmp_path} {cause}.* the same command starts"
  with pytest.raises(RunError, match=message), Checkpoints(tmp_path) as checkpoints:
    monkeypatch.setattr(ocp.CheckpointManager, "wait_until_finished", full)
    with pytest.raises(RunError, match=message):
      checkpoints.save(at(2), {})
  with pytest.raises(KeyError), Checkpoints(tmp_path):  # the first error is the one to tell
    raise KeyError


def test_a_flipped_byte_is_detected_and_the_way_out_is_named(tmp_path):
  with Checkpoints(tmp_path / "whole", keep=2) as checkpoints:
    for step in (4, 9):
      checkpoints.save(at(step, size=1024), {})
  abstract = on(1).abstract(lambda: make(size=1024))
  reasons = []
  for number, place in enumerate((0.3, 0.5, 0.7)):
    folder = tmp_path / str(number)
    shutil.copytree(tmp_path / "whole", folder)
    flip(data_files(folder / "9")[0], place)
    with Checkpoints(folder, keep=2) as checkpoints:
      with pytest.raises(RunError) as error:
        checkpoints.restore(abstract, 9)
      assert f"{folder / '9'} is damaged" in str(error.value)
      assert str(error.value).endswith(
        "Bring it back from a copy, or move it out of the workdir to go on from step 4."
      )
      reasons.append(str(error.value))
      assert raw(checkpoints.restore(abstract, 4)) == raw(at(4, size=1024))
  assert any("the bytes of" in reason for reason in reasons)


def left_behind(promise, future):
  """A read that another's failure leaves in an event loop; the disk answers it once that is closed."""

  async def read():
    await future

  async def reads():
    waiting = asyncio.ensure_future(read())
    await asyncio.sleep(0)
    assert not waiting.done()
    raise ValueError("another is damaged")

  loop = asyncio.new_event_loop()
  try:
    loop.run_until_complete(reads())
  finally:
    loop.close()


@pytest.mark.parametrize("mute", [False, True])
def test_reads_that_a_failure_leaves_in_a_closed_loop_print_nothing(mute, tmp_path, monkeypatch):
  lines, log, handler = [], logging.getLogger("asyncio"), logging.Handler()
  handler.emit = lambda record: lines.append(record.getMessage())
  monkeypatch.setattr(sys, "unraisablehook", lambda about: lines.append(str(about.exc_value)))
  monkeypatch.setattr(log, "filters", [])
  monkeypatch.setattr(log, "handlers", [handler])
  monkeypatch.setattr(checkpoint, "_mute", checkpoint._mute.__wrapped__ if mute else lambda: None)
  promise, future = tensorstore.Promise.new()
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(at(2), {})
    monkeypatch.setattr(checkpoints._manager, "restore", lambda *_, **__: left_behind(promise, future))
    with pytest.raises(RunError, match="2 is damaged: it cannot be read"):
      checkpoints.restore(on(1).abstract(make), 2)
  promise.set_result(1)
  deadline = time.monotonic() + (0.2 if mute else 30)
  while time.monotonic() < deadline and (mute or len(lines) < 2):
    gc.collect()
    time.sleep(0.01)
  if mute:
    assert not lines
  else:  # so it would be
    assert "Event loop is closed" in lines and any("was destroyed" in line for line in lines)


def test_what_is_missing_or_cut_short_is_detected(tmp_path):
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(at(2), {})
  (tmp_path / "2" / "state" / "_METADATA").write_bytes(b"{")
  with Checkpoints(tmp_path) as checkpoints:
    with pytest.raises(RunError, match="2 is damaged: it cannot be read .* to start again"):
      checkpoints.restore(on(1).abstract(make), 2)
  for part in ("state", "about"):
    (tmp_path / "2" / part).rename(tmp_path / part)
    with Checkpoints(tmp_path) as checkpoints:
      with pytest.raises(RunError, match=f"2 is damaged: it has no {part}"):
        checkpoints.about(2)
    (tmp_path / part).rename(tmp_path / "2" / part)
  (tmp_path / "2" / "about" / "metadata").write_text('{"step": ')
  with Checkpoints(tmp_path) as checkpoints:
    with pytest.raises(RunError, match="2 is damaged: what it says of itself cannot be read"):
      checkpoints.about(2)


def test_a_checkpoint_that_was_renamed_is_told_from_its_own_step(tmp_path):
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(at(50), {})
  (tmp_path / "50").rename(tmp_path / "55")
  with Checkpoints(tmp_path) as checkpoints:
    for read in (
      lambda: checkpoints.about(55),
      lambda: checkpoints.restore(on(1).abstract(make), 55),
      lambda: checkpoints.restore_weights(on(1).abstract(lambda: make().params), 55, "raw"),
    ):
      with pytest.raises(RunError, match=f"{tmp_path / '55'} holds the checkpoint of step 50"):
        read()


def test_a_checkpoint_that_a_live_run_removes_is_not_called_damaged(tmp_path):
  with Checkpoints(tmp_path) as live, Checkpoints(tmp_path) as empty:
    assert empty.steps() == []
    live.save(at(2), {})
    live.wait()
    with Checkpoints(tmp_path) as reader:
      live.save(at(3), {})  # the first goes, once this is whole
      live.wait()
      assert reader.steps() == [2]
      with pytest.raises(RunError, match="2 was removed while it was read.*takes the newest") as error:
        reader.restore(on(1).abstract(make), 2)
  assert "damaged" not in str(error.value)


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path):
  (tmp_path / "checkpoints").write_text("x")
  with pytest.raises(ConfigError, match=f"{tmp_path / 'checkpoints'} is a file"):
    Checkpoints(tmp_path / "checkpoints")


def test_room_is_needed_for_those_that_are_kept_and_the_one_that_is_written(tmp_path):
  each = sum(int(np.prod(shape)) * width for shape, width in 5 * [((64, 8), 4), ((5,), 2)])  # w, ema, moments
  each += 3 * 4 + 2 * 4 - 4  # step, count; the key
  with Checkpoints(tmp_path, keep=2) as checkpoints:
    assert checkpoint.bytes_of(at(1)) == each
    checkpoints.require_room(at(1), 3 * each)
    with pytest.raises(ConfigError, match=r"needs room for .* kB of checkpoints .* are free"):
      checkpoints.require_room(at(1), 3 * each - 1)
    for step in (1, 2, 3):
      checkpoints.save(at(step), {})
    checkpoints.wait()
    checkpoints.require_room(at(3), each)


def test_a_changed_checksum_is_detected(tmp_path):
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(at(2), {})
  about = tmp_path / "2" / "about" / "metadata"
  wanted = str(int(state.fingerprint(at(2).params)["['w']"]))
  assert wanted in about.read_text()
  about.write_text(about.read_text().replace(wanted, str(int(wanted) ^ 1)))
  with Checkpoints(tmp_path) as checkpoints:
    with pytest.raises(RunError, match="2 is damaged: what it says of itself is not what was saved"):
      checkpoints.restore(on(1).abstract(make), 2)
  unseal(about)
  with Checkpoints(tmp_path) as checkpoints:
    with pytest.raises(RunError, match=r"the bytes of .*\['w'\] are not those that were saved"):
      checkpoints.restore(on(1).abstract(make), 2)


def test_a_state_of_another_model_is_refused(tmp_path):
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(at(2), {"commit": "abc"})
    for size, read in (
      (32, lambda: checkpoints.restore(on(1).abstract(lambda: make(size=32)), 2)),
      (16, lambda: checkpoints.restore_weights(on(1).abstract(lambda: make(size=16).params), 2, "ema_0.9")),
    ):
      with pytest.raises(RunError, match="whole, but of another model") as error:
        read()
      message = str(error.value)
      assert f"['w'] is float32[64, 8] there and float32[{size}, 8] here" in message and "abc" in message
      assert "damaged" not in message and "emove" not in message
    more = on(1).abstract(lambda: make().params | {"b": jnp.zeros(3)})
    with pytest.raises(RunError, match=r"\['b'\] is missing there and float32\[3\] here"):
      checkpoints.restore_weights(more, 2, "raw")
    with pytest.raises(RunError, match=r"\['half'\] is bfloat16\[5\] there and missing here"):
      checkpoints.restore_weights({"w": more["w"]}, 2, "raw")


def test_an_interrupted_save_is_no_checkpoint(tmp_path):
  with Checkpoints(tmp_path, keep=2) as checkpoints:
    checkpoints.save(at(1), {})
    checkpoints.wait()
    before = {path.name for path in tmp_path.iterdir()}
    checkpoints.save(at(2), {})
    unfinished = {path.name for path in tmp_path.iterdir()} - before
    checkpoints.wait()
  (tmp_path / "2").rename(tmp_path / (unfinished - {"2"} or {"2.orbax-checkpoint-tmp"}).pop())
  with Checkpoints(tmp_path, keep=2) as checkpoints:
    assert checkpoints.steps() == [1] and checkpoints.latest() == 1
    assert raw(checkpoints.restore(on(8).abstract(make), 1)) == raw(at(1))
    checkpoints.save(at(2, seed=3), {})
  with Checkpoints(tmp_path, keep=2) as checkpoints:
    assert raw(checkpoints.restore(on(8).abstract(make), 2)) == raw(at(2, seed=3))


DTYPES = (jnp.float32, jnp.bfloat16, jnp.float16, jnp.int32, jnp.uint8, jnp.int16, jnp.bool_)
_checksum = jax.jit(state.fingerprint)


@settings(max_examples=60)
@given(st.sampled_from(DTYPES), st.integers(0, 2**32 - 1), st.integers(0, 10**6), st.data())
def test_any_single_flipped_bit_changes_the_checksum_of_its_leaf_alone(dtype, seed, place, data):
  size = np.dtype(dtype).itemsize
  values = np.random.default_rng(seed).integers(0, 256, 24 * size, np.uint8)
  if dtype == jnp.bool_:
    values &= 1
  changed = values.copy()
  changed[place % len(values)] ^= 1 << (0 if dtype == jnp.bool_ else data.draw(st.integers(0, 7)))
  leaf = lambda x: jnp.asarray(x.view(dtype).reshape(4, 6))
  before = _checksum({"a": leaf(values), "b": leaf(values)})
  after = _checksum({"a": leaf(changed), "b": leaf(values)})
  assert int(before["['a']"]) == int(before["['b']"]) == int(after["['b']"]) != int(after["['a']"])


def murmur(word):
  """MurmurHash3's finaliser in Python's integers."""
  word = ((word ^ word >> 16) * 0x85EBCA6B) % 2**32
  word = ((word ^ word >> 13) * 0xC2B2AE35) % 2**32
  return word ^ word >> 16


def test_the_checksum_is_the_sum_of_the_mixed_words():
  # Its published test vectors: of nothing MurmurHash3 is the finaliser of the seed.
  vectors = {0: 0, 1: 0x514E28B7, 0xFFFFFFFF: 0x81F16F39}
  result = state.mixed(jnp.asarray(list(vectors), jnp.uint32))
  np.testing.assert_array_equal(result, np.asarray(list(vectors.values()), np.uint32))

  of = lambda words: sum(murmur(word ^ murmur(i)) for i, word in enumerate(words)) % 2**32
  values = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
  assert checksum(values) == of(values.view(np.uint32).ravel().tolist())
  key = jax.random.key(2**40 + 12345)
  assert int(state.fingerprint([key])["[0]"]) == of(np.asarray(jax.random.key_data(key)).tolist())


def checksum(values):
  return int(state.checksum(jnp.asarray(values)))


def test_every_single_bit_counts():
  values = np.random.default_rng(0).normal(size=7).astype(np.float32)
  bits = 1 << np.arange(32, dtype=np.uint32)
  changed = np.tile(values.view(np.uint32), (7, 32, 1))
  for place in range(7):
    changed[place, :, place] ^= bits
  result = jax.vmap(jax.vmap(state.checksum))(jnp.asarray(changed))
  assert len({*np.asarray(result).ravel().tolist(), checksum(values)}) == 7 * 32 + 1


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
def test_pairs_of_flipped_signs_and_changed_places_are_seen(dtype):
  values = np.random.default_rng(0).normal(size=24).astype(dtype)
  pairs = [(i, j) for i in range(24) for j in range(i)]
  signs, swapped = np.tile(values, (2, len(pairs), 1))
  for row, pair in enumerate(pairs):
    signs[row, pair] *= -1
    swapped[row, pair] = swapped[row, pair[::-1]]
  orders = np.stack([np.random.default_rng(seed).permutation(values) for seed in range(500)])
  rotated = np.stack([np.roll(values, shift) for shift in range(1, 24)])
  every = np.stack([values, -values, values[::-1], *signs, *swapped, *orders, *rotated])
  result = np.asarray(jax.vmap(state.checksum)(jnp.asarray(every)))
  assert len(np.unique(result)) == len(np.unique(np.ascontiguousarray(every).view(np.uint8), axis=0)) > 1000


def test_checksums_of_another_kind_are_not_taken_for_damage(tmp_path):
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(at(2), {"commit": "abc"})
  about = tmp_path / "2" / "about" / "metadata"
  unseal(about)
  before = about.read_text()
  for kind, named in (('"checksum": "sum", ', "sum"), ("", "not named")):
    about.write_text(before.replace(f'"checksum": "{state.CHECKSUM}", ', kind))
    with Checkpoints(tmp_path) as checkpoints:
      with pytest.raises(RunError, match=rf"of another kind \({named}\).* saved it \(commit abc\)") as error:
        checkpoints.restore(on(1).abstract(make), 2)
      assert "damaged" not in str(error.value) and "emove" not in str(error.value)


def test_every_bit_of_a_wide_number_counts():
  with jax.enable_x64(True):
    checksums = {int(state.fingerprint([jnp.asarray([1, 2**k + 1], jnp.int64)])["[0]"]) for k in range(1, 63)}
  assert len(checksums) == 62


def test_the_checksum_does_not_know_the_sharding():
  tree = {"w": jax.random.normal(jax.random.key(0), (16, 24)), "n": jnp.arange(8)}
  mesh = on(8).mesh
  square = Mesh(np.asarray(jax.devices()).reshape(4, 2), ("x", "y"))
  places = (
    NamedSharding(on(1).mesh, P()),
    NamedSharding(mesh, P()),
    NamedSharding(mesh, P("data")),
    NamedSharding(square, P(("x", "y"))),
  )
  results = [jax.device_get(_checksum(jax.device_put(tree, place))) for place in places]
  twice = {"w": jax.device_put(tree["w"], NamedSharding(square, P("x", "y"))), "n": tree["n"]}
  results.append(jax.device_get(_checksum(twice)))
  assert all(one == results[0] for one in results) and results[0]["['w']"] != results[0]["['n']"]
