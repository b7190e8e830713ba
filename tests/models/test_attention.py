"""Attention against float64 NumPy written from its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.models.attention import MultiHeadAttention
from diffjax.types import ConfigError

HEADS = 3
RNG = np.random.default_rng(0)
X, CONTEXT = (RNG.standard_normal(shape).astype(np.float32) for shape in ((2, 5, 12), (2, 4, 7)))


def attention(params, x, context, allowed):
  """Equation (1) of one example, a head and a query at a time; allowed[n, m] says which keys query n sees."""

  def project(name, source):
    layer = params[name]
    return np.float64(source) @ np.float64(layer["kernel"]) + np.float64(layer.get("bias", 0))

  query, key, value = project("query", x), project("key", context), project("value", context)
  width = query.shape[1] // HEADS
  out = np.zeros_like(query)
  for head in range(HEADS):
    own = slice(head * width, (head + 1) * width)
    for n in range(len(x)):
      score = np.exp(key[:, own] @ query[n, own] / np.sqrt(width)) * allowed[n]
      out[n, own] = score / score.sum() @ value[:, own]
  return project("out", out)


def with_random_params(net, *args, **kwargs):
  shapes = jax.eval_shape(net.init, jax.random.key(0), *args, **kwargs)["params"]
  return jax.tree.map(lambda leaf: 0.6 * RNG.standard_normal(leaf.shape).astype(np.float32), shapes)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("crossed, causal", [(True, False), (False, False), (False, True)])
def test_attention_is_its_definition(bias, masked, crossed, causal):
  net = MultiHeadAttention(HEADS, bias, causal)
  context = CONTEXT if crossed else X
  mask = np.arange(context.shape[1]) < np.array([[2], [context.shape[1] - 1]]) if masked else None
  given = (CONTEXT if crossed else None, mask)
  params = with_random_params(net, X, *given)
  assert [("bias" in params[name]) for name in ("query", "key", "value", "out")] == [bias] * 3 + [True]
  out = jax.jit(net.apply)({"params": params}, X, *given)
  for i in range(len(X)):
    allowed = np.tri(X.shape[1]) if causal else np.ones((X.shape[1], context.shape[1]))
    want = attention(params, X[i], context[i], allowed if mask is None else allowed * mask[i])
    np.testing.assert_allclose(out[i], want, rtol=1e-5, atol=1e-5)


def test_the_softmax_of_bfloat16_is_float32():
  """Logits of about 100, which bfloat16 would round by a half: their weights would be off by a half too."""
  far, near = np.float32([64, 0, 0, 0]), RNG.standard_normal((2, 1, 6, 4)).astype(np.float32)
  x, context = jnp.asarray(near[0] + far / 20, jnp.bfloat16), jnp.asarray(2 * near[1] + far, jnp.bfloat16)
  eye = {"kernel": jnp.eye(4), "bias": jnp.zeros(4)}
  net = MultiHeadAttention(1, dtype="bfloat16")
  out = net.apply({"params": dict.fromkeys(("query", "key", "value", "out"), eye)}, x, context)
  assert out.dtype == jnp.bfloat16
  wide = np.float64(context[0])
  logits = np.float64(x[0]) @ wide.T / 2
  weights = np.exp(logits - logits.max(1, keepdims=True))
  want = weights / weights.sum(1, keepdims=True) @ wide
  np.testing.assert_allclose(np.float64(out[0]), want, rtol=0.01, atol=0.03)


def test_the_last_projection_can_start_at_zero():
  out, _ = MultiHeadAttention(HEADS, init_scale=0.0).init_with_output(jax.random.key(0), X)
  np.testing.assert_array_equal(out, 0)


@pytest.mark.parametrize("heads", [0, 5])
def test_heads_must_divide_the_channels(heads):
  with pytest.raises(ConfigError, match=f"heads={heads} must divide the channels, which are 12"):
    MultiHeadAttention(heads).init(jax.random.key(0), X)
