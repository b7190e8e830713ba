"""Parameters of our networks from published tensors, each used once and none left over.

PyTorch keeps a dense layer's kernel as [out, in] and a convolution's as [out, in, rows, columns]; ours are [in, out]
and [rows, columns, in, out]. A 1x1 convolution and a dense layer are the same numbers, and so are a convolution of
patches and the dense layer on them; either form fits either module.
"""

import difflib
import functools
import math
import re
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from diffjax.interop.names import LEAVES, Names
from diffjax.types import ConfigError, Params

AXES = {2: (1, 0), 4: (2, 3, 1, 0)}  # of their kernels, in our order
SHOWN = 5  # names that an error lists


def to_params(
  tensors: Mapping[str, np.ndarray], shapes: Params, names: Names, source: str = "the file"
) -> Params:
  """A network's parameters from tensors under their published names.

  Args:
    tensors: of any float type, by name.
    shapes: of the parameters: jax.eval_shape(network.init, ...)["params"].
    names: what the tensors are called.
    source: what an error calls where they come from.

  Returns:
    A tree like `shapes` of float32 NumPy arrays.

  Raises:
    ConfigError: a tensor is missing or left over, comes under two names, or its shape or type is wrong.
  """
  layout = tensor_names(shapes, names)
  current = current_names(tensors, names, source)
  every = {name for parts in layout.values() for name in parts}
  missing, extra = sorted(every - set(current)), sorted(set(current) - every)
  if missing or extra:
    lists = [_listed("lacks", missing, extra), _listed("has, beyond the network's,", extra, missing)]
    raise ConfigError(f"{source} {' and '.join(filter(None, lists))}; it holds another network.")
  values = []
  for keys, leaf in jax.tree_util.tree_leaves_with_path(shapes):
    path = _path(keys)
    values.append(fitted([current[name] for name in layout[path]], path, leaf.shape, source))
  return jax.tree.unflatten(jax.tree.structure(shapes), values)


def tensor_names(shapes: Params, names: Names) -> dict[str, tuple[str, ...]]:
  """The published name of every parameter of ours, or those of its parts, by its path a/b/c.

  Raises:
    KeyError: no row, or more than one, speaks of a parameter.
  """
  paths = [_path(path) for path, _ in jax.tree_util.tree_leaves_with_path(shapes)]
  return {path: _tensor_name(path, paths, names) for path in paths}


def current_names(tensors: Mapping[str, np.ndarray], names: Names, source: str) -> dict[str, np.ndarray]:
  """The tensors under the names of today, without those that are ignored.

  Raises:
    ConfigError: two of them have the same name today, and are no copies.
  """
  current = {}
  for name, tensor in tensors.items():
    today = name
    for pattern, new in names.old:
      today = re.sub(pattern, new, today)
    if any(re.search(pattern, today) for pattern in names.ignored):
      continue
    if today in current and not any(re.search(pattern, today) for pattern in names.copied):
      raise ConfigError(f"{source} has the tensor {today} under two names, of which one is {name}.")
    if today in current and not np.array_equal(current[today], tensor):
      raise ConfigError(f"{source} has several copies of {today}, and {name} differs from the first.")
    current[today] = tensor
  return current


def fitted(parts: Sequence[np.ndarray], path: str, shape: tuple[int, ...], source: str) -> np.ndarray:
  """One tensor, or several with their outputs one after the other, as our parameter of this path and shape.

  Raises:
    ConfigError: they do not hold float numbers of this shape.
  """
  if len({part.shape for part in parts}) > 1:
    listed = ", ".join(str(list(part.shape)) for part in parts)
    raise ConfigError(f"{source}: the tensors of {path} are {listed}; their shapes must agree.")
  tensor = value = np.concatenate(parts) if len(parts) > 1 else np.asarray(parts[0])
  if value.dtype.kind in "iub":
    raise ConfigError(f"{source}: the tensor of {path} is {value.dtype}; it must hold float numbers.")
  if path.endswith("kernel"):
    value = value.transpose(AXES.get(value.ndim))
    one_dense = (value.ndim, len(shape)) == (4, 2) or (value.ndim == 2 and shape[:2] == (1, 1))
    if one_dense and _as_matrix(value.shape) == _as_matrix(shape):
      value = value.reshape(shape)
  if value.shape != shape:
    raise ConfigError(
      f"{source}: the tensor of {path} is {list(np.shape(tensor))}, which does not fit {list(shape)}."
    )
  return np.array(value, np.float32, order="C")


def _as_matrix(shape):
  return math.prod(shape[:-1]), shape[-1]


def _listed(what, names, others):
  """ "lacks 3 tensors (a; b, nearest c)", or nothing without names."""

  def entry(name):
    near = difflib.get_close_matches(name, others, 1, 0.8)
    return f"{name}, where there is {near[0]}" if near else name

  more = "; ..." if len(names) > SHOWN else ""
  return names and f"{what} {len(names)} tensors ({'; '.join(map(entry, names[:SHOWN]))}{more})"


def _path(keys) -> str:
  return "/".join(key.key for key in keys)


def _tensor_name(path, paths, names):
  module, _, leaf = path.rpartition("/")
  candidates = [_translated(path, *row, paths) for row in names.parameters.items()]
  if leaf in LEAVES:
    candidates += [
      tuple(f"{name}.{LEAVES[leaf]}" for name in _translated(module, *row, paths))
      for row in names.modules.items()
    ]
  candidates = [parts for parts in candidates if parts]
  if len(candidates) != 1:
    raise KeyError(
      f"{len(candidates)} rows name the parameter {path}: {', '.join(map(' + '.join, candidates))}"
    )
  return candidates[0]


def _translated(path, ours, theirs, paths):
  """Their name of our path by one row, or their names; none where it is not the row's."""
  if not (match := re.fullmatch(_pattern(ours), path)):
    return ()

  def number(place):
    value = int(match[place[2]])
    if not place[1]:
      return str(value)
    before = _pattern(ours[: ours.index(f"{{{place[2]}}}")]) + r"(\d+)"
    last = max(int(other[other.lastindex]) for other in (re.match(before, p) for p in paths) if other)
    return str(last - value)

  parts = (theirs,) if isinstance(theirs, str) else theirs
  return tuple(re.sub(r"\{(-?)(\w+)\}", number, part) for part in parts)


@functools.cache
def _pattern(ours):
  return re.sub(r"\{(\w+)\}", r"(?P<\1>\\d+)", ours)
