"""RealNVP against autodiff's Jacobian, and its inverse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.models.realnvp import LAYERS, RealNVP, squeezed, unsqueezed
from diffjax.types import ConfigError

SHAPE = (4, 4, 2)


@pytest.mark.parametrize("layers", LAYERS)
def test_the_log_determinant_is_the_jacobians_and_the_inverse_comes_back(layers):
  net = RealNVP(levels=1, couplings=2, hidden=(6,), layers=layers, shape=SHAPE)
  random = np.random.default_rng(0)
  x = jnp.asarray(random.normal(size=(3, *SHAPE)), jnp.float32)
  shapes = jax.eval_shape(net.init, jax.random.key(0), x, {})["params"]
  params = jax.tree.map(lambda p: jnp.asarray(0.3 * random.normal(size=p.shape), jnp.float32), shapes)

  @jax.jit
  def run(x):
    z, logdet = net.apply({"params": params}, x, {})
    flat = lambda row: net.apply({"params": params}, row.reshape(1, *SHAPE), {})[0].ravel()
    jacobians = jax.vmap(jax.jacobian(flat))(x.reshape(3, -1))
    return z, logdet, jacobians, net.apply({"params": params}, z, {}, method="inverse")

  z, logdet, jacobians, back = run(x)
  np.testing.assert_allclose(logdet, np.linalg.slogdet(np.asarray(jacobians, float))[1], rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(back, x, atol=1e-5)
  assert z.shape == (3, 2, 2, 8) and np.abs(logdet).max() > 0.1
  assert (np.abs(jacobians).max((0, 2)) > 0).all() and (np.abs(np.asarray(jacobians)) > 1e-6).mean() > 0.9


def test_it_begins_as_the_identity_of_squeezed_pixels():
  net = RealNVP(couplings=1, hidden=(4,), shape=SHAPE)
  x = jnp.asarray(np.random.default_rng(1).normal(size=(2, *SHAPE)), jnp.float32)
  (z, logdet), _ = net.init_with_output(jax.random.key(0), x, {})
  np.testing.assert_array_equal(z, squeezed(x))
  np.testing.assert_array_equal(unsqueezed(squeezed(x)), x)
  np.testing.assert_array_equal(squeezed(x)[0, 1, 0], x[0, 2:, :2].ravel())  # 2x2 pixels, row by row
  assert (logdet == 0).all()


def test_pixels_that_cannot_be_squeezed_are_refused():
  with pytest.raises(ConfigError, match="levels is 2, but 6x4 pixels"):
    net = RealNVP(levels=2, shape=(6, 4, 1))
    jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 6, 4, 1)), {})
