"""Small images, packed without loss into two thirds of a PNG's bytes, and unpacked in seconds.

The planes are coded one after the other, green first. A value is predicted by a linear form of what is known already,

    p = (sum_k w_k v_k) / 2^12,    v: neighbours above and to the left, the other planes' values around, and 1      (1)

with whole-numbered weights of its own for every place in the image, fitted by least squares to all images; what is
kept is (value - p) mod 256. These residuals go to one of LEVELS streams by how large the residuals nearby are, and
each stream is Huffman coded (zlib). All arithmetic is on integers, so that every machine unpacks the same bytes; all
images of a part pass together, place by place, so that NumPy is fast enough, and parts are independent.
"""

import zlib
from collections.abc import Iterator

import numpy as np

PLANES = (1, 0, 2)
BITS = 12
LEVELS = 24
OWN = ((0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0), (-2, -1), (-2, 1), (-1, 2), (-1, -2))  # (y, x)
OTHERS = ((0, 0), (0, -1), (-1, 0), (-1, -1), (-1, 1), (0, 1), (1, 0), (1, 1), (1, -1))
NEAR = ((0, -1), (-1, 0), (-1, -1), (-1, 1))
EDGE = 2  # pixels around the image, all 128


def _framed(height: int, width: int, count: int) -> np.ndarray:
  return np.full((3, height + 2 * EDGE, width + 2 * EDGE, count), 128, np.int32)


def _places(height: int, width: int) -> Iterator[tuple[int, int, int]]:
  for order in range(3):
    for y in range(height):
      for x in range(width):
        yield order, y, x


def _known(frame: np.ndarray, order: int, y: int, x: int) -> list[np.ndarray]:
  """The v of equation (1) but for the 1, each [N]; `frame` is [3, H + 4, W + 4, N] in the order of PLANES."""
  y, x = y + EDGE, x + EDGE
  own = [frame[order, y + dy, x + dx] for dy, dx in OWN]
  return own + [frame[other, y + dy, x + dx] for other in range(order) for dy, dx in OTHERS]


