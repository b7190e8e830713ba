"""The transformer: its published size, its start, patches of any size, labels, no coupled examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import keys
from diffjax.models import MODELS, DiT
from diffjax.models.dit import images, patches, positions
from diffjax.types import ConfigError

SMALL = {"channels": 16, "blocks": 2, "heads": 2, "out_channels": 1}
RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 8, 8, 1)).astype(np.float32)
TIME = np.float32([0, 57, 999])


def test_dit_xl_2_has_the_published_number_of_parameters():
  net = MODELS["dit"](patch=2, channels=1152, blocks=28, heads=16, out_channels=8, num_classes=1000)
  shapes = jax.eval_shape(
    net.init, jax.random.key(0), jnp.zeros((1, 32, 32, 4)), jnp.zeros(1), jnp.zeros(1, int)
  )
  count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
  assert count + 16 * 16 * 1152 == 675_129_632  # the authors count the fixed positions


def random_params(net, *args, scale=0.3):
  """Parameters without zeros, so that every path is open."""
  shapes = jax.eval_shape(net.init, jax.random.key(0), *args)["params"]
  return jax.tree.map(lambda leaf: jnp.asarray(scale * RNG.standard_normal(leaf.shape), jnp.float32), shapes)


@pytest.mark.parametrize("patch, size", [(1, (4, 4)), (2, (4, 8)), (4, (8, 4)), (3, (6, 9))])
def test_any_patch_size_and_images_that_are_not_square(patch, size):
  net, x = DiT(patch=patch, **SMALL), RNG.standard_normal((2, *size, 1)).astype(np.float32)
  out, variables = jax.eval_shape(net.init_with_output, jax.random.key(0), x, TIME[:2])
  assert out.shape == x.shape
  np.testing.assert_array_equal(images(patches(x, patch), size[0] // patch, size[1] // patch, patch), x)
  assert variables["params"]["patches"]["kernel"].shape == (patch**2, 16)


def test_the_network_starts_at_zero():
  out, _ = jax.jit(DiT(**SMALL).init_with_output)(jax.random.key(0), X, TIME)
  np.testing.assert_array_equal(out, 0)


def test_a_patch_is_read_and_written_in_its_place():
  x = np.arange(2 * 4 * 6 * 1).reshape(2, 4, 6, 1)
  np.testing.assert_array_equal(patches(x, 2)[1, 4].ravel(), x[1, 2:4, 2:4, 0].ravel())


def test_positions_are_the_authors_sines_and_cosines():
  got = positions(3, 5, 8)
  row, column, frequency = 2, 4, np.array([1, 1 / 100])
  expected = [f(place * frequency) for place in (column, row) for f in (np.sin, np.cos)]
  np.testing.assert_allclose(got[row * 5 + column], np.concatenate(expected), rtol=1e-6)


def test_examples_do_not_couple_and_every_input_counts():
  net = DiT(patch=2, num_classes=3, dropout=0.3, **SMALL)
  cond, dropout = jnp.asarray([0, 3, 1]), keys.of_examples(keys.seed(0), jnp.arange(3))
  params = random_params(net, X, TIME, cond)
  run = jax.jit(lambda x, time, cond, keys: net.apply({"params": params}, x, time, cond, keys))
  out = run(X, TIME, cond, dropout)
  moved = run(X[::-1], TIME[::-1], cond[::-1], dropout[::-1])[::-1]
  np.testing.assert_allclose(out, moved, rtol=1e-4, atol=1e-4)
  for other in (
    run(X, TIME + 1, cond, dropout),
    run(X, TIME, jnp.asarray([1, 0, 2]), dropout),
    run(X, TIME, cond, keys.of_examples(keys.seed(1), jnp.arange(3))),
    run(X[:, ::-1], TIME, cond, dropout),
  ):
    assert np.abs(other - out).max((1, 2, 3)).min() > 1e-3


def test_it_is_told_of_an_augmentation_and_no_word_is_zeros():
  net = DiT(**{**SMALL, "blocks": 1}, augment_labels=2)
  params = {"params": random_params(net, X, TIME)}
  fast = {"xla_backend_optimization_level": 0}  # compiles in half the time
  run = jax.jit(lambda told: net.apply(params, X, TIME, None, None, told), compiler_options=fast)
  out = run(jnp.zeros((3, 2)))
  np.testing.assert_allclose(run(None), out, rtol=1e-4, atol=1e-4)
  change = np.abs(run(jnp.float32([[0, 0], [1, 0], [0, 1]])) - out).max((1, 2, 3))
  assert change[0] == 0 and change[1:].min() > 1e-3


def test_remat_and_bfloat16_change_nothing_but_memory_and_digits():
  net = DiT(patch=4, **SMALL)
  params = random_params(net, X, TIME, scale=0.1)
  apply = lambda net: jax.jit(net.apply)({"params": params}, X, TIME)
  out = apply(net)
  np.testing.assert_allclose(apply(DiT(patch=4, remat=True, **SMALL)), out, rtol=1e-5)
  low = apply(DiT(patch=4, dtype="bfloat16", **SMALL))
  assert low.dtype == np.float32
  np.testing.assert_allclose(low, out, atol=0.1 * np.abs(out).max())


REFUSED = [
  ({"patch": 3}, None),
  ({"channels": 18}, None),
  ({"heads": 3}, None),
  ({"blocks": 0}, None),
  ({"dropout": 1.0}, None),
  ({"dtype": "float16"}, None),
  ({}, jnp.zeros(3, int)),
  ({"num_classes": 2}, None),
]


@pytest.mark.parametrize("options, cond", REFUSED)
def test_impossible_attributes_are_refused(options, cond):
  net = DiT(**{**SMALL, **options})
  with pytest.raises(ConfigError, match=next(iter(options), "num_classes")):
    jax.eval_shape(net.init, jax.random.key(0), X, TIME, cond)
