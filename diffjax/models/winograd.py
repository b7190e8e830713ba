"""3x3 convolutions of stride 1 by minimal filtering (Lavin & Gray 2016, arXiv:1509.09308), in matrix products.

The m outputs of a filter of r taps are, for an input d of n = m + r - 1 numbers (eq. 5 there), and for the m x m
outputs of a tile by an r x r kernel (eq. 8):

  y = A^T [(G g) o (B^T d)],        Y = A^T [(G g G^T) o (B^T d B)] A                              (1)

with o the elementwise product, which needs n^2 multiplications where the definition needs m^2 r^2: here, m = 4
and r = 3, 36 for 144. Summed over C channels it is n^2 matrix products [tiles, C] x [C, D]. For any z of Y's
shape, sum(Y * z) is linear in the kernel and in the input, so that their gradients are

  kernel   G^T [(B^T d B) o (A z A^T)] G                                                          (2)
  input    equation (1) on z, the kernel turned by half a turn and its channels exchanged         (3)

Toom and Cook's A and G evaluate polynomials with m and r coefficients at n - 1 points and at infinity; B is the
inverse of the same evaluation for n coefficients, transposed.

In float32 the result is off by 2e-6 to 5e-6 of its size, a sum of products in float32 by 6e-7; all outputs of a tile
share the error of its largest input, and its NaN or infinity. Anything narrower is computed in float32.
"""

import functools
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

OUTPUTS, TAPS = 4, 3  # m and r, of an axis
POINTS = (0, 1, -1, 2, -2)

Images = Float[Array, "b h w c"]
Kernel = Float[Array, "k k c d"]
Tiles = Float[Array, "n t c"]


