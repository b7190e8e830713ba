"""Convolution, written on each backend in what runs fastest there.

With y = conv(x, k) and any z of y's shape, the number

  L(x, k, z) = sum(conv(x, k) * z)                                                                (1)

is linear in each of the three. Its partial derivative by z is the convolution, by x the input gradient, by k the
kernel gradient, and the derivative of each of these is one of the other two. So they are three primitives whose
rules name each other, from which forward and reverse mode of any order follow.

On accelerators all three are XLA's convolution. XLA's CPU backend is slow at convolutions, above all at their
gradients; there wide ones are written in matrix products, by their shape alone: `winograd`, or `patches`, in which
the pixels under the kernel stand side by side.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn, Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from diffjax.models import winograd

Images = Float[Array, "b h w c"]
Kernel = Float[Array, "k k c d"]

# From here on winograd wins: with fewer tiles it reads n^2 kernels for too few products, with fewer channels its
# transforms cost what its products save, and a smaller convolution is not worth its compile time.
LEAST_TILES, LEAST_CHANNELS, LEAST_PRODUCTS = 16, 64, 50_000_000
LEAST_FOR_PATCHES = 128  # channels, on either side
TRANSFORMED = (
  "transformed"  # the name, beside "kernel" among the parameters of a layer, of what `transformed` made
)


def conv(
  x: Images, kernel: Kernel, stride: int = 1, transformed: winograd.Tiles | None = None
) -> Float[Array, "b h2 w2 d"]:
  """Convolution as TensorFlow's SAME: every convolution of the network passes here.

  With a 3x3 kernel and stride 2 on an even size, SAME pads one row at the bottom and one column at
  the right. A 1x1 convolution is written as the matrix product that it is: XLA's CPU backend runs
  that twice as fast, gradients included. Inside `jax.shard_map` it needs check_vma=False; with one kernel for each
  example (vmap over the kernel) it is XLA's everywhere.

  Args:
    x: [B, H, W, C], in the dtype of the computation.
    kernel: [K, K, C, D], in the same dtype.
    stride: of both axes.
    transformed: `transformed(kernel)`, where it is known; the kernel is then held fixed.

  Returns:
    [B, ceil(H / stride), ceil(W / stride), D].

  Raises:
    ValueError: the kernel is not square.
  """
  if kernel.shape[0] != kernel.shape[1]:
    raise ValueError(f"a kernel is square; this one is {kernel.shape[0]} x {kernel.shape[1]}.")
  if kernel.shape[:2] == (1, 1) and stride == 1:
    return jnp.einsum("bhwc,cd->bhwd", x, kernel[0, 0])
  return forward(x, kernel, stride=stride) if transformed is None else _known(x, kernel, transformed)


def transforms(equation: JaxprEqn) -> bool:
  """Whether an equation of a program is a convolution that on a CPU begins with a transformation of its kernel."""
  if equation.primitive.name != "conv_forward":
    return False
  shapes = (var.aval.shape for var in equation.invars)
  return fastest_on_cpu(*shapes, equation.params["stride"]) == "winograd"


def transformed(kernel: Kernel) -> winograd.Tiles:
  """[n^2, C, D]: what such a convolution makes of its kernel [3, 3, C, D] on a CPU; elsewhere zeros, unread."""
  like = jax.eval_shape(winograd.transformed, kernel)
  zeros = lambda kernel: jnp.zeros(like.shape, like.dtype)
  return lax.platform_dependent(kernel, cpu=winograd.transformed, default=zeros)


@jax.custom_jvp
def _known(x, kernel, transformed):
  on_cpu = lambda x, kernel, transformed: winograd.product(x, transformed)
  elsewhere = lambda x, kernel, transformed: _lax_forward(x, kernel, 1)
  return lax.platform_dependent(x, kernel, transformed, cpu=on_cpu, default=elsewhere)


@_known.defjvp
def _known_jvp(primals, tangents):
  return _known(*primals), forward(tangents[0], primals[1], stride=1)


class Formulation(NamedTuple):
  """A way to write the three derivatives of equation (1).

  Attributes:
    forward: (x, kernel, stride) -> y.
    input_gradient: (z, kernel, stride, (H, W) of the input) -> [B, H, W, C].
    kernel_gradient: (x, z, stride, side of the kernel) -> [K, K, C, D].
  """

  forward: Callable[[Images, Kernel, int], Images]
  input_gradient: Callable[[Images, Kernel, int, tuple[int, int]], Images]
  kernel_gradient: Callable[[Images, Images, int, int], Kernel]


def _lax_forward(x, kernel, stride):
  layout = ("NHWC", "HWIO", "NHWC")
  return lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=layout)


def _lax_input_gradient(z, kernel, stride, size):
  like = jax.ShapeDtypeStruct((z.shape[0], *size, kernel.shape[2]), z.dtype)
  return jax.linear_transpose(lambda x: _lax_forward(x, kernel, stride), like)(z)[0]


def _lax_kernel_gradient(x, z, stride, side):
  like = jax.ShapeDtypeStruct((side, side, x.shape[-1], z.shape[-1]), x.dtype)
  return jax.linear_transpose(lambda kernel: _lax_forward(x, kernel, stride), like)(z)[0]


def patches(x: Images, side: int, stride: int) -> Float[Array, "b h2 w2 p"]:
  """[B, H, W, C] to [B, H2, W2, side * side * C]: the pixels under the kernel at every output, side by side."""
  counts = [-(-size // stride) for size in x.shape[1:3]]
  reach = [(count - 1) * stride for count in counts]
  pads = [max(r + side - size, 0) for r, size in zip(reach, x.shape[1:3], strict=True)]
  x = jnp.pad(x, ((0, 0), *((pad // 2, pad - pad // 2) for pad in pads), (0, 0)))
  starts = [(i, j) for i in range(side) for j in range(side)]
  shifted = [x[:, i : i + reach[0] + 1 : stride, j : j + reach[1] + 1 : stride] for i, j in starts]
  return jnp.concatenate(shifted, axis=-1)


def _patches_forward(x, kernel, stride):
  return patches(x, kernel.shape[0], stride) @ kernel.reshape(-1, kernel.shape[-1])


def _patches_input_gradient(z, kernel, stride, size):
  side, _, c, d = kernel.shape
  if stride == 1 and side % 2:
    return _patches_forward(z, kernel[::-1, ::-1].swapaxes(2, 3), 1)
  like = jax.ShapeDtypeStruct((z.shape[0], *size, c), z.dtype)
  return jax.linear_transpose(lambda x: patches(x, side, stride), like)(z @ kernel.reshape(-1, d).T)[0]


def _patches_kernel_gradient(x, z, stride, side):
  flat = jnp.einsum("bhwp,bhwd->pd", patches(x, side, stride), z)
  return flat.reshape(side, side, x.shape[-1], z.shape[-1])


FORMULATIONS: dict[str, Formulation] = {
  "lax": Formulation(_lax_forward, _lax_input_gradient, _lax_kernel_gradient),
  "patches": Formulation(_patches_forward, _patches_input_gradient, _patches_kernel_gradient),
  "winograd": Formulation(  # 3x3 and stride 1 only
    lambda x, kernel, stride: winograd.forward(x, kernel),
    lambda z, kernel, stride, size: winograd.input_gradient(z, kernel),
    lambda x, z, stride, side: winograd.kernel_gradient(x, z),
  ),
}


def fastest_on_cpu(x: tuple[int, ...], kernel: tuple[int, ...], stride: int) -> str:
  """The formulation for these shapes of input and kernel (benchmarks/README.md has the measurements)."""
  p, q = winograd.tile_counts(*x[1:3])
  fits = kernel[:2] == (winograd.TAPS, winograd.TAPS) and stride == 1 and min(kernel[2:]) >= LEAST_CHANNELS
  full = 2 * x[1] * x[2] >= p * q * winograd.OUTPUTS**2 and x[0] * p * q >= LEAST_TILES
  if fits and full and math.prod(x[:3]) * math.prod(kernel) >= LEAST_PRODUCTS:
    return "winograd"
  return "patches" if max(kernel[2:]) >= LEAST_FOR_PATCHES else "lax"


class Derivative:
  """One of the three as a primitive of JAX: an operation of FORMULATIONS on two arrays and static settings."""

  def __init__(self, operation: str, shapes: Callable, folds: bool):
    """Registers how it is computed and batched; `derivatives` follow when all three exist.

    Args:
      operation: its name in Formulation.
      shapes: (a, b, **settings) -> shapes of the convolution's input and kernel.
      folds: whether examples of a are independent, so that an axis of a can join the batch.
    """
    self._operation, self._shapes = operation, shapes
    self.primitive = Primitive(f"conv_{operation}")
    self.primitive.def_impl(lambda a, b, **settings: jax.jit(functools.partial(self._run, **settings))(a, b))
    self.primitive.def_abstract_eval(self._abstract)
    mlir.register_lowering(self.primitive, mlir.lower_fun(self._run, multiple_results=False))
    batching.primitive_batchers[self.primitive] = functools.partial(self._batched, folds)

  def __call__(self, a: Array, b: Array, **settings) -> Array:
    """Applies it."""
    return self.primitive.bind(a, b, **settings)

  def derivatives(self, by_a: Callable, by_b: Callable) -> None:
    """Transposed by a and by b: functions of (cotangent, a, b, **settings), the one in question abstract."""
    ad.defbilinear(self.primitive, by_a, by_b)

  def _by(self, name, settings):
    operation = getattr(FORMULATIONS[name], self._operation)
    return lambda a, b: operation(a, b, **settings)

  def _run(self, a, b, **settings):
    here = fastest_on_cpu(*self._shapes(a, b, **settings), settings["stride"])
    return lax.platform_dependent(a, b, cpu=self._by(here, settings), default=self._by("lax", settings))

  def _abstract(self, a, b, **settings):
    out = jax.eval_shape(self._by("lax", settings), *(jax.ShapeDtypeStruct(v.shape, v.dtype) for v in (a, b)))
    return jax.core.ShapedArray(out.shape, out.dtype)

  def _batched(self, folds, operands, axes, **settings):
    (a, b), (axis, other) = operands, axes
    if folds and other is None:
      a = jnp.moveaxis(a, axis, 0)
      out = self(a.reshape(-1, *a.shape[2:]), b, **settings)
      return out.reshape(*a.shape[:2], *out.shape[1:]), 0
    return jax.vmap(self._by("lax", settings), axes)(a, b), 0


forward = Derivative("forward", lambda x, kernel, stride: (x.shape, kernel.shape), folds=True)
input_gradient = Derivative(
  "input_gradient", lambda z, kernel, stride, size: ((z.shape[0], *size), kernel.shape), folds=True
)
kernel_gradient = Derivative(
  "kernel_gradient",
  lambda x, z, stride, side: (x.shape, (side, side, x.shape[-1], z.shape[-1])),
  folds=False,
)
# The gradients of sum(result * v) by either operand, from equation (1).
forward.derivatives(
  lambda v, x, kernel, stride: input_gradient(v, kernel, stride=stride, size=x.aval.shape[1:3]),
  lambda v, x, kernel, stride: kernel_gradient(x, v, stride=stride, side=kernel.aval.shape[0]),
)
input_gradient.derivatives(
  lambda v, z, kernel, stride, size: forward(v, kernel, stride=stride),
  lambda v, z, kernel, stride, size: kernel_gradient(v, z, stride=stride, side=kernel.aval.shape[0]),
)
kernel_gradient.derivatives(
  lambda v, x, z, stride, side: input_gradient(z, v, stride=stride, size=x.aval.shape[1:3]),
  lambda v, x, z, stride, side: forward(x, v, stride=stride),
)
