"""Tensors from files in the safetensors format, which hold numbers and names and nothing to execute.

    8 bytes     length N of the header, little-endian
    N bytes     JSON: {name: {"dtype": "F32", "shape": [...], "data_offsets": [begin, end]}, "__metadata__": {...}}
    the rest    the numbers of one tensor behind the other, little-endian, rows first

Large models are cut into several files, which an index beside them names: {"weight_map": {tensor: file}}.
"""

import json
import math
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from diffjax.types import ConfigError

DTYPES = {
  "F64": np.dtype("<f8"),
  "F32": np.dtype("<f4"),
  "F16": np.dtype("<f2"),
  "BF16": np.dtype(jnp.bfloat16),
  "I64": np.dtype("<i8"),
  "I32": np.dtype("<i4"),
  "I16": np.dtype("<i2"),
  "I8": np.dtype("i1"),
  "U8": np.dtype("u1"),
  "BOOL": np.dtype("?"),
}
LONGEST_HEADER = 100_000_000  # bytes, as the format's own reader has it


def read(path: str | Path) -> dict[str, np.ndarray]:
  """The tensors of a file by name, or of all files that an index (a file .json) names.

  Args:
    path: of a .safetensors file, or of a .safetensors.index.json.

  Returns:
    Read-only arrays that stay in the file until they are used; their numbers may lie unaligned.

  Raises:
    ConfigError: a file is missing, cut off, or not in the format; or an index and its files differ.
  """
  path = Path(path)
  return _read_shards(path) if path.suffix == ".json" else _read_file(path)


def _read_shards(path: Path) -> dict[str, np.ndarray]:
  index = _json(_bytes(path), path)
  places = index.get("weight_map")
  if not isinstance(places, dict) or not all(_is_file_name(file) for file in places.values()):
    raise ConfigError(
      f"{path} is no index of safetensors files: it has no weight_map of tensors to file names."
    )
  shards = {file: _read_file(path.parent / file) for file in sorted(set(places.values()))}
  contents = {name: file for file, shard in shards.items() for name in shard}
  if contents != places or len(contents) != sum(map(len, shards.values())):
    wrong = sorted(name for name in contents.keys() | places if contents.get(name) != places.get(name))
    raise ConfigError(
      f"{path} and its files differ about {len(wrong)} tensors, such as {', '.join(wrong[:3])}."
    )
  return {name: shards[file][name] for name, file in places.items()}


def _is_file_name(file) -> bool:
  return isinstance(file, str) and Path(file).name == file


def _read_file(path: Path) -> dict[str, np.ndarray]:
  content = _bytes(path)
  length = int.from_bytes(bytes(content[:8]), "little")
  if len(content) < 8 or length > min(len(content) - 8, LONGEST_HEADER):
    raise ConfigError(f"{path} is not a safetensors file, or it is cut off: its header does not fit in it.")
  header, data = _json(content[8 : 8 + length], path), content[8 + length :]
  header.pop("__metadata__", None)
  tensors, spans = {}, []
  for name, entry in header.items():
    tensors[name], span = _tensor(name, entry, data, path)
    spans.append(span)
  end = 0
  for begin, stop in sorted(spans):
    if begin != end:
      raise ConfigError(f"{path} is broken: its tensors overlap or leave gaps at byte {min(begin, end)}.")
    end = stop
  if end != len(data):
    raise ConfigError(f"{path} is broken: {len(data) - end} bytes at its end belong to no tensor.")
  return tensors


def _tensor(name, entry, data, path):
  try:
    dtype, shape, (begin, end) = DTYPES[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
    sound = all(type(n) is int and n >= 0 for n in (*shape, begin, end))
  except (KeyError, TypeError, ValueError):
    raise ConfigError(f"{path}: the header says of {name} {entry!r}, which cannot be read.") from None
  if not sound or not begin <= end <= len(data) or end - begin != math.prod(shape) * dtype.itemsize:
    raise ConfigError(
      f"{path}: {name} should be {entry['dtype']} {list(shape)} in bytes {begin} to {end} of {len(data)}; the file"
      " is cut off or broken."
    )
  return data[begin:end].view(dtype).reshape(shape), (begin, end)


def _bytes(path: Path) -> np.ndarray:
  if not path.is_file():
    raise ConfigError(f"the weights file {path} is not there.")
  return np.memmap(path, np.uint8, "r").view(np.ndarray) if path.stat().st_size else np.zeros(0, np.uint8)


def _json(content: np.ndarray, path: Path) -> dict:
  def once(pairs):
    if len(pairs) != len(dict(pairs)):
      raise ValueError("a name comes twice")
    return dict(pairs)

  try:
    value = json.loads(bytes(content), object_pairs_hook=once)
  except (ValueError, RecursionError) as error:
    raise ConfigError(f"{path} is broken: its header is not JSON ({error}).") from None
  if not isinstance(value, dict):
    raise ConfigError(f"{path} is broken: its header is no table of tensors.")
  return value
