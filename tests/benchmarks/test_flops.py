"""Operations against counts by hand and by brute force."""

import itertools

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from benchmarks import flops, ours
from diffjax.models.conv import conv


def shape(*sizes):
  return jax.ShapeDtypeStruct(sizes, jnp.float32)


def test_a_matrix_product_is_two_operations_for_each_pair():
  assert flops.count(jnp.matmul, shape(3, 5), shape(5, 7)) == 2 * 3 * 5 * 7
  batched = flops.count(lambda a, b: jnp.einsum("bij,bkj->bik", a, b), shape(4, 3, 5), shape(4, 7, 5))
  assert batched == 4 * 2 * 3 * 5 * 7
  assert flops.count(lambda a: jnp.tanh(a) + a, shape(3, 5)) == 0


def pairs(size, side, stride):
  """Pairs of output and kernel entry with an input pixel under them, along one axis of a SAME convolution."""
  outputs = -(-size // stride)
  before = max((outputs - 1) * stride + side - size, 0) // 2
  return sum(0 <= i * stride + u - before < size for i, u in itertools.product(range(outputs), range(side)))


@pytest.mark.parametrize(
  "h, w, side, stride", [(8, 8, 3, 1), (7, 6, 3, 2), (6, 6, 3, 2), (5, 9, 5, 1), (4, 4, 1, 2)]
)
def test_a_convolution_and_each_gradient_count_what_meets(h, w, side, stride):
  x, kernel = shape(2, h, w, 5), shape(side, side, 5, 7)
  want = 2 * 2 * 5 * 7 * pairs(h, side, stride) * pairs(w, side, stride)
  assert flops.count(lambda x, k: conv(x, k, stride), x, kernel) == want

  def by_lax(x, k):
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, k, (stride, stride), "SAME", dimension_numbers=layout)

  assert flops.count(by_lax, x, kernel) == want
  # sum of squares: the forward pass and two gradients; of lax, dilated convolutions stand for them.
  for function in (lambda x, k: conv(x, k, stride), by_lax):
    gradient = jax.grad(lambda x, k: jnp.sum(function(x, k) ** 2), (0, 1))  # noqa: B023
    assert flops.count(gradient, x, kernel) == 3 * want


def test_loops_count_their_length_and_branches_the_dearest():
  a = shape(3, 3)
  scanned = flops.count(lambda a: lax.scan(lambda c, _: (c @ a, None), a, length=4)[0], a)
  assert scanned == 4 * 2 * 27
  assert (
    flops.count(jax.jit(lambda a: lax.cond(a[0, 0] > 0, lambda: a @ a, lambda: a @ a @ a)), a) == 2 * 2 * 27
  )
  with pytest.raises(ValueError, match="while"):
    flops.count(lambda a: lax.while_loop(lambda c: c[0, 0] > 0, lambda c: c @ a, a), a)


def test_the_paper_s_network_costs_what_its_layers_do():
  """The 3x3 convolutions of one residual block of the 32x32 level by hand, and the whole within known bounds."""
  config = ours.cifar10(2)
  whole = flops.training_step(config, 32) / 2
  block = 2 * 2 * 128 * 128 * pairs(32, 3, 1) ** 2
  assert 5 * 3 * block < whole  # five of the blocks have these sizes at least
  # 35.1 GFLOP an image is XLA's own estimate, which counts elementwise work too.
  assert 0.98 * 35.1e9 < whole < 35.1e9
