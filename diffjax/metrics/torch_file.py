"""Tensors from a file of torch.save, with nothing in it executed and without torch.

Both formats hold a pickle that names functions to call. The unpickler here knows the few that make up a
dictionary of tensors and answers them with data of its own; any other name is refused before anything is
called. The two formats:

    zip (torch 1.6 and later)    NAME/data.pkl, and each storage as NAME/data/KEY, uncompressed
    legacy (before)              five pickles (magic number, protocol, system, object, storage keys), then
                                 each storage in the order of the keys: its length as int64, its elements

A tensor is a view (offset, size, stride) into a storage, whose bounds are checked.
"""

import collections
import dataclasses
import math
import pickle
import zipfile
from pathlib import Path

import numpy as np

from diffjax.types import ConfigError, words

MAGIC = 0x1950A86A20F9469CFC6C
STORAGES = {
  "DoubleStorage": np.dtype("<f8"),
  "FloatStorage": np.dtype("<f4"),
  "HalfStorage": np.dtype("<f2"),
  "LongStorage": np.dtype("<i8"),
  "IntStorage": np.dtype("<i4"),
  "ByteStorage": np.dtype("u1"),
  "BoolStorage": np.dtype("?"),
}


class _Refused(Exception):
  """The file holds what a dictionary of tensors does not; the text says what."""


@dataclasses.dataclass(frozen=True)
class _Storage:
  key: str
  dtype: np.dtype
  length: int


@dataclasses.dataclass(frozen=True)
class _Tensor:
  storage: _Storage
  offset: int
  size: tuple[int, ...]
  stride: tuple[int, ...]

  def within(self, data: np.ndarray) -> np.ndarray:
    """The tensor as an array of its own."""
    numbers = (self.offset, *self.size, *self.stride)
    sound = len(self.size) == len(self.stride) and all(type(n) is int and n >= 0 for n in numbers)
    if not sound or self.offset + self._reach() > len(data) or math.prod(self.size) > len(data):
      raise _Refused(f"a tensor of size {self.size} that does not lie inside its storage")
    strides = [n * data.itemsize for n in self.stride]
    return np.lib.stride_tricks.as_strided(data[self.offset :], self.size, strides).copy()

  def _reach(self) -> int:
    if 0 in self.size:
      return 0
    return 1 + sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))


def _tensor(storage, offset, size, stride, *_):
  if not (isinstance(storage, _Storage) and isinstance(size, tuple) and isinstance(stride, tuple)):
    raise _Refused("a tensor that is not a view into a storage")
  return _Tensor(storage, offset, size, stride)


def _parameter(tensor, *_):
  return tensor


class _Unpickler(pickle.Unpickler):
  """Builds dictionaries, tensors and plain values."""

  KNOWN = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
  }

  def find_class(self, module, name):
    if module == "torch" and name in STORAGES:
      return STORAGES[name]
    if (module, name) not in self.KNOWN:
      raise _Refused(f"{module}.{name}, which no dictionary of tensors needs")
    return self.KNOWN[module, name]

  def persistent_load(self, pid):
    match pid:
      case ("storage", np.dtype() as dtype, str() as key, _, int() as length, *_) if length >= 0:
        return _Storage(key, dtype, length)
    raise _Refused("a reference to something that is not a storage")


def read(path: str | Path) -> dict[str, np.ndarray]:
  """The tensors of a state dictionary by name.

  Raises:
    ConfigError: the file is not one of torch.save, is cut short, or holds anything but a dictionary of
      tensors; nothing of it has been executed.
  """
  path = Path(path)
  try:
    return _read_zip(path) if zipfile.is_zipfile(path) else _read_legacy(path)
  except _Refused as error:
    raise ConfigError(f"{path} holds {error}; it was not loaded and nothing in it was executed.") from None
  except FileNotFoundError:
    raise ConfigError(f"the weights file {path} is not there.") from None
  except Exception as error:  # whatever zipfile and pickle make of a stranger's bytes
    raise ConfigError(
      f"{path} is not a whole file of torch.save: {type(error).__name__}: {words(error)}."
    ) from None


def _read_zip(path: Path) -> dict[str, np.ndarray]:
  with zipfile.ZipFile(path) as archive:
    pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(pickles) != 1:
      raise _Refused(f"{len(pickles)} members data.pkl where there should be one")
    root = pickles[0].removesuffix("/data.pkl")
    order = f"{root}/byteorder"
    if order in archive.namelist() and archive.read(order) != b"little":
      raise _Refused("big-endian numbers")
    with archive.open(pickles[0]) as file:
      tensors = _tensors(_Unpickler(file).load())
    data = {}
    for storage in {tensor.storage for tensor in tensors.values()}:
      name = f"{root}/data/{storage.key}"
      size = storage.length * storage.dtype.itemsize
      if archive.getinfo(name).file_size != size:
        raise _Refused(f"{archive.getinfo(name).file_size} bytes in {name} where {size} were announced")
      data[storage] = np.frombuffer(archive.read(name), storage.dtype)
  return {name: tensor.within(data[tensor.storage]) for name, tensor in tensors.items()}


def _read_legacy(path: Path) -> dict[str, np.ndarray]:
  with path.open("rb") as file:
    if _Unpickler(file).load() != MAGIC:
      raise _Refused("neither a zip archive nor torch's magic number")
    _Unpickler(file).load()
    system = _Unpickler(file).load()
    if not (isinstance(system, dict) and system.get("little_endian") is True):
      raise _Refused("numbers that are not little-endian")
    tensors = _tensors(_Unpickler(file).load())
    keys = _Unpickler(file).load()
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    if not isinstance(keys, list) or set(keys) != set(storages):
      raise _Refused("storages other than those of its tensors")
    data = {}
    for storage in (storages[key] for key in keys):
      length = int.from_bytes(file.read(8), "little")
      if length != storage.length:
        raise _Refused(f"{length} elements in storage {storage.key} where {storage.length} were announced")
      raw = file.read(length * storage.dtype.itemsize)
      data[storage] = np.frombuffer(raw, storage.dtype, length)
  return {name: tensor.within(data[tensor.storage]) for name, tensor in tensors.items()}


def _tensors(tree) -> dict[str, _Tensor]:
  """The dictionary itself, checked."""
  if not isinstance(tree, dict) or not all(isinstance(value, _Tensor) for value in tree.values()):
    raise _Refused("something else than a dictionary of tensors")
  return dict(tree)
