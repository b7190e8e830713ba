"""Pre-norm blocks: their parts against float64 NumPy, and Stable Diffusion's transformer against diffusers'."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fixtures import published

from diffjax.models.transformer import ACTIVATIONS, Block, LayerNorm, SpatialTransformer
from diffjax.types import ConfigError

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 5, 12)).astype(np.float32)


def test_activations_are_their_formulas():
  x = np.linspace(-6, 6, 49)
  phi = np.array([(1 + math.erf(v / math.sqrt(2))) / 2 for v in x])
  want = {
    "gelu": x * phi,
    "quick_gelu": x / (1 + np.exp(-1.702 * x)),
    "gelu_tanh": x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
  }
  assert want.keys() == ACTIVATIONS.keys()
  for name, act in ACTIVATIONS.items():
    np.testing.assert_allclose(act(jnp.asarray(x, jnp.float32)), want[name], atol=2e-6, err_msg=name)


@pytest.mark.parametrize("eps", [1e-5, 1e-2])
def test_layer_norm_is_its_definition(eps):
  x = 0.1 * X + 100
  params = {"scale": np.linspace(0.5, 2, 12), "bias": np.linspace(-1, 1, 12)}
  out = LayerNorm(eps).apply({"params": params}, x)
  wide = np.float64(x)
  unit = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + eps)
  np.testing.assert_allclose(out, unit * params["scale"] + params["bias"], atol=1e-3)
  low = LayerNorm(eps, "bfloat16").apply({"params": params}, x)
  assert low.dtype == jnp.bfloat16


SPATIAL = SpatialTransformer(heads=2, blocks=2, groups=2)


@pytest.mark.parametrize("name", ["transformer_2d", "transformer_2d_linear"])
def test_the_spatial_transformer_is_diffusers(name):
  io, tensors = published.arrays(name), published.tensors(name)
  apply = jax.jit(SPATIAL.apply)
  for suffix, given in (("", tensors), ("_eps", published.quiet(tensors))):
    variables = published.variables(SPATIAL, "spatial_transformer", given, io["x"], io["context"])
    out = apply(variables, io["x"], io["context"])
    np.testing.assert_allclose(out, io[f"out{suffix}"], rtol=1e-5, atol=1e-5)


def test_a_masked_context_is_as_if_it_were_not_there():
  io, tensors = published.arrays("transformer_2d"), published.tensors("transformer_2d")
  variables = published.variables(SPATIAL, "spatial_transformer", tensors, io["x"], io["context"])
  short = jax.jit(SPATIAL.apply)(variables, io["x"], io["context"][:, :3])
  mask = np.broadcast_to(np.arange(5) < 3, io["context"].shape[:2])
  masked = jax.jit(SPATIAL.apply)(variables, io["x"], io["context"], mask)
  np.testing.assert_allclose(masked, short, rtol=1e-5, atol=1e-5)


def test_the_spatial_transformer_starts_as_the_identity():
  x, context = RNG.standard_normal((1, 4, 4, 8)), RNG.standard_normal((1, 3, 6))
  out, _ = jax.jit(SpatialTransformer(2).init_with_output)(jax.random.key(0), x, context)
  np.testing.assert_array_equal(out, np.float32(x))


def test_dropout_is_drawn_in_every_branch_and_from_the_examples_keys():
  context = RNG.standard_normal((2, 3, 6)).astype(np.float32)
  net = Block(2, 24, dropout=0.5)
  variables = jax.jit(net.init)(jax.random.key(0), X, None, context)
  keys = jax.random.split(jax.random.key(1), 2)

  @jax.jit
  def run(x, context, keys):
    return net.apply(variables, x, None, context, keys=keys, capture_intermediates=True)

  both, state = run(X, context, keys)
  np.testing.assert_allclose(run(X[1:], context[1:], keys[1:])[0][0], both[1], rtol=1e-5, atol=1e-5)
  for path in ("dropout_0", "dropout_cross", "dropout_1"):
    (kept,) = state["intermediates"][path]["__call__"]
    assert 0.2 < np.mean(np.asarray(kept) == 0) < 0.8, path
  still = jax.jit(net.apply)(variables, X, None, context)
  assert np.abs(both - still).max() > 0.1


def test_an_unknown_activation_is_refused():
  with pytest.raises(ConfigError, match="activation='relu' must be one of gelu, quick_gelu"):
    Block(2, 24, activation="relu").init(jax.random.key(0), X)
