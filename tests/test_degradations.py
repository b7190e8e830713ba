"""Degradations against Pillow, by hand and as linear maps; upsampling undoes what it can."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from diffjax import keys
from diffjax.degradations import DEGRADATIONS, NOISE, QUALITIES, UPSAMPLINGS, require_factor, upsampled
from diffjax.jpeg import jpeg
from diffjax.types import ConfigError

OWN = keys.of_examples(keys.seed(0), jnp.arange(3))
X = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (3, 12, 8, 2)), jnp.float32)


@pytest.mark.parametrize("name, how", [("area", "BOX"), ("bicubic", "BICUBIC")])
def test_they_are_pillow_s(name, how):
  result = DEGRADATIONS[name](X, 4, OWN)
  for i in range(3):
    for c in range(2):
      small = Image.fromarray(np.asarray(X[i, ..., c]), "F").resize((2, 3), Image.Resampling[how])
      np.testing.assert_allclose(result[i, ..., c], np.asarray(small), atol=1e-5)


@pytest.mark.parametrize("name", [name for name in DEGRADATIONS if name != "jpeg"])
def test_they_are_linear_but_for_their_noise_and_keep_what_is_flat(name):
  see = lambda x: DEGRADATIONS[name](x, 2, OWN)
  nothing = see(jnp.zeros_like(X))
  np.testing.assert_allclose(see(2 * X) - nothing, 2 * (see(X) - nothing), atol=1e-5)
  np.testing.assert_allclose(see(jnp.full_like(X, 0.3)) - nothing, 0.3, atol=1e-5)
  assert see(X).shape == (3, 6, 4, 2)


def test_jpeg_is_of_qualities_in_their_range_each_an_example_s_own():
  noisy = jnp.repeat(jax.random.uniform(jax.random.key(0), (1, 16, 16, 1), minval=-1), 200, axis=0)
  see = lambda own: np.asarray(DEGRADATIONS["jpeg"](noisy[: len(own)], 1, own))
  own = keys.of_examples(keys.seed(0), jnp.arange(200))
  result = see(own)
  np.testing.assert_array_equal(see(own[7:9]), result[7:9])
  of = [np.asarray(jpeg(noisy[:1], jnp.asarray([quality]))[0]) for quality in range(28, 98)]
  first = [next(k + 28 for k, want in enumerate(of) if np.allclose(x, want, atol=1e-6)) for x in result]
  assert min(first) < QUALITIES[0] + 5 and QUALITIES[1] - 5 < max(first) <= QUALITIES[1]
  assert min(first) >= QUALITIES[0] - 1  # two qualities may make the same of it
  np.testing.assert_array_equal(
    DEGRADATIONS["jpeg"](noisy[:3], 2, own[:3]).shape, DEGRADATIONS["area"](noisy[:3], 2, own[:3]).shape
  )


def test_noise_is_an_example_s_own_and_as_large_as_said():
  flat = jnp.zeros((3, 128, 128, 1))
  result = DEGRADATIONS["blur_noise"](flat, 2, OWN)
  assert abs(np.std(result) - NOISE) < 0.002
  np.testing.assert_array_equal(DEGRADATIONS["blur_noise"](flat[1:], 2, OWN[1:]), result[1:])


def test_the_blur_is_a_gaussian_about_the_middles_of_blocks():
  see = lambda x: DEGRADATIONS["blur_noise"](x, 4, OWN[:1]) - DEGRADATIONS["blur_noise"](0 * x, 4, OWN[:1])
  spot = jnp.zeros((1, 16, 16, 1)).at[0, 5, 9, 0].set(1)
  density = lambda place: np.exp(-0.5 * ((np.arange(4) * 4 + 1.5 - place) / 2) ** 2)
  total = [np.exp(-0.5 * ((np.arange(16) - 4 * k - 1.5) / 2) ** 2).sum() for k in range(4)]
  want = np.outer(density(5) / total, density(9) / total)
  np.testing.assert_allclose(see(spot)[0, ..., 0], want, atol=1e-5)


@pytest.mark.parametrize("how", UPSAMPLINGS)
def test_upsampling_keeps_what_is_flat_and_nearest_is_undone_by_area(how):
  low = jax.random.normal(jax.random.key(0), (2, 3, 2, 1))
  large = upsampled(low, (12, 8, 1), how)
  np.testing.assert_allclose(upsampled(jnp.ones_like(low), (12, 8, 1), how), 1, atol=1e-5)
  if how == "nearest":
    np.testing.assert_allclose(DEGRADATIONS["area"](large, 4, OWN), low, atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 4, 1), (8, 6, 1), (8,)])
def test_a_factor_must_divide_the_sides(shape):
  with pytest.raises(ConfigError, match="factor is 4, which does not divide"):
    require_factor(4, shape)
