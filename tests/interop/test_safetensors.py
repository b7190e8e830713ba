"""The format written out by hand, types and shards, and everything that a broken file can be."""

import json
import struct

import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.interop import safetensors
from diffjax.types import ConfigError

VALUES = {
  "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
  "b": np.float32(7),
  "empty": np.zeros((0, 3), np.float32),
}


def content(header, data):
  text = header if isinstance(header, bytes) else json.dumps(header).encode()
  return struct.pack("<Q", len(text)) + text + data


def entry(dtype, shape, begin, end):
  return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def written(path, values, dtype="F32"):
  header, data = {"__metadata__": {"format": "pt"}}, b""
  for name, value in values.items():
    header[name] = entry(dtype, value.shape, len(data), len(data) + value.nbytes)
    data += value.tobytes()
  path.write_bytes(content(header, data))
  return path


def test_tensors_come_back(tmp_path):
  got = safetensors.read(written(tmp_path / "m.safetensors", VALUES))
  assert got.keys() == VALUES.keys()
  for name, value in VALUES.items():
    assert got[name].dtype == value.dtype and got[name].shape == value.shape
    np.testing.assert_array_equal(got[name], value)
    assert not got[name].flags.writeable


@pytest.mark.parametrize(
  "dtype, numpy",
  [
    ("F64", "<f8"),
    ("F16", "<f2"),
    ("I64", "<i8"),
    ("I32", "<i4"),
    ("I16", "<i2"),
    ("I8", "i1"),
    ("U8", "u1"),
  ],
)
def test_every_type(tmp_path, dtype, numpy):
  value = np.array([0, 1, 100], numpy)
  got = safetensors.read(written(tmp_path / "m.safetensors", {"x": value}, dtype))["x"]
  assert got.dtype == np.dtype(numpy)
  np.testing.assert_array_equal(got, [0, 1, 100])


def test_bfloat16_is_the_upper_half_of_float32_and_may_lie_unaligned(tmp_path):
  numbers = np.array([1.5, -3, 2**100], np.float32)
  upper = (numbers.view(np.uint32) >> 16).astype("<u2")
  header = {"flag": entry("BOOL", (1,), 0, 1), "x": entry("BF16", (3,), 1, 7)}
  path = tmp_path / "m.safetensors"
  path.write_bytes(content(header, b"\1" + upper.tobytes()))
  got = safetensors.read(path)
  assert got["x"].dtype == jnp.bfloat16 and got["flag"].dtype == bool
  np.testing.assert_array_equal(np.float32(got["x"]), numbers)
  np.testing.assert_array_equal(got["flag"], [True])


X = entry("F32", (2,), 0, 8)
BROKEN = {
  "no header": (b"\1\2", "its header does not fit in it"),
  "nothing": (b"", "its header does not fit in it"),
  "header cut off": (struct.pack("<Q", 99) + b"{}", "its header does not fit in it"),
  "endless header": (struct.pack("<Q", 2**63) + b"{}", "its header does not fit in it"),
  "no JSON": (content(b"{,}", b""), "its header is not JSON"),
  "no table": (content(b"[1]", b""), "its header is no table"),
  "a name twice": (content(b'{"x": 1, "x": 2}', b""), "a name comes twice"),
  "unknown type": (content({"x": X | {"dtype": "C64"}}, bytes(8)), "which cannot be read"),
  "no shape": (content({"x": {"dtype": "F32"}}, bytes(8)), "which cannot be read"),
  "no entry": (content({"x": 3}, bytes(8)), "which cannot be read"),
  "three offsets": (content({"x": X | {"data_offsets": [0, 4, 8]}}, bytes(8)), "which cannot be read"),
  "data cut off": (content({"x": X}, bytes(7)), r"should be F32 \[2\] in bytes 0 to 8 of 7"),
  "another size": (content({"x": X | {"shape": [3]}}, bytes(8)), r"should be F32 \[3\]"),
  "negative shape": (content({"x": X | {"shape": [-1, -2]}}, bytes(8)), "cut off or broken"),
  "negative offset": (content({"x": X | {"data_offsets": [-8, 0]}}, bytes(8)), "cut off or broken"),
  "shape of floats": (content({"x": X | {"shape": [2.0]}}, bytes(8)), "cut off or broken"),
  "overlap": (content({"x": X, "y": entry("F32", (1,), 4, 8)}, bytes(8)), "overlap or leave gaps at byte 4"),
  "gap": (content({"x": X, "y": entry("F32", (1,), 12, 16)}, bytes(16)), "overlap or leave gaps at byte 8"),
  "bytes left over": (content({"x": X}, bytes(9)), "1 bytes at its end belong to no tensor"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused(tmp_path, name):
  path = tmp_path / "m.safetensors"
  path.write_bytes(BROKEN[name][0])
  with pytest.raises(ConfigError, match=BROKEN[name][1]):
    safetensors.read(path)


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(ConfigError, match="no.safetensors is not there"):
    safetensors.read(tmp_path / "no.safetensors")


def sharded(folder, places, index=None):
  for file in set(places.values()):
    written(folder / file, {name: VALUES[name] for name, place in places.items() if place == file})
  path = folder / "m.safetensors.index.json"
  path.write_text(json.dumps({"metadata": {}, "weight_map": places if index is None else index}))
  return path


def test_shards_are_read_by_their_index(tmp_path):
  got = safetensors.read(sharded(tmp_path, {"a.weight": "1.safetensors", "b": "2.safetensors"}))
  assert list(got) == ["a.weight", "b"]
  np.testing.assert_array_equal(got["a.weight"], VALUES["a.weight"])
  np.testing.assert_array_equal(got["b"], 7)


@pytest.mark.parametrize(
  "index, message",
  [
    ({"a.weight": "1.safetensors"}, "differ about 1 tensors, such as b"),
    ({"a.weight": "1.safetensors", "b": "1.safetensors", "c": "1.safetensors"}, "such as c"),
    ({"a.weight": "../1.safetensors"}, "no index of safetensors files"),
    ({"a.weight": "2.safetensors"}, "2.safetensors is not there"),
    ([], "no index of safetensors files"),
  ],
)
def test_an_index_that_does_not_fit_its_files_is_refused(tmp_path, index, message):
  with pytest.raises(ConfigError, match=message):
    safetensors.read(sharded(tmp_path, {"a.weight": "1.safetensors", "b": "1.safetensors"}, index))
