"""Every formulation against the definition in float64, and the derivatives of all orders against XLA's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.models import winograd
from diffjax.models.conv import FORMULATIONS, conv, fastest_on_cpu

# (height, width, input channels, output channels, side of the kernel, stride)
SHAPES = (
  (8, 8, 128, 130, 3, 1),
  (7, 10, 129, 128, 3, 1),
  (8, 6, 5, 7, 3, 1),
  (5, 7, 128, 4, 3, 2),
  (8, 8, 3, 4, 3, 2),
  (6, 5, 3, 4, 5, 1),
  (6, 6, 3, 4, 2, 2),
  (4, 6, 3, 4, 1, 2),
)
BATCH = 4


def operands(shape, dtype=np.float32, batch=BATCH):
  """x, kernel and z, a random cotangent of the result."""
  h, w, c, d, side, stride = shape
  rng = np.random.default_rng(0)
  x = rng.standard_normal((batch, h, w, c))
  kernel = rng.standard_normal((side, side, c, d)) / np.sqrt(side * side * c)
  z = rng.standard_normal((batch, -(-h // stride), -(-w // stride), d))
  return x.astype(dtype), kernel.astype(dtype), z.astype(dtype)


def definition(x, kernel, stride):
  """out[i, j] = sum of padded[i s + u, j s + v] @ kernel[u, v], the padding SAME, in float64."""
  x, kernel = np.float64(x), np.float64(kernel)
  side, (height, width) = kernel.shape[0], [-(-size // stride) for size in x.shape[1:3]]
  pads = []
  for size, count in zip(x.shape[1:3], (height, width), strict=True):
    pad = max((count - 1) * stride + side - size, 0)
    pads.append((pad // 2, pad - pad // 2))
  x = np.pad(x, ((0, 0), *pads, (0, 0)))
  out = np.zeros((x.shape[0], height, width, kernel.shape[-1]))
  for i in range(height):
    for j in range(width):
      out[:, i, j] = np.tensordot(x[:, i * stride :, j * stride :][:, :side, :side], kernel, 3)
  return out


def applicable(name, shape):
  return name != "winograd" or (shape[4], shape[5]) == (3, 1)


CASES = [(name, shape) for name in FORMULATIONS for shape in SHAPES if applicable(name, shape)]


def error(out, want):
  return np.sqrt(np.mean((np.float64(out) - want) ** 2) / np.mean(np.float64(want) ** 2))


@pytest.mark.parametrize("name, shape", CASES, ids=str)
def test_a_formulation_is_the_definition_and_its_gradients_are_adjoint_to_it(name, shape):
  x, kernel, z = operands(shape)
  stride, ways = shape[-1], FORMULATIONS[name]
  out = jax.jit(ways.forward, static_argnums=2)(x, kernel, stride)
  assert error(out, definition(x, kernel, stride)) < 1e-5

  by_x = jax.jit(ways.input_gradient, static_argnums=(2, 3))(z, kernel, stride, x.shape[1:3])
  by_kernel = jax.jit(ways.kernel_gradient, static_argnums=(2, 3))(x, z, stride, kernel.shape[0])
  assert by_x.shape == x.shape and by_kernel.shape == kernel.shape
  # Every entry of a gradient is the definition in the direction of that entry alone; here in 3 of them.
  rng = np.random.default_rng(1)
  for _ in range(3):
    toward = np.zeros_like(x)
    toward[tuple(rng.integers(0, x.shape))] = 1
    want = np.sum(definition(toward, kernel, stride) * z)
    assert np.sum(by_x * toward) == pytest.approx(want, abs=float(2e-5 * np.abs(by_x).max()))
    toward = np.zeros_like(kernel)
    toward[tuple(rng.integers(0, kernel.shape))] = 1
    want = np.sum(definition(x, toward, stride) * z)
    assert np.sum(by_kernel * toward) == pytest.approx(want, abs=float(2e-5 * np.abs(by_kernel).max()))


def by_xla(x, kernel, stride):
  return FORMULATIONS["lax"].forward(x, kernel, stride)


def differentiated(function, x, kernel, stride):
  """Values, gradients, gradients of a directional derivative, and gradients of gradients."""

  def loss(x, kernel):
    return jnp.sum(jnp.tanh(function(x, kernel, stride)))

  def slope(x, kernel):
    return jax.jvp(loss, (x, kernel), (jnp.cos(x), jnp.sin(kernel)))[1]

  def size(x, kernel):
    return sum(jnp.sum(jnp.sin(g)) for g in jax.grad(loss, (0, 1))(x, kernel))

  first, second, third = (jax.grad(f, (0, 1))(x, kernel) for f in (loss, slope, size))
  return [function(x, kernel, stride), *first, *second, *third]


@pytest.mark.parametrize("shape", [SHAPES[1], SHAPES[3]], ids=str)
def test_derivatives_of_every_mode_and_order_are_those_of_xla(shape):
  x, kernel, _ = operands(shape)
  run = jax.jit(differentiated, static_argnums=(0, 3))
  ours, theirs = run(conv, x, kernel, shape[-1]), run(by_xla, x, kernel, shape[-1])
  for out, want in zip(ours, theirs, strict=True):
    assert out.dtype == want.dtype and error(out, want) < 3e-5


@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[2], SHAPES[3]], ids=str)
@pytest.mark.parametrize("axes", [(0, None), (None, 0), (2, 0)], ids=str)
def test_vmap_is_a_loop(shape, axes):
  x, kernel, z = operands(shape)
  given = [
    v if axis is None else np.stack([v, 2 * v, v[::-1]], axis)
    for v, axis in zip((x, kernel), axes, strict=True)
  ]

  def both(x, kernel):
    out, pull = jax.vjp(functools.partial(conv, stride=shape[-1]), x, kernel)
    return out, *pull(z)

  outs = jax.jit(jax.vmap(both, axes))(*given)
  for i in range(3):
    one = [v if axis is None else np.take(v, i, axis) for v, axis in zip(given, axes, strict=True)]
    for out, want in zip(outs, both(*one), strict=True):
      assert error(out[i], np.asarray(want)) < 1e-5


@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[2], SHAPES[3]], ids=str)
def test_a_scan_is_a_loop(shape):
  x, kernel, z = operands(shape)
  gradient = jax.grad(lambda k: jnp.sum(conv(x, k, shape[-1]) * z))

  @jax.jit
  def scanned(kernel):
    return jax.lax.scan(lambda k, _: (k - 0.01 * gradient(jnp.tanh(k)), None), kernel, length=3)[0]

  want = kernel
  for _ in range(3):
    want = want - 0.01 * np.asarray(gradient(jnp.tanh(want)))
  assert error(scanned(kernel), want) < 1e-5


@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[2], SHAPES[3]], ids=str)
def test_bfloat16_is_as_near_as_its_digits_allow(shape):
  x, kernel, z = (jnp.asarray(v, jnp.bfloat16) for v in operands(shape))
  out, pull = jax.vjp(functools.partial(conv, stride=shape[-1]), x, kernel)
  exact = [np.asarray(v, np.float32) for v in (x, kernel, z)]
  assert out.dtype == jnp.bfloat16
  assert error(out, definition(*exact[:2], shape[-1])) < 2**-8
  wide, pull_wide = jax.vjp(functools.partial(by_xla, stride=shape[-1]), *exact[:2])
  for got, want in zip(pull(z), pull_wide(exact[2]), strict=True):
    assert got.dtype == jnp.bfloat16 and error(got, np.asarray(want)) < 2**-8


def test_the_shape_alone_chooses():
  big, small = (3, 3, 256, 256), (3, 3, 3, 128)
  assert fastest_on_cpu((8, 16, 16, 256), big, 1) == "winograd"
  assert fastest_on_cpu((8, 32, 32, 3), small, 1) == "patches"
  assert fastest_on_cpu((8, 16, 16, 256), big, 2) == "patches"
  assert fastest_on_cpu((64, 8, 8, 32), (3, 3, 32, 32), 1) == "lax"
  assert fastest_on_cpu((16, 32, 32, 64), (3, 3, 64, 64), 1) == "winograd"
  assert fastest_on_cpu((2, 4, 4, 64), (3, 3, 64, 64), 1) == "lax"


def test_accelerators_compile_xla_s_own_convolution_and_a_cpu_none():
  x, kernel, _ = operands(SHAPES[0])
  traced = jax.jit(jax.grad(lambda x, k: jnp.sum(conv(x, k) ** 2), (0, 1))).trace(x, kernel)
  text = {place: traced.lower(lowering_platforms=(place,)).as_text() for place in ("cpu", "cuda", "tpu")}
  assert "stablehlo.convolution" not in text["cpu"]
  plain = jax.jit(jax.grad(lambda x, k: jnp.sum(by_xla(x, k, 1) ** 2), (0, 1))).trace(x, kernel)
  for place in ("cuda", "tpu"):
    want = plain.lower(lowering_platforms=(place,)).as_text()
    assert text[place].count("stablehlo.convolution") == want.count("stablehlo.convolution") == 3
    assert "dot_general" not in text[place]


@pytest.mark.parametrize(
  "outputs, taps, points", [(2, 3, (0, 1, -1)), (4, 3, (0, 1, -1, 2, -2)), (3, 2, (0, 1, 3))]
)
def test_minimal_filters_are_filters(outputs, taps, points):
  a, g, bt = winograd.matrices(outputs, taps, points)
  rng = np.random.default_rng(0)
  signal, taps_of = rng.standard_normal(outputs + taps - 1), rng.standard_normal(taps)
  np.testing.assert_allclose(a.T @ ((g @ taps_of) * (bt @ signal)), np.correlate(signal, taps_of), atol=1e-12)


def test_the_matrices_are_the_published_ones():
  """Lavin & Gray 2016, section 4.3."""
  _, _, bt = winograd.matrices()
  published = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
  ]
  # A row may be stated with the other sign if that of G changes with it.
  for row, want in zip(bt, np.array(published), strict=True):
    assert np.allclose(row, want) or np.allclose(row, -want)