def _predicted(neighbours: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
  total = np.full(neighbours[0].shape, weights[len(neighbours)], np.int64)
  for weight, values in zip(weights, neighbours, strict=False):
    if weight:
      total += np.int64(weight) * values
  return np.clip((total + (1 << (BITS - 1))) >> BITS, 0, 255).astype(np.int32)


def _activity(sizes: np.ndarray, order: int, y: int, x: int) -> np.ndarray:
  """How large the residuals nearby are, [N]; `sizes` is framed as the images are."""
  y, x = y + EDGE, x + EDGE
  total = sum(2 * sizes[order, y + dy, x + dx] for dy, dx in NEAR)
  for other in range(order):
    total = total + 3 * sizes[other, y, x]
    total = total + sizes[other, y, x + 1] + sizes[other, y + 1, x]
  return total


def fit(images: np.ndarray) -> np.ndarray:
  """Weights int32 [3 * H * W, 29] for `pack` and `unpack`, of uint8 images [N, H, W, 3]."""
  _, height, width, _ = images.shape
  frame = _framed(height, width, len(images))
  frame[:, EDGE:-EDGE, EDGE:-EDGE] = images.transpose(3, 1, 2, 0)[list(PLANES)]
  most = len(OWN) + 2 * len(OTHERS) + 1
  weights = np.zeros((3 * height * width, most), np.int32)
  for row, (order, y, x) in enumerate(_places(height, width)):
    neighbours = np.stack(_known(frame, order, y, x)).astype(np.float32) - 128
    target = frame[order, y + EDGE, x + EDGE].astype(np.float32) - 128
    varies = np.flatnonzero(neighbours.any(axis=1))
    v = np.concatenate([neighbours[varies], np.ones((1, len(target)), np.float32)])
    gram = (v @ v.T).astype(np.float64)
    gram[np.diag_indices_from(gram)] += len(target)
    solution = np.linalg.solve(gram, (v @ target).astype(np.float64))
    whole = np.round(solution[:-1] * 2**BITS).astype(np.int64)
    weights[row, varies] = whole
    weights[row, len(neighbours)] = round(solution[-1] * 2**BITS) + (128 << BITS) - 128 * whole.sum()
  return weights


def levels(images: np.ndarray, weights: np.ndarray) -> np.ndarray:
  """The activities int32 [3, LEVELS - 1] that cut each plane's residuals into streams of equal length."""
  residuals = _Walk(images.shape[1:3], weights, len(images))
  activities = [[], [], []]
  truth = images.transpose(3, 1, 2, 0)[list(PLANES)].astype(np.int32)
  for order, y, x, predicted in residuals.places():
    activities[order].append(residuals.activity(order, y, x))
    residuals.put(order, y, x, predicted, truth[order, y, x])
  shares = np.arange(1, LEVELS) / LEVELS
  return np.stack([np.quantile(np.concatenate(part), shares).astype(np.int32) for part in activities])


class _Walk:
  """What is known while the images are walked place by place."""

  def __init__(self, size: tuple[int, int], weights: np.ndarray, count: int):
    self._size, self._weights = size, weights
    self.frame = _framed(*size, count)
    self._sizes = np.zeros_like(self.frame)

  def places(self):
    for row, (order, y, x) in enumerate(_places(*self._size)):
      yield order, y, x, _predicted(_known(self.frame, order, y, x), self._weights[row])

  def activity(self, order, y, x):
    return _activity(self._sizes, order, y, x)

  def put(self, order, y, x, predicted, values):
    self.frame[order, y + EDGE, x + EDGE] = values
    self._sizes[order, y + EDGE, x + EDGE] = np.abs(values - predicted)


def pack(images: np.ndarray, weights: np.ndarray, cuts: np.ndarray) -> list[bytes]:
  """The streams of uint8 images [N, H, W, 3], LEVELS a plane."""
  walk = _Walk(images.shape[1:3], weights, len(images))
  truth = images.transpose(3, 1, 2, 0)[list(PLANES)].astype(np.int32)
  streams = [[[] for _ in range(LEVELS)] for _ in range(3)]
  for order, y, x, predicted in walk.places():
    level = np.searchsorted(cuts[order], walk.activity(order, y, x), side="right")
    values = truth[order, y, x]
    residual = (values - predicted).astype(np.uint8)
    for k in np.unique(level):
      streams[order][k].append(residual[level == k])
    walk.put(order, y, x, predicted, values)
  return [_huffman(np.concatenate(part).tobytes() if part else b"") for plane in streams for part in plane]


def _huffman(data: bytes) -> bytes:
  coder = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
  return coder.compress(data) + coder.flush()


def unpack(
  streams: list[bytes], count: int, size: tuple[int, int], weights: np.ndarray, cuts: np.ndarray
) -> np.ndarray:
  """The images uint8 [count, H, W, 3] that `pack` was given."""
  data = [np.frombuffer(zlib.decompress(stream, -15), np.uint8).astype(np.int32) for stream in streams]
  at = [0] * len(data)
  walk = _Walk(size, weights, count)
  for order, y, x, predicted in walk.places():
    level = np.searchsorted(cuts[order], walk.activity(order, y, x), side="right")
    by_level = np.argsort(level, kind="stable")
    parts = []
    for k, number in enumerate(np.bincount(level, minlength=LEVELS)):
      if number:
        stream = order * LEVELS + k
        parts.append(data[stream][at[stream] : at[stream] + number])
        at[stream] += number
    residual = np.empty(count, np.int32)
    residual[by_level] = np.concatenate(parts)
    walk.put(order, y, x, predicted, (predicted + residual) & 255)
  inside = walk.frame[:, EDGE:-EDGE, EDGE:-EDGE].astype(np.uint8)
  back = [PLANES.index(channel) for channel in range(3)]
  return np.ascontiguousarray(inside[back].transpose(3, 1, 2, 0))
