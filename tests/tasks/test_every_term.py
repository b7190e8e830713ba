"""What holds for every term of an autoencoder's loss, with its own options."""

import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.metrics import lpips
from diffjax.tasks.reconstruction import Reconstruction
from diffjax.tasks.terms import TERMS
from diffjax.types import ConfigError

RNG = np.random.default_rng(0)
X0, X = (jnp.asarray(RNG.uniform(-1, 1, (3, 16, 16, 1)), jnp.float32) for _ in range(2))
MATRIX = jnp.asarray(RNG.normal(size=(256, 6)), jnp.float32)
COSTS = {
  name: jnp.asarray(RNG.uniform(size=3), jnp.float32) for name in ("nll", "kl", "codebook", "commitment")
}


def judge(x):
  return jnp.tanh(x.reshape(len(x), -1) @ MATRIX).reshape(-1, 2, 3)


def some_weights(network, path=""):
  """LPIPS's of its first two layers."""
  shapes = {"features.0.weight": (3, 3, 3, 64), "features.2.weight": (3, 3, 64, 64)}
  shapes |= {"features.0.bias": (64,), "features.2.bias": (64,), "lin0.weight": (64,)}
  return lpips.Weights(
    network, {name: RNG.uniform(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
  )


@pytest.mark.parametrize("name, want", [("l1", lambda e: abs(e)), ("l2", lambda e: e**2 / 2)])
def test_errors_of_pixels_are_summed(name, want):
  (term,) = TERMS[name]()
  result = term.of(Reconstruction(X0, X, {}, term.frozen, judge, judge))
  np.testing.assert_allclose(result, want(np.asarray(X0 - X)).sum((1, 2, 3)), rtol=1e-5)


def test_lpips_names_the_least_size():
  weights = lpips.Weights("alexnet", {})
  with pytest.raises(ConfigError, match="at least 31x31 pixels, and these have 8x8"):
    lpips.distance(weights, jnp.zeros((1, 8, 8, 1)), jnp.zeros((1, 8, 8, 1)))


@pytest.mark.parametrize("name", TERMS)
def test_a_term_is_a_number_of_each_example_by_itself(name, monkeypatch):
  monkeypatch.setattr(lpips, "load", some_weights)
  monkeypatch.setitem(lpips.NETWORKS, "vgg16", lpips.NETWORKS["vgg16"][:2])
  terms = TERMS[name](weight=0.3)
  assert (terms[0].name, terms[0].weight) == (name, 0.3)

  def of(term, rows):
    costs = {cost: values[rows] for cost, values in COSTS.items() if cost == term.needs}
    return np.asarray(term.of(Reconstruction(X0[rows], X[rows], costs, term.frozen, judge, judge)))

  for term in terms:
    whole = of(term, np.arange(3))
    assert whole.shape == (3,) and np.isfinite(whole).all() and len({*whole.tolist()}) == 3
    np.testing.assert_allclose(of(term, np.array([2, 0])), whole[[2, 0]], rtol=1e-4)
