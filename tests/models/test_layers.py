"""Each layer against float64 NumPy written from its definition."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.models.layers import (
  Conv,
  Dense,
  Dropout,
  GroupNorm,
  conv,
  group_count,
  group_norm,
  sinusoids,
  upsample,
)


def normal(seed, *shape):
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def swish(x):
  return x / (1 + np.exp(-x))


def padded_convolution(x, kernel, stride, before, after):
  """The definition: out[i, j] = sum over u, v of padded[i s + u, j s + v] @ kernel[u, v]."""
  x, kernel = np.float64(x), np.float64(kernel)
  k = kernel.shape[0]
  x = np.pad(x, ((0, 0), (before, after), (before, after), (0, 0)))
  height, width = ((x.shape[axis] - k) // stride + 1 for axis in (1, 2))
  out = np.zeros((x.shape[0], height, width, kernel.shape[-1]))
  for i in range(height):
    for j in range(width):
      window = x[:, i * stride : i * stride + k, j * stride : j * stride + k]
      out[:, i, j] = np.tensordot(window, kernel, 3)
  return out


@pytest.mark.parametrize("size, stride, before, after", [(3, 1, 1, 1), (1, 1, 0, 0), (3, 2, 0, 1)], ids=str)
def test_convolution_is_the_padded_sum(size, stride, before, after):
  x, kernel = normal(0, 2, 6, 8, 5), normal(1, size, size, 5, 7)
  want = padded_convolution(x, kernel, stride, before, after)
  np.testing.assert_allclose(conv(x, kernel, stride), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", [2, 8, 16, 36, 37, 48, 64, 100, 128, 256, 384, 512])
def test_groups_are_the_most_up_to_32_of_at_least_4_channels(channels):
  allowed = [n for n in range(1, 33) if channels % n == 0 and channels // n >= 4]
  assert group_count(channels) == max(allowed, default=1)


@pytest.mark.parametrize("channels", [8, 32])
def test_group_norm_lets_a_constant_of_each_channel_through(channels):
  """What a block adds for the time survives the norm behind it."""
  x, constant = normal(0, 2, 4, 4, channels), normal(1, channels)
  norm = jax.jit(lambda x: group_norm(x, 1.0 + constant, constant, group_count(channels)))
  assert np.std(norm(x + constant) - norm(x)) > 0.3


@pytest.mark.parametrize(
  "channels, groups, with_swish", [(64, 32, False), (16, 16, False), (36, 9, False), (24, 4, True)]
)
def test_group_norm_is_its_definition(channels, groups, with_swish):
  x = 3 * normal(0, 3, 4, 6, channels) - 2
  scale, bias = normal(1, channels), normal(2, channels)
  y = jax.jit(group_norm, static_argnums=(3, 5))(x, scale, bias, groups, 1e-6, with_swish)

  grouped = np.float64(x).reshape(3, 24, groups, channels // groups)
  centred = grouped - grouped.mean((1, 3), keepdims=True)
  unit = centred / np.sqrt((centred**2).mean((1, 3), keepdims=True) + 1e-6)
  want = unit.reshape(x.shape) * scale + bias
  np.testing.assert_allclose(y, swish(want) if with_swish else want, rtol=1e-5, atol=1e-5)


def test_the_layers_groups_and_eps_are_its_fields():
  x, variables = normal(0, 2, 4, 4, 24), {"params": {"scale": normal(1, 24), "bias": normal(2, 24)}}
  scale, bias = variables["params"].values()
  out = GroupNorm(groups=3, eps=0.1).apply(variables, x)
  np.testing.assert_allclose(out, group_norm(x, scale, bias, 3, 0.1), rtol=1e-6)
  assert np.abs(out - group_norm(x, scale, bias, 6, 0.1)).max() > 0.01
  assert np.abs(out - group_norm(x, scale, bias, 3, 1e-6)).max() > 0.01
  np.testing.assert_allclose(GroupNorm().apply(variables, x), group_norm(x, scale, bias, 6), rtol=1e-6)


def test_group_norm_keeps_its_digits_far_from_zero():
  x = 1000 + normal(0, 1, 8, 8, 4)
  y = group_norm(x, jnp.ones(4), jnp.zeros(4), 2)
  grouped = np.float64(x).reshape(64, 2, 2)
  want = (grouped - grouped.mean((0, 2), keepdims=True)) / grouped.std((0, 2), keepdims=True)
  np.testing.assert_allclose(np.ravel(y), np.ravel(want), atol=1e-3)


@pytest.mark.parametrize("with_swish", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_derivatives_of_group_norm_are_those_of_its_definition(dtype, with_swish):
  """Forward, reverse and second, of whatever is written differently for a dtype or for a derivative."""
  x = jnp.asarray(3 * normal(0, 2, 4, 6, 24) - 2, dtype)
  scale, bias, against = normal(1, 24), normal(2, 24), normal(3, *x.shape)

  def definition(x, scale, bias):
    grouped = x.astype(jnp.float32).reshape(2, 24, 4, 6)
    unit = jax.nn.standardize(grouped, (1, 3), epsilon=1e-6).reshape(x.shape)
    y = unit * scale + bias
    return y * jax.nn.sigmoid(y) if with_swish else y

  def norm(x, scale, bias):
    return group_norm(x, scale, bias, 4, 1e-6, with_swish)

  def derivatives(form):
    at = (x, scale, bias)
    whole = lambda *at: jnp.sum(form(*at) * against)
    along = (jnp.flip(x), jnp.flip(scale), jnp.flip(bias))
    gradient = jax.grad(whole, (0, 1, 2))
    return jax.jvp(form, at, along)[1], gradient(*at), jax.jvp(gradient, at, along)[1][1:]

  close = lambda a, b: np.testing.assert_allclose(
    np.float32(a), np.float32(b), rtol=1e-4 if a.dtype == jnp.float32 else 2**-6, atol=2e-4 * np.abs(b).max()
  )
  result, wanted = (jax.jit(derivatives, static_argnums=0)(form) for form in (norm, definition))
  jax.tree.map(close, result, wanted)


def test_group_norm_counts_in_float32_whatever_comes_in():
  x = jnp.asarray(50 + normal(0, 1, 16, 16, 128), jnp.bfloat16)
  layer = GroupNorm(dtype="bfloat16")
  y = layer.apply(layer.init(jax.random.key(0), x), x)
  assert y.dtype == jnp.bfloat16
  grouped = np.float64(x).reshape(256, 32, 4)
  want = (grouped - grouped.mean((0, 2), keepdims=True)) / grouped.std((0, 2), keepdims=True)
  np.testing.assert_allclose(np.ravel(np.float64(y)), np.ravel(want), rtol=2**-8, atol=1e-4)


@pytest.mark.parametrize("channels", [4, 16, 128])
def test_sinusoids_are_the_formula(channels):
  time = np.float32([0, 1, 0.37, 999, -20, 13.25])
  half = channels // 2
  angles = np.float64(time)[:, None] * 10000.0 ** (-np.arange(half) / (half - 1))
  want = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
  np.testing.assert_allclose(sinusoids(jnp.asarray(time), channels), want, atol=1e-4)


def test_upsampling_repeats_every_pixel():
  x = normal(0, 2, 3, 5, 4)
  np.testing.assert_array_equal(upsample(x), np.repeat(np.repeat(x, 2, axis=1), 2, axis=2))


@pytest.mark.parametrize(
  "layer, x, fan",
  [
    (Conv(48), (1, 4, 4, 16), 9 * (16 + 48) / 2),
    (Conv(48, size=1), (1, 4, 4, 16), (16 + 48) / 2),
    (Dense(96), (1, 32), (32 + 96) / 2),
  ],
  ids=["3x3", "1x1", "dense"],
)
def test_kernels_start_uniform_with_variance_one_over_the_average_fan(layer, x, fan):
  params = layer.init(jax.random.key(0), jnp.zeros(x))["params"]
  kernel = np.ravel(params["kernel"])
  assert not np.any(params["bias"])
  limit = np.sqrt(3 / fan)
  assert 0.99 * limit < abs(kernel).max() <= limit
  # The standard error of the variance of n uniform numbers is sqrt(4/5 / n) of it: 4 of them.
  assert kernel.var() * fan == pytest.approx(1, abs=4 * np.sqrt(0.8 / kernel.size))


def keys_of(n, seed=0):
  return jax.random.split(jax.random.key(seed), n)


def drop(rate, x, keys):
  return Dropout(rate, name="layer").apply({}, x, keys)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_drops_at_its_rate_and_keeps_the_mean(rate):
  x = jnp.full((4, 50, 50, 10), 2.0)
  y = np.asarray(drop(rate, x, keys_of(4)))
  error = 4 * np.sqrt(rate * (1 - rate) / y.size)
  assert np.mean(y == 0) == pytest.approx(rate, abs=error)
  np.testing.assert_allclose(y[y != 0], 2 / (1 - rate), rtol=1e-6)


def test_dropout_of_an_example_depends_on_its_key_alone():
  x, keys = normal(0, 8, 5, 5, 3), keys_of(8)
  together = drop(0.5, x, keys)
  alone = drop(0.5, x[3:4], keys[3:4])
  np.testing.assert_array_equal(together[3], alone[0])
  zeros = np.asarray(together == 0).reshape(8, -1)
  assert len(np.unique(zeros, axis=0)) == 8


def test_dropout_without_keys_or_rate_returns_its_input():
  x = normal(0, 2, 4, 4, 3)
  np.testing.assert_array_equal(drop(0.5, x, None), x)
  np.testing.assert_array_equal(drop(0.0, x, keys_of(2)), x)


class Pair(nn.Module):
  """Two dropout layers on one input."""

  @nn.compact
  def __call__(self, x, keys):
    return Dropout(0.5, name="first")(x, keys), Dropout(0.5, name="second")(x, keys)


def test_dropout_layers_draw_masks_of_their_own():
  x = jnp.ones((1, 20, 20, 1))
  first, second = Pair().apply({}, x, keys_of(1))
  agreement = np.mean(np.asarray(first == second))
  assert agreement == pytest.approx(0.5, abs=4 * 0.5 / 20)


def test_dropout_keeps_the_dtype():
  x = jnp.ones((2, 4, 4, 3), jnp.bfloat16)
  assert drop(0.1, x, keys_of(2)).dtype == jnp.bfloat16
