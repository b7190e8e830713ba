"""Bottlenecks: what passes, and a codebook that the memory keeps, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import keys
from diffjax.models.autoencoder import LOGVAR, Moments
from diffjax.tasks.bottleneck import BOTTLENECKS

RNG = np.random.default_rng(0)
K, D = 5, 3


def moments(count=4):
  mean = jnp.asarray(RNG.normal(size=(count, 2, 2, D)), jnp.float32)
  return Moments(mean, jnp.full_like(mean, LOGVAR[0]))


def test_all_bottlenecks_are_here_and_cost_what_they_say():
  assert set(BOTTLENECKS) == {"gaussian", "vq"}
  for make in BOTTLENECKS.values():
    parts = make()
    passed = parts.through(parts.init(keys.seed(0), D), moments(), None)
    assert set(passed.costs) == set(parts.costs)
    assert passed.z.shape == (4, 2, 2, D) and all(cost.shape == (4,) for cost in passed.costs.values())


def nearest(z, vectors):
  return ((z[..., None, :] - vectors) ** 2).sum(-1).argmin(-1)


def after(parts, params, memory, z):
  return jax.jit(parts.record)(params, memory, jnp.asarray(z, jnp.float32))


@pytest.mark.parametrize("learning", ["ema", "loss"])
def test_all_codes_start_at_vectors_of_the_first_batch(learning):
  bottleneck = BOTTLENECKS["vq"](codes=K, learning=learning)
  z = RNG.normal(size=(6, 2, 2, D)).astype(np.float32)
  params, memory = after(bottleneck, bottleneck.init(keys.seed(0), D), bottleneck.start(D), z)
  rows = z.reshape(-1, D)
  assert all(any(np.array_equal(vector, row) for row in rows) for vector in np.asarray(params["vectors"]))
  np.testing.assert_array_equal(memory.counts, np.ones(K))
  assert memory.step == 1


def test_averages_are_the_papers_and_dead_codes_start_anew():
  bottleneck = BOTTLENECKS["vq"](codes=K, decay=0.8, least=0.9)
  vectors = RNG.normal(size=(K, D)).astype(np.float32)
  vectors[4] = 50  # no vector falls to it
  _, memory = after(
    bottleneck, bottleneck.init(keys.seed(0), D), bottleneck.start(D), RNG.normal(size=(6, 2, 2, D))
  )
  memory = memory._replace(sums=jnp.asarray(vectors), counts=jnp.ones(K).at[4].set(1.1))
  z = RNG.normal(size=(6, 2, 2, D)).astype(np.float32)
  params, result = after(bottleneck, {"vectors": jnp.asarray(vectors)}, memory, z)
  codes, rows = nearest(z, vectors).ravel(), z.reshape(-1, D)
  counts = 0.8 * np.asarray(memory.counts) + 0.2 * np.bincount(codes, minlength=K)
  sums = 0.8 * vectors + 0.2 * np.stack([rows[codes == k].sum(0) for k in range(K)])
  alive = counts >= 0.9
  assert not alive[4] and alive[:4].any()
  np.testing.assert_allclose(params["vectors"][alive], (sums / counts[:, None])[alive], rtol=1e-3)
  assert any(np.array_equal(params["vectors"][4], row) for row in rows)
  np.testing.assert_allclose(result.counts, np.where(alive, counts, 1), rtol=1e-5)


def test_a_codebook_that_learns_by_its_loss_stays_what_the_optimizer_made_it():
  bottleneck = BOTTLENECKS["vq"](codes=K, learning="loss", least=0.0)
  params, memory = {"vectors": jnp.asarray(RNG.normal(size=(K, D)), jnp.float32)}, bottleneck.start(D)
  memory = memory._replace(step=jnp.asarray(4), counts=jnp.ones(K))
  result, _ = after(bottleneck, params, memory, RNG.normal(size=(6, 2, 2, D)))
  np.testing.assert_array_equal(result["vectors"], params["vectors"])


def test_the_gradient_passes_straight_through_and_codes_and_vectors_move_by_their_own_cost():
  bottleneck, given = BOTTLENECKS["vq"](codes=K), moments()
  params = {"vectors": jnp.asarray(RNG.normal(size=(K, D)), jnp.float32)}
  factor = jnp.asarray(RNG.normal(size=given.mean.shape), jnp.float32)

  def of(name):
    def loss(params, mean):
      passed = bottleneck.through(params, Moments(mean, given.logvar), None)
      return (factor * passed.z).sum() if name == "z" else passed.costs[name].sum()

    return jax.grad(loss, (0, 1))(params, given.mean)

  (codebook, z), places = of("z"), 4
  np.testing.assert_array_equal(codebook["vectors"], 0)
  np.testing.assert_array_equal(z, factor)
  gap = (
    np.asarray(given.mean) - np.asarray(params["vectors"])[nearest(np.asarray(given.mean), params["vectors"])]
  )
  codebook, z = of("commitment")
  np.testing.assert_array_equal(codebook["vectors"], 0)
  np.testing.assert_allclose(z, 2 * gap / places, rtol=1e-5)
  codebook, z = of("codebook")
  np.testing.assert_array_equal(z, 0)
  codes = nearest(np.asarray(given.mean), params["vectors"])
  want = np.stack([-2 * gap[codes == k].sum(0) / places for k in range(K)])
  np.testing.assert_allclose(codebook["vectors"], want, rtol=1e-4, atol=1e-6)


def test_perplexity_counts_the_codes_in_use():
  bottleneck = BOTTLENECKS["vq"](codes=K)
  assert bottleneck.logs(bottleneck.start(D))["perplexity"] == 1
  even = bottleneck.start(D)._replace(counts=jnp.asarray([3.0, 0, 3, 0, 3]))
  np.testing.assert_allclose(bottleneck.logs(even)["perplexity"], 3, rtol=1e-6)
