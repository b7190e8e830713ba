"""What every network that knows no time keeps to: its shapes, and conditions that reach their example alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.models import AUTOREGRESSIVE, CRITICS, FLOWS, GENERATORS
from diffjax.models.conditioning import Embedded, Projected, Table
from diffjax.types import ConfigError

SHAPE, B = (4, 4, 2), 3
KINDS = {"generator": GENERATORS, "critic": CRITICS, "flow": FLOWS, "autoregressive": AUTOREGRESSIVE}
OPTIONS = {
  "dense_generator": {"latent": 5, "hidden": (6, 7)},
  "conv_generator": {"latent": 5, "width": 4, "levels": 1},
  "dense_critic": {"hidden": (6, 7)},
  "conv_critic": {"width": 4, "levels": 1},
  "realnvp": {"couplings": 1, "hidden": (6,)},
  "made": {"hidden": (35,)},
  "pixelcnn": {"width": 4, "depth": 2},
}
SHAPES = {"generator": (B, *SHAPE), "critic": (B,), "flow": (B, 2, 2, 8), "autoregressive": (B, *SHAPE, 2)}
EMBEDS = (
  ("label", functools.partial(Table, 4, name="classes")),
  ("vector", lambda widths: Projected(widths, name="vector")),
)
CASES = [(kind, name) for kind, networks in KINDS.items() for name in networks]
every_network = pytest.mark.parametrize("kind, name", CASES, ids=[name for _, name in CASES])


def make(kind, name, conditions=EMBEDS, **options):
  given = {"shape": SHAPE} if kind in ("generator", "flow") else {}
  return KINDS[kind][name](conditions=conditions, **given, **OPTIONS[name], **options)


def test_all_networks_are_here():
  assert OPTIONS.keys() == {name for _, name in CASES}


@every_network
def test_shapes_and_conditions_of_each_example(kind, name):
  random = np.random.default_rng(0)
  shape = (B, 5) if kind == "generator" else (B, *SHAPE)
  x = jnp.asarray(random.normal(size=shape), jnp.float32)
  cond = {"label": jnp.asarray([0, 3, 1]), "vector": jnp.asarray(random.normal(size=(B, 2)), jnp.float32)}
  net = make(kind, name)
  shapes = jax.eval_shape(net.init, jax.random.key(0), x, cond)["params"]
  params = jax.tree.map(lambda p: jnp.asarray(0.4 * random.normal(size=p.shape), p.dtype), shapes)

  @jax.jit
  def run(x, cond):
    result = net.apply({"params": params}, x, cond)
    return result[0] if kind == "flow" else result

  out = run(x, cond)
  assert out.shape == SHAPES[kind] and out.dtype == jnp.float32
  assert kind != "generator" or np.abs(out).max() <= 1
  others = {"label": cond["label"].at[1].set(2), "vector": cond["vector"].at[1].add(1.0)}
  for change in [(x.at[1].add(0.5), cond)] + [(x, {**cond, kind: others[kind]}) for kind in cond]:
    gap = np.abs(np.asarray(run(*change) - out)).reshape(B, -1).max(1)
    np.testing.assert_array_equal(gap > 0, [False, True, False])
  rough = jax.eval_shape(make(kind, name, dtype="bfloat16").init_with_output, jax.random.key(0), x, cond)[0]
  assert jax.tree.leaves(rough)[0].dtype == jnp.float32


def test_a_condition_that_is_no_vector_is_refused():
  class Words:
    def __init__(self, widths):
      self.widths = widths

    def __call__(self, value):
      return Embedded(tokens=(value, value[..., 0] > 0))

  net = make("critic", "dense_critic", conditions=(("text", Words),))
  with pytest.raises(ConfigError, match="the condition 'text' is no vector"):
    jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 4)), {"text": jnp.zeros((1, 2, 3))})