def matrices(
  outputs: int = OUTPUTS, taps: int = TAPS, points: Sequence[float] = POINTS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """A [n, m], G [n, r] and B^T [n, n] of equation (1), float64, the smallest entries of B^T being 1.

  Args:
    outputs: m.
    taps: r.
    points: n - 1 different numbers.
  """
  n = outputs + taps - 1

  def evaluation(length):
    finite = [[float(point) ** power for power in range(length)] for point in points]
    return np.array([*finite, [0.0] * (length - 1) + [1.0]])

  rows = np.linalg.inv(evaluation(n)).T
  rows[np.abs(rows) < 1e-9] = 0
  scale = np.array([[np.abs(row[row != 0]).min()] for row in rows])
  return evaluation(outputs), evaluation(taps) * scale, rows / scale


A, G, BT = matrices()
G2 = np.kron(G, G)  # [n^2, r^2]: G g G^T of a kernel that is written as a vector


def _rows(matrix: np.ndarray, parts: Sequence[Array]) -> list[Array]:
  """A small matrix times a column of arrays, without the products by 0 and 1."""

  def row(factors):
    pairs = zip(factors, parts, strict=True)
    return functools.reduce(jnp.add, [p if f == 1 else p * p.dtype.type(f) for f, p in pairs if f])

  return [row(factors) for factors in matrix]


def _product(a: Tiles, b: Array, over: tuple[int, int]) -> Array:
  """n^2 matrix products, contracted over these axes."""
  return lax.dot_general(a, b, (((over[0],), (over[1],)), ((0,), (0,))))


def tile_counts(height: int, width: int) -> tuple[int, int]:
  """Tiles of an image, along its height and its width."""
  return -(-height // OUTPUTS), -(-width // OUTPUTS)


def _input_tiles(x: Images) -> Tiles:
  """B^T d B of every overlapping tile: [n^2, B * tiles, C]."""
  b, h, w, c = x.shape
  p, q = tile_counts(h, w)
  m, n = OUTPUTS, len(BT)
  x = jnp.pad(x, ((0, 0), (1, (p + 1) * m - h - 1), (1, (q + 1) * m - w - 1), (0, 0)))
  x = x.reshape(b, p + 1, m, q + 1, m, c)
  rows = jnp.stack(_rows(BT, [x[:, i // m : p + i // m, i % m] for i in range(n)]))
  # Fused into one, the passes over rows and columns are computed n times.
  rows = lax.optimization_barrier(rows)
  columns = _rows(BT, [rows[:, :, :, j // m : q + j // m, j % m] for j in range(n)])
  return lax.optimization_barrier(jnp.stack(columns, 1).reshape(n * n, b * p * q, c))


def _output_tiles(z: Images) -> Tiles:
  """A z A^T of every tile: [n^2, B * tiles, D]."""
  b, h, w, d = z.shape
  p, q = tile_counts(h, w)
  m, n = OUTPUTS, len(A)
  z = jnp.pad(z, ((0, 0), (0, p * m - h), (0, q * m - w), (0, 0))).reshape(b, p, m, q, m, d)
  rows = lax.optimization_barrier(jnp.stack(_rows(A, [z[:, :, i] for i in range(m)])))
  columns = _rows(A, [rows[:, :, :, :, j] for j in range(m)])
  return lax.optimization_barrier(jnp.stack(columns, 1).reshape(n * n, b * p * q, d))


def _images(tiles: Tiles, b: int, h: int, w: int) -> Images:
  """A^T y A of every tile, put together: [B, H, W, D]."""
  p, q = tile_counts(h, w)
  n, d = len(A), tiles.shape[-1]
  tiles = lax.optimization_barrier(tiles).reshape(n, n, b, p, q, d)
  rows = jnp.stack(_rows(A.T, [tiles[i] for i in range(n)]), 3)
  rows = lax.optimization_barrier(rows)
  images = jnp.stack(_rows(A.T, [rows[j] for j in range(n)]), 4)
  return images.reshape(b, p * OUTPUTS, q * OUTPUTS, d)[:, :h, :w]


def transformed(kernel: Kernel) -> Tiles:
  """G g G^T of a kernel [3, 3, C, D], four numbers for each of its own: [n^2, C, D]."""
  wide = jnp.promote_types(kernel.dtype, jnp.float32)
  _, _, c, d = kernel.shape
  return (G2.astype(wide) @ kernel.astype(wide).reshape(-1, c * d)).reshape(-1, c, d)


def product(x: Images, kernels: Tiles) -> Images:
  """Equation (1) on x [B, H, W, C], with `transformed` of the kernel."""
  return _images(_product(_input_tiles(x.astype(kernels.dtype)), kernels, (2, 1)), *x.shape[:3]).astype(
    x.dtype
  )


def forward(x: Images, kernel: Kernel) -> Images:
  """The convolution of x [B, H, W, C] with a kernel [3, 3, C, D], SAME: equation (1)."""
  return product(x, transformed(kernel))


def input_gradient(z: Images, kernel: Kernel) -> Images:
  """Equation (3): [B, H, W, C] of z [B, H, W, D] and a kernel [3, 3, C, D]."""
  wide = jnp.promote_types(z.dtype, jnp.float32)
  _, _, c, d = kernel.shape
  turned = G2[:, ::-1].astype(wide)
  kernels = (turned @ kernel.astype(wide).reshape(-1, c * d)).reshape(-1, c, d)
  return _images(_product(_input_tiles(z.astype(wide)), kernels, (2, 2)), *z.shape[:3]).astype(z.dtype)


def kernel_gradient(x: Images, z: Images) -> Kernel:
  """Equation (2): [3, 3, C, D] of x [B, H, W, C] and z [B, H, W, D]."""
  wide = jnp.promote_types(x.dtype, jnp.float32)
  kernels = _product(_input_tiles(x.astype(wide)), _output_tiles(z.astype(wide)), (1, 1))
  _, c, d = kernels.shape
  return (G2.T.astype(wide) @ kernels.reshape(-1, c * d)).reshape(TAPS, TAPS, c, d).astype(x.dtype)
