"""Vector quantisation against float64 NumPy, one vector at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.models import quantise

RNG = np.random.default_rng(0)
K, D = 7, 3
VECTORS = RNG.standard_normal((K, D)).astype(np.float32)
Z = RNG.standard_normal((4, 5, 6, D)).astype(np.float32)


def codes_of(z, vectors):
  z, vectors = np.float64(z), np.float64(vectors)
  return np.array([np.argmin([np.sum((v - e) ** 2) for e in vectors]) for v in z.reshape(-1, D)])


def test_every_vector_becomes_the_nearest():
  out = jax.jit(quantise.quantise)(Z, VECTORS)
  want = codes_of(Z, VECTORS)
  assert len(set(want)) > 4
  np.testing.assert_array_equal(np.ravel(out.codes), want)
  np.testing.assert_allclose(np.reshape(out.vectors, (-1, D)), VECTORS[want], atol=1e-6)
  distance = np.sum((np.float64(Z).reshape(-1, D) - VECTORS[want]) ** 2, axis=1).reshape(4, -1).mean(1)
  np.testing.assert_allclose(out.codebook, distance, rtol=1e-5)
  np.testing.assert_allclose(out.commitment, distance, rtol=1e-5)


def test_the_nearest_is_found_far_from_zero():
  """Differences of 0.1 at a distance of 100, whose square has no digits left for them."""
  vectors = (100 + 0.1 * VECTORS).astype(np.float32)
  z = vectors + np.float32(0.005) * RNG.standard_normal(vectors.shape).astype(np.float32)
  want = codes_of(z, vectors)
  np.testing.assert_array_equal(quantise.nearest(z, vectors), want)


def test_gradients_pass_straight_through_and_each_loss_moves_its_own():
  weight = RNG.standard_normal(Z.shape).astype(np.float32)
  passed = jax.grad(lambda z: (quantise.quantise(z, VECTORS).vectors * weight).sum())(Z)
  np.testing.assert_allclose(passed, weight, rtol=1e-6)
  none = jax.grad(lambda e: (quantise.quantise(Z, e).vectors * weight).sum())(VECTORS)
  np.testing.assert_array_equal(none, 0)

  def gradients(loss):
    return jax.grad(lambda z, e: getattr(quantise.quantise(z, e), loss).sum(), (0, 1))(Z, VECTORS)

  codes = codes_of(Z, VECTORS)
  difference = np.float64(Z).reshape(-1, D) - VECTORS[codes]
  by_z, by_vectors = gradients("commitment")
  np.testing.assert_allclose(np.reshape(by_z, (-1, D)), 2 * difference / 30, rtol=1e-4, atol=1e-6)
  np.testing.assert_array_equal(by_vectors, 0)
  by_z, by_vectors = gradients("codebook")
  np.testing.assert_array_equal(by_z, 0)
  want = np.stack([-2 * difference[codes == k].sum(0) / 30 for k in range(K)])
  np.testing.assert_allclose(by_vectors, want, rtol=1e-4, atol=1e-5)


def test_averages_are_equation_4():
  decay, smoothing = 0.9, 0.1
  book = quantise.Codebook(VECTORS, np.float32(RNG.uniform(0, 3, K)), VECTORS * 2)
  codes = codes_of(Z, VECTORS)
  out = jax.jit(quantise.averaged, static_argnums=(3, 4))(book, Z, codes.reshape(4, 5, 6), decay, smoothing)
  z = np.float64(Z).reshape(-1, D)
  counts = np.array([decay * book.counts[k] + (1 - decay) * np.sum(codes == k) for k in range(K)])
  sums = np.stack([decay * book.sums[k] + (1 - decay) * z[codes == k].sum(0) for k in range(K)])
  smooth = (counts + smoothing) / (counts.sum() + K * smoothing) * counts.sum()
  np.testing.assert_allclose(out.counts, counts, rtol=1e-5)
  np.testing.assert_allclose(out.sums, sums, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(out.vectors, sums / smooth[:, None], rtol=1e-5, atol=1e-5)


def test_averages_find_the_centres_of_clusters():
  centres = np.float32([[-2, 0, 0], [2, 0, 0], [0, 3, 0]])
  book = quantise.initial(centres + 0.5)
  step = jax.jit(lambda book, z: quantise.averaged(book, z, quantise.nearest(z, book.vectors), 0.8))
  for seed in range(40):
    noise = np.random.default_rng(seed).standard_normal((3, 200, D))
    book = step(book, np.float32(centres[:, None] + 0.1 * noise))
  # The average over steps of a mean of 200, each with a standard error of 0.1 / sqrt(200).
  np.testing.assert_allclose(book.vectors, centres, atol=0.02)


def test_dead_codes_start_anew_at_vectors_of_the_batch_and_others_stay():
  counts = np.float32([0.2, 5, 0.99, 1, 3, 0, 2])
  book = quantise.Codebook(VECTORS, counts, VECTORS * counts[:, None])
  out = jax.jit(quantise.revived)(book, Z, jax.random.key(0))
  dead = np.flatnonzero(counts < 1)
  alive = np.flatnonzero(counts >= 1)
  for new, old in zip(out, book, strict=True):
    np.testing.assert_array_equal(new[alive], old[alive])
  rows = {tuple(row) for row in Z.reshape(-1, D).tolist()}
  fresh = [tuple(row) for row in np.asarray(out.vectors[dead]).tolist()]
  assert set(fresh) <= rows and len(set(fresh)) == len(dead)
  np.testing.assert_array_equal(out.counts[dead], 1)
  np.testing.assert_array_equal(out.sums[dead], out.vectors[dead])
  still = quantise.revived(book, Z, jax.random.key(0), least=0.0)
  np.testing.assert_array_equal(still.vectors, VECTORS)


@pytest.mark.parametrize(
  "codes, want",
  [([3, 3, 3, 3], 1), ([0, 1, 2, 3, 4, 5, 6], 7), ([0, 0, 6, 6], 2), ([0, 0, 0, 1], 4 / 3**0.75)],
)
def test_perplexity_is_the_exponential_of_the_entropy(codes, want):
  assert quantise.perplexity(jnp.array(codes), K) == pytest.approx(want, rel=1e-5)


def test_a_random_codebook_is_small_and_each_vector_its_own():
  book = quantise.random(jax.random.key(0), 16, 4)
  assert book.vectors.shape == (16, 4) and len(np.unique(book.vectors, axis=0)) == 16
  assert 0.9 / 16 < np.abs(book.vectors).max() <= 1 / 16
  np.testing.assert_array_equal(book.counts, 1)
  np.testing.assert_array_equal(book.sums, book.vectors)
