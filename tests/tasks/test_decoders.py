"""What decoders say of an image, against the formulas in NumPy and integrals over a pixel's bin."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.tasks.decoders import DECODERS, WIDTH

RNG = np.random.default_rng(0)
X0 = (RNG.integers(0, 256, (4, 2, 3, 1)) / 127.5 - 1).astype(np.float32)


def out_of(decoder):
  return jnp.asarray(0.4 * RNG.normal(size=(4, 2, 3, decoder.outputs)), jnp.float32)


def test_all_decoders_are_here_and_the_mean_is_an_image():
  assert set(DECODERS) == {"mean", "bernoulli", "gaussian", "gaussian_learned", "logistics"}
  for name, make in DECODERS.items():
    decoder = make()
    out = out_of(decoder)
    assert decoder.mean(out).shape == X0.shape
    assert (decoder.nll is None) == (name == "mean")


def test_bernoulli_is_the_cross_entropy():
  decoder = DECODERS["bernoulli"]()
  out = out_of(decoder)
  p, u = 1 / (1 + np.exp(-np.asarray(out, np.float64))), (X0.astype(np.float64) + 1) / 2
  want = -(u * np.log(p) + (1 - u) * np.log(1 - p)).sum((1, 2, 3))
  np.testing.assert_allclose(decoder.nll(X0, out), want, rtol=1e-5)
  np.testing.assert_allclose(decoder.mean(out), 2 * p - 1, atol=1e-6)
  assert np.isfinite(decoder.nll(X0, 1e4 * out)).all()


def test_bernoulli_trials_are_a_distribution_of_grey_levels():
  decoder, trials = DECODERS["bernoulli"](trials=16), 16
  pixels = np.round(np.arange(17) * 255 / 16)  # as uint8 has them
  x0 = (pixels / 127.5 - 1).astype(np.float32)[:, None, None, None]
  out = jnp.full(x0.shape, 0.7)
  p = 1 / (1 + np.exp(-0.7))
  want = [math.comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(17)]
  np.testing.assert_allclose(np.exp(-decoder.nll(x0, out)), want, rtol=2e-4)


@pytest.mark.parametrize("name", ["gaussian", "gaussian_learned"])
def test_a_gaussian_is_the_mean_over_a_pixels_bin_of_its_density(name):
  decoder = DECODERS[name](**({"std": 0.05} if name == "gaussian" else {}))
  out = np.asarray(out_of(decoder), np.float64)
  mean = out[..., :1]
  std = 0.05 if name == "gaussian" else np.exp(out[..., 1:] / 2)
  points, weights = np.polynomial.legendre.leggauss(4)  # exact for a square
  want = 0
  for u, weight in zip(points / 2, weights / 2, strict=True):
    density = np.exp(-(((X0 + WIDTH * u - mean) / std) ** 2) / 2) / (std * np.sqrt(2 * np.pi))
    want -= weight * np.log(WIDTH * density).sum((1, 2, 3))
  np.testing.assert_allclose(decoder.nll(X0, jnp.asarray(out, jnp.float32)), want, rtol=1e-4)


def test_a_learned_variance_ends_at_the_error_s_and_never_below_the_bin_s():
  decoder = DECODERS["gaussian_learned"]()
  logvar = jnp.linspace(-14, 2, 8001)
  for error in (0.1, 0.0):
    out = jnp.stack([jnp.zeros_like(logvar), logvar], -1)[:, None, None]
    best = logvar[jnp.argmin(decoder.nll(jnp.full((len(logvar), 1, 1, 1), error), out))]
    assert abs(np.exp(best) / (error**2 + WIDTH**2 / 12) - 1) < 0.01
  gradient = jax.grad(lambda out: decoder.nll(jnp.asarray(X0), out).sum())(jnp.zeros((4, 2, 3, 2)))
  assert np.isfinite(gradient).all()


def test_logistics_are_a_distribution_of_grey_levels_and_its_mean():
  levels, rng = 5, np.random.default_rng(2)
  decoder = DECODERS["logistics"](levels=levels, components=2)
  out = rng.normal(size=(3, 1, 1, 2 * decoder.outputs))  # two channels
  x0 = 2 * np.arange(levels) / (levels - 1) - 1
  mean = np.zeros((3, 2))
  chances = np.zeros((levels, levels, 3))
  for j, k in np.ndindex(levels, levels):
    pair = np.broadcast_to([x0[j], x0[k]], (3, 1, 1, 2)).astype(np.float32)
    chances[j, k] = np.exp(-decoder.nll(pair, jnp.asarray(out, jnp.float32)))
  np.testing.assert_allclose(chances.sum((0, 1)), 1, rtol=1e-5)
  sigmoid = lambda x: 1 / (1 + np.exp(-x))
  for b, channel in np.ndindex(3, 2):
    logits, centre, logscale = out[b, 0, 0].reshape(2, 3, 2)[channel]
    edges = np.concatenate([[-np.inf], (x0[1:] + x0[:-1]) / 2, [np.inf]])[:, None]
    below = sigmoid((edges - centre) / np.exp(logscale)) @ (np.exp(logits) / np.exp(logits).sum())
    mean[b, channel] = np.diff(below) @ x0
    np.testing.assert_allclose(chances[..., b].sum(1 - channel), np.diff(below), atol=1e-6)
  np.testing.assert_allclose(decoder.mean(jnp.asarray(out, jnp.float32))[:, 0, 0], mean, atol=1e-5)
