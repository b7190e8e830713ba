"""Bounds of the likelihood on a linear Gaussian model, whose likelihood and posterior have closed forms.

x = W z + b + s eps,  columns of W orthogonal:  p(x) = N(b, W W^T + s^2),  p(z | x) = N(S W^T (x - b) / s^2, S)
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import keys
from diffjax.data.source import Field
from diffjax.models.autoencoder import Moments
from diffjax.spaces import SPACES
from diffjax.tasks.autoencoder import Autoencoder
from diffjax.tasks.bottleneck import BOTTLENECKS
from diffjax.tasks.bounds import BOUNDS
from diffjax.tasks.decoders import DECODERS, WIDTH

N, Z, S = 12, 3, 0.3
RNG = np.random.default_rng(0)
W = np.linalg.qr(RNG.normal(size=(N, Z)))[0] * [1.5, 0.8, 0.3]
B = RNG.normal(size=N) * 0.2
X = RNG.normal(size=(5, Z)) @ W.T + B + S * RNG.normal(size=(5, N))
COVARIANCE = 1 / (1 + np.sum(W**2, 0) / S**2)


class Linear(nn.Module):
  """The model, its encoder off by a shift and a factor."""

  shift: float = 0.0
  factor: float = 1.0

  def encode(self, x):
    mean = (x.reshape(len(x), -1) - B) @ W / S**2 * COVARIANCE + self.shift
    return Moments(mean, jnp.broadcast_to(jnp.log(COVARIANCE * self.factor), mean.shape))

  def decode(self, z):
    return (z @ W.T + B).reshape(len(z), 2, 6, 1)


def bounded(**off):
  space = SPACES["pixels"](fields={"image": Field((2, 6, 1), "uint8")})
  parts = BOTTLENECKS["gaussian"](), DECODERS["gaussian"](std=S), ()
  return Autoencoder(space, Linear(**off), *parts).bounded({"model": {}}, jnp.asarray(X).reshape(-1, 2, 6, 1))


def exact():
  """-log of what the decoder's bins get: each costs w^2 / 24 s^2 and -log w besides the density."""
  covariance = W @ W.T + S**2 * np.eye(N)
  square = np.einsum("bi,ij,bj->b", X - B, np.linalg.inv(covariance), X - B)
  density = 0.5 * (square + np.linalg.slogdet(2 * np.pi * covariance)[1])
  return density + N * (WIDTH**2 / (24 * S**2) - np.log(WIDTH))


def measured(name, samples, **off):
  sample_keys = keys.of_examples(keys.seed(0), np.arange(len(X)))
  return jax.jit(lambda: BOUNDS[name](bounded(**off), sample_keys, samples=samples).nats)()


def test_importance_weights_of_the_posterior_are_the_likelihood_itself():
  for samples in (1, 7):
    np.testing.assert_allclose(measured("iwae", samples), exact(), rtol=1e-5)


@pytest.mark.parametrize("name", BOUNDS)
def test_with_the_posterior_every_bound_is_the_likelihood(name):
  np.testing.assert_allclose(measured(name, 20_000), exact(), atol=0.1)


def test_the_lower_bound_misses_the_divergence_from_the_posterior():
  factor, shift = 2.0, 0.2
  gap = 0.5 * np.sum(factor - 1 - np.log(factor) + shift**2 / COVARIANCE)
  result = measured("elbo", 20_000, factor=factor, shift=shift)
  # Var of one draw: the log-likelihood is quadratic in z, at most a few nats wide here.
  np.testing.assert_allclose(result, exact() + gap, atol=0.1)


def test_importance_weighting_rises_to_the_likelihood_from_below():
  off = {"shift": 0.1, "factor": 2.0}
  few, more, many = (measured("iwae", samples, **off).mean() for samples in (1, 10, 20_000))
  truth = exact().mean()
  assert few - truth > 0.1 > more - truth > 0.01 > abs(many - truth)


@pytest.mark.parametrize("name", BOUNDS)
def test_an_example_draws_from_its_own_key(name):
  whole = measured(name, 2)
  sample_keys = keys.of_examples(keys.seed(0), np.asarray([3]))
  space = SPACES["pixels"](fields={"image": Field((2, 6, 1), "uint8")})
  bottleneck = Autoencoder(space, Linear(), BOTTLENECKS["gaussian"](), DECODERS["gaussian"](std=S), ())
  alone = BOUNDS[name](
    bottleneck.bounded({"model": {}}, jnp.asarray(X[3:4]).reshape(1, 2, 6, 1)), sample_keys, samples=2
  )
  np.testing.assert_allclose(alone.nats[0], whole[3], rtol=1e-5)
  assert alone.nfe == 2
