"""Levels: the digits' 17 are found exactly, and what is spread over a bin comes back."""

import jax.numpy as jnp
import numpy as np

from diffjax import keys
from diffjax.data import SOURCES
from diffjax.levels import dequantised, quantised, ranks, values
from diffjax.spaces import of_pixels, to_pixels


def test_every_digit_is_made_of_17_levels():
  images = SOURCES["digits"](split="test").arrays["image"]
  rank = ranks(of_pixels(jnp.asarray(images)), 17)
  np.testing.assert_array_equal(rank, np.round(images / 255 * 16))
  np.testing.assert_array_equal(to_pixels(values(rank, 17)), images)
  np.testing.assert_array_equal(ranks(of_pixels(jnp.asarray(images)), 256), images)


def test_levels_are_spread_over_their_bins_and_come_back():
  rank = jnp.tile(jnp.arange(5), (300, 1))
  x0 = values(rank, 5)
  np.testing.assert_allclose(x0[0], [-1, -0.5, 0, 0.5, 1])
  y = dequantised(x0, 5, keys.of_examples(keys.seed(0), jnp.arange(300)))
  u = np.asarray(5 * y - rank)
  assert (u >= 0).all() and (u < 1).all()
  np.testing.assert_allclose((u.mean(), u.var()), (0.5, 1 / 12), rtol=0.06)
  np.testing.assert_allclose(quantised(y, 5), x0, atol=1e-6)
  np.testing.assert_allclose(quantised(jnp.asarray([-3.0, 7.0]), 5), [-1, 1])
