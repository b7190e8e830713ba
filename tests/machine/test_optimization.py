"""Optimizers and learning rates against the papers' formulas in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffjax.machine.optimization import (
  DECAYS,
  OPTIMIZERS,
  Packed,
  global_norm,
  learning_rate,
  optimizer,
  packed,
  unpacked,
)


def rates(decay, peak=0.5, warmup=10, steps=100, **options):
  rate = learning_rate(peak, warmup, DECAYS[decay](warmup=warmup, steps=steps, **options))
  return np.asarray([rate(jnp.asarray(step)) for step in range(steps + 1)])


@pytest.mark.parametrize("decay", DECAYS)
def test_the_warm_up_is_linear_and_ends_at_the_peak(decay):
  np.testing.assert_allclose(rates(decay)[:10], 0.5 * np.arange(1, 11) / 10, rtol=1e-6)


@pytest.mark.parametrize(
  "decay, options", [("constant", {}), ("cosine", {}), ("rsqrt", {"timescale": 2**33})]
)
def test_a_warm_up_may_be_longer_than_whole_numbers_of_32_bits(decay, options):
  rate = learning_rate(0.5, 2**32, DECAYS[decay](warmup=2**32, steps=10**12, **options))
  np.testing.assert_allclose(rate(jnp.asarray(2**31 - 2)), 0.25, rtol=1e-6)


def test_decays_have_their_formulas():
  np.testing.assert_allclose(rates("constant")[10:], 0.5)
  progress = np.arange(91) / 90
  expected = 0.5 * (0.1 + 0.9 * (1 + np.cos(np.pi * progress)) / 2)
  np.testing.assert_allclose(rates("cosine", final=0.1)[10:], expected, rtol=1e-5)
  step = np.arange(10, 101)
  np.testing.assert_allclose(
    rates("rsqrt", timescale=25)[10:], 0.5 * np.sqrt(25 / np.maximum(step, 25)), rtol=1e-5
  )


@pytest.mark.parametrize("b1, b2, eps", [(0.9, 0.999, 1e-8), (0.0, 0.5, 1e-3), (0.5, 0.0, 1.0)])
def test_adam_steps_as_optax_does(b1, b2, eps):
  random = np.random.default_rng(0)
  params = {"kernel": jnp.ones((3, 4)), "bias": jnp.zeros(4)}
  ours, theirs = OPTIMIZERS["adam"](b1=b1, b2=b2, eps=eps), optax.scale_by_adam(b1, b2, eps)
  state, expected = ours.init(params), theirs.init(params)
  for size in (1.0, 1e-6, 1e3, 0.0, 1.0):
    gradient = jax.tree.map(lambda p: jnp.asarray(size * random.normal(size=p.shape), jnp.float32), params)  # noqa: B023
    updates, state = ours.update(gradient, state)
    wanted, expected = theirs.update(gradient, expected)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5), (updates, state), (wanted, expected)
    )


def test_adamw_is_adam_with_decay_on_matrices_only():
  gradient = {"kernel": jnp.asarray([[0.3, -2.0]]), "bias": jnp.asarray([0.7])}
  params = {"kernel": jnp.asarray([[1.0, 4.0]]), "bias": jnp.asarray([5.0])}
  scale = OPTIMIZERS["adamw"](b1=0.8, b2=0.9, eps=1e-6, weight_decay=0.1)
  transform = optimizer(scale, lambda step: 0.01, clip=0.0)
  opt_state, m, v = transform.init(params), 0.0, 0.0
  w = np.asarray(params["kernel"], np.float64)
  bias = 5.0
  for k in range(1, 4):
    updates, opt_state = transform.update(gradient, opt_state, params)
    params = {name: params[name] + updates[name] for name in params}
    g = np.asarray(gradient["kernel"], np.float64)
    m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g**2
    w = w - 0.01 * (m / (1 - 0.8**k) / (np.sqrt(v / (1 - 0.9**k)) + 1e-6) + 0.1 * w)
    bias -= 0.01
  np.testing.assert_allclose(params["kernel"], w, rtol=1e-5)
  np.testing.assert_allclose(params["bias"], [bias], rtol=1e-5)


def test_clipping_bounds_the_global_norm_and_zero_switches_it_off():
  gradient = {"a": jnp.asarray([3.0]), "b": jnp.asarray([4.0])}
  identity = OPTIMIZERS["adam"](b1=0.0, b2=0.0, eps=1e9)  # g / (|g| + 1e9): proportional to the gradient
  steps = {}
  for clip in (0.0, 1.0):
    transform = optimizer(identity, lambda step: 1e9, clip)
    updates, _ = transform.update(gradient, transform.init(gradient))
    steps[clip] = np.asarray([updates["a"][0], updates["b"][0]])
  np.testing.assert_allclose(steps[0.0], [-3, -4], rtol=1e-5)
  np.testing.assert_allclose(steps[1.0], [-0.6, -0.8], rtol=1e-5)


# Every entry's updates in NumPy's float64, of gradients and parameters at each step, by its papers.
def adam(g, w, t, memory, b1=0.9, b2=0.999, eps=1e-8):
  m, v = memory or (0.0, 0.0)
  m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
  return m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps), (m, v)


def adamw(g, w, t, memory):
  step, memory = adam(g, w, t, memory)
  return step + 0.01 * w * (w.ndim > 1), memory


RECURSIONS = {"adam": adam, "adamw": adamw}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_follows_its_recursion(name):
  random = np.random.default_rng(0)
  start = {"kernel": random.normal(size=(3, 2)), "bias": random.normal(size=2)}
  transform = optimizer(OPTIMIZERS[name](), lambda step: 0.1, clip=0.0)
  params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), start)
  now, memory = transform.init(params), dict.fromkeys(start)
  update = jax.jit(transform.update)
  for t in range(1, 6):
    gradient = jax.tree.map(lambda x: random.normal(size=x.shape) * 10.0**-t, start)  # noqa: B023
    updates, now = update(jax.tree.map(jnp.float32, gradient), now, params)
    params = optax.apply_updates(params, updates)
    for leaf in start:
      step, memory[leaf] = RECURSIONS[name](gradient[leaf], start[leaf], t, memory[leaf])
      start[leaf] = start[leaf] - 0.1 * step
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), params, start)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_finds_the_minimum_of_a_bowl(name):
  target = {"a": jnp.asarray([[1.0, -2.0]]), "b": jnp.asarray([0.5])}
  transform = optimizer(OPTIMIZERS[name](), lambda step: 0.02, clip=1.0)
  params = jax.tree.map(jnp.zeros_like, target)

  def step(carry, _):
    params, now = carry
    gradient = jax.tree.map(lambda p, t: jnp.asarray([1.0, 3.0])[: p.shape[-1]] * (p - t), params, target)
    updates, now = transform.update(gradient, now, params)
    return (optax.apply_updates(params, updates), now), None

  (result, _), _ = jax.lax.scan(step, (params, transform.init(params)), length=600)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=0.03), result, target)


@pytest.mark.parametrize("name", DECAYS)
def test_every_decay_is_one_after_the_warm_up_and_never_more(name):
  decay = jax.jit(DECAYS[name](warmup=10, steps=100))
  result = np.asarray([decay(step) for step in range(120)])
  assert result.shape == (120,) and np.all(np.isfinite(result))
  np.testing.assert_allclose(result[:11], 1, rtol=1e-6)
  assert np.all((result >= 0) & (result <= 1 + 1e-6)) and np.all(np.diff(result) <= 1e-6)


TREE = {
  "kernel": jnp.arange(6.0).reshape(2, 3),
  "bias": jnp.arange(3.0),
  "gain": jnp.asarray(7.0),
  "n": jnp.ones(2, int),
}


def test_packing_joins_the_small_arrays_of_every_part_that_is_like_the_parameters():
  state = (jnp.zeros(()), {"mu": jax.tree.map(lambda x: 2 * x, TREE)}, TREE, [TREE["bias"]])
  step, moments, (vector, others), rest = packed(state, TREE)
  np.testing.assert_array_equal(vector, [0, 1, 2, 7])
  assert [x.shape for x in others] == [(2, 3), (2,)]
  np.testing.assert_array_equal(moments["mu"].vector, [0, 2, 4, 14])
  assert step.shape == () and rest[0] is TREE["bias"]
  back = unpacked((step, moments, Packed(vector, others), rest), TREE)
  jax.tree.map(np.testing.assert_array_equal, back, state)
  assert jax.tree.map(lambda x: x.dtype, back) == jax.tree.map(lambda x: x.dtype, state)


def test_a_tree_without_vectors_is_packed_too():
  tree = {"kernel": jnp.ones((2, 2))}
  assert jax.tree.structure(unpacked(packed(tree, tree), tree)) == jax.tree.structure(tree)


def test_the_global_norm_is_that_of_all_numbers_in_any_packing():
  want = np.sqrt(sum(np.sum(np.float64(x) ** 2) for x in jax.tree.leaves(TREE)))
  assert global_norm(TREE) == pytest.approx(want, rel=1e-6)
  assert global_norm(packed(TREE, TREE)) == pytest.approx(want, rel=1e-6)
