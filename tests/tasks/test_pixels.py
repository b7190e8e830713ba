"""What an autoregressive network's numbers say of a pixel: probabilities, and draws that have them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import logistic

from diffjax import keys
from diffjax.tasks.pixels import PIXELS

N = 4000


@pytest.mark.parametrize("name", PIXELS)
def test_probabilities_sum_to_1_and_are_those_of_the_draws(name):
  pixels = PIXELS[name](levels=5)
  numbers = jnp.asarray(np.random.default_rng(0).normal(size=pixels.outputs), jnp.float32)
  chances = np.exp(-np.asarray(pixels.nll(jnp.broadcast_to(numbers, (5, len(numbers))), jnp.arange(5))))
  np.testing.assert_allclose(chances.sum(), 1, rtol=1e-5)
  own = keys.of_examples(keys.seed(1), jnp.arange(N))
  for temperature in (1.0, 0.05):
    drawn = np.asarray(pixels.draw(jnp.broadcast_to(numbers, (N, len(numbers))), own, temperature))
    shares = np.bincount(drawn, minlength=5) / N
    if temperature == 1:
      assert (np.abs(shares - chances) < 4 * np.sqrt(chances / N)).all()
    else:
      assert shares.max() > 0.9


def test_a_mixture_of_logistics_is_scipys_and_keeps_its_digits_far_out():
  pixels = PIXELS["logistic_mixture"](levels=9, components=2)
  numbers = jnp.asarray([0.3, -0.2, 0.1, -0.5, -1.0, -2.0])
  weights = np.exp([0.3, -0.2]) / np.exp([0.3, -0.2]).sum()
  edges = np.concatenate([[-np.inf], np.linspace(-1, 1, 9)[:-1] + 1 / 8, [np.inf]])
  cdf = sum(
    w * logistic.cdf(edges, m, np.exp(s)) for w, m, s in zip(weights, (0.1, -0.5), (-1, -2), strict=True)
  )
  result = pixels.nll(jnp.broadcast_to(numbers, (9, 6)), jnp.arange(9))
  np.testing.assert_allclose(result, -np.log(np.diff(cdf)), rtol=1e-4)
  far = jnp.asarray([0.0, 0.0, -1.0, -1.0, -6.0, -6.0])
  value, slope = jax.value_and_grad(lambda n: pixels.nll(n, jnp.asarray(7)))(far)
  assert 500 < value < 1e4 and np.isfinite(slope).all()
