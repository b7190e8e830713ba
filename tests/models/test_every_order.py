"""What every autoregressive network keeps to: each number is told by all before it and by none after."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.models import AUTOREGRESSIVE
from diffjax.types import ConfigError

OPTIONS = {"made": {"hidden": (40, 30)}, "pixelcnn": {"width": 6, "depth": 3}}


def test_all_networks_are_here():
  assert OPTIONS.keys() == AUTOREGRESSIVE.keys()


@pytest.mark.parametrize("name", AUTOREGRESSIVE)
@pytest.mark.parametrize("shape", [(3, 3, 1), (3, 2, 3)])
def test_a_number_depends_on_all_before_it_and_on_nothing_else(name, shape):
  net, random = AUTOREGRESSIVE[name](outputs=2, **OPTIONS[name]), np.random.default_rng(0)
  size = int(np.prod(shape))
  x = jnp.asarray(random.normal(size=(1, *shape)), jnp.float32)
  shapes = jax.eval_shape(net.init, jax.random.key(0), x, {})["params"]
  draw = lambda p: jnp.asarray(random.normal(size=p.shape) / np.sqrt(max(p.size / p.shape[-1], 1)), p.dtype)
  params = jax.tree.map(draw, shapes)

  @jax.jit
  def jacobian(x):
    return jax.jacobian(lambda flat: net.apply({"params": params}, flat.reshape(1, *shape), {}))(x.ravel())

  result = np.abs(np.asarray(jacobian(x))).reshape(size, 2, size).max(1)
  before = np.tril(np.ones((size, size)), -1)
  np.testing.assert_array_equal(result[before == 0], 0)
  if name == "made" and shape[-1] > 1 or name == "pixelcnn":
    near = result[before == 1] > 0
    assert near.mean() > 0.95  # a unit's weights may all be about 0, but no place is out of sight
  assert (result[1:].max(1) > 1e-6).all()


def test_an_even_kernel_is_refused():
  net = AUTOREGRESSIVE["pixelcnn"](size=4)
  with pytest.raises(ConfigError, match="size is 4"):
    jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 4, 4, 1)), {})
