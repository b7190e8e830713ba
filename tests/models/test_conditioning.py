"""Time and conditions, embedded: which way each enters, and what is added to what."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.models.conditioning import Conditioning, Embedded, OnTime, Projected, Table, Widths
from diffjax.models.layers import sinusoids

WIDTHS = Widths(time=8, vector=32, tokens=6, rows=0.5)
RNG = np.random.default_rng(0)
TIME = jnp.asarray([0.0, 3.0, 400.0])
CLASSES = (("class", functools.partial(Table, 6, name="classes")),)


def normal(*shape):
  return RNG.standard_normal(shape).astype(np.float32)


def params_of(module, *given):
  """None of them zero."""
  shapes = jax.eval_shape(module.init, jax.random.key(0), *given)["params"]
  return jax.tree.map(lambda leaf: normal(*leaf.shape), shapes)


def run(module, params, *given):
  return jax.jit(module.apply)({"params": params}, *given)


def dense(params, x):
  return x @ params["kernel"] + params["bias"]


def joined(value):
  """A condition that is planes already."""
  return Embedded(planes=value)


def test_the_embedding_adds_the_class_s_row_and_scales_the_time():
  labels = jnp.asarray([5, 0, 4], jnp.int32)
  plain, labelled = Conditioning(WIDTHS, 1.0), Conditioning(WIDTHS, 1.0, CLASSES)
  params = jax.jit(labelled.init)(jax.random.key(0), TIME, {"class": labels})["params"]
  table = np.asarray(params["classes"]["embedding"])
  assert table.shape == (6, 32)
  two = {name: params[name] for name in ("dense_0", "dense_1")}
  base = run(plain, two, TIME, {}).vector
  assert base.dtype == jnp.float32
  hidden = dense(two["dense_0"], sinusoids(TIME, 8))
  np.testing.assert_allclose(base, dense(two["dense_1"], hidden / (1 + np.exp(-hidden))), atol=1e-5)
  out = run(labelled, params, TIME, {"class": labels})
  np.testing.assert_allclose(out.vector, base + table[np.asarray(labels)], atol=1e-6)
  assert out.tokens is None and out.planes is None

  scaled = run(Conditioning(WIDTHS, 25.0), two, TIME / 25, {}).vector
  np.testing.assert_allclose(scaled, base, atol=1e-4)


def test_rows_of_a_new_table_have_the_width_s_standard_deviation():
  table = Table(400, WIDTHS)
  rows = jax.jit(table.init)(jax.random.key(0), jnp.zeros(1, int))["params"]["embedding"]
  assert abs(np.std(rows) - 0.5) < 4 * 0.5 / np.sqrt(2 * rows.size)


def test_a_class_beyond_the_table_is_not_a_number():
  table = Table(6, WIDTHS)
  vectors = run(table, params_of(table, jnp.zeros(1, int)), jnp.asarray([5, 6, 7])).vector
  assert np.isfinite(vectors[0]).all() and np.isnan(vectors[1:]).all()


def test_each_condition_enters_in_its_way_and_all_of_a_way_are_joined():
  given = {"a": normal(3, 5), "b": normal(3, 5), "c": normal(3, 5), "told": normal(3, 2)}
  pictures = {"p": normal(3, 4, 4, 1), "q": normal(3, 4, 4, 2)}
  as_planes = lambda widths: joined
  embeds = (
    ("a", lambda widths: Projected(widths, 2, name="a")),
    ("p", as_planes),
    ("told", lambda widths: OnTime(widths, name="told")),
    ("b", lambda widths: Projected(widths, 1, name="b")),
    ("c", lambda widths: Projected(widths, name="c")),
    ("q", as_planes),
  )
  module, cond = Conditioning(WIDTHS, 1.0, embeds), given | pictures
  params = params_of(module, TIME, cond)
  out = run(module, params, TIME, cond)

  hidden = dense(params["dense_0"], sinusoids(TIME, 8) + given["told"] @ params["told"]["kernel"])
  vector = dense(params["dense_1"], hidden / (1 + np.exp(-hidden)))
  vector += sum(dense(params[name]["vector"], given[name]) for name in "abc")
  np.testing.assert_allclose(out.vector, vector, rtol=1e-4, atol=1e-4)

  a, b = (dense(params[name]["tokens"], given[name]) for name in "ab")
  tokens, mask = out.tokens
  np.testing.assert_allclose(tokens, np.stack([a[:, :6], a[:, 6:], b], axis=1), rtol=1e-4, atol=1e-4)
  assert mask.shape == (3, 3) and mask.dtype == bool and mask.all()
  np.testing.assert_array_equal(out.planes, np.concatenate([pictures["p"], pictures["q"]], axis=-1))
  assert "tokens" not in params["c"] and "bias" not in params["told"]


def test_what_is_said_to_the_time_is_a_linear_function_without_a_constant():
  module = OnTime(WIDTHS)
  params, x = params_of(module, normal(3, 4)), normal(3, 4)
  np.testing.assert_array_equal(run(module, params, np.zeros((3, 4), np.float32)).time, np.zeros((3, 8)))
  np.testing.assert_allclose(run(module, params, x).time, x @ params["kernel"], rtol=1e-5, atol=1e-5)
