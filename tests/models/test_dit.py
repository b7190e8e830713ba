"""The transformer: its published size, its start, patches of any size; the rest is in test_every_model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fixtures import published

from diffjax.conditions import label
from diffjax.data.source import Field
from diffjax.interop import configs
from diffjax.models import MODELS, DiT
from diffjax.models.dit import images, patches, positions
from diffjax.types import ConfigError

SMALL = {"channels": 16, "blocks": 2, "heads": 2, "out_channels": 1}
RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 8, 8, 1)).astype(np.float32)
TIME = np.float32([0, 57, 999])


def test_dit_xl_2_has_the_published_number_of_parameters():
  classes = label(fields={"label": Field((), "int32", 1000)}).embed
  net = MODELS["dit"](
    patch=2, channels=1152, blocks=28, heads=16, out_channels=8, conditions=(("class", classes),)
  )
  cond = {"class": jnp.zeros(1, int)}
  shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 32, 32, 4)), jnp.zeros(1), cond)
  count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
  assert count == 674_834_720
  assert count + 16 * 16 * 1152 == 675_129_632  # the authors count the fixed positions


def test_the_network_is_diffusers():
  io, tensors, config = (read("dit") for read in (published.arrays, published.tensors, published.config))
  classes = label(fields={"label": Field((), "int32", 10)}).embed
  net = configs.dit(config, conditions=(("class", classes),))
  args = (io["x"], np.float32(io["time"]), {"class": io["classes"]})
  out = jax.jit(net.apply)(published.variables(net, "dit", tensors, *args), *args)
  np.testing.assert_allclose(out, io["out"], rtol=1e-5, atol=1e-5 * np.abs(io["out"]).max())


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


REFUSED = [
  {"patch": 3},
  {"channels": 18},
  {"heads": 3},
  {"blocks": 0},
  {"dropout": 1.0},
  {"dtype": "float16"},
]


@pytest.mark.parametrize("options", REFUSED, ids=str)
def test_impossible_attributes_are_refused(options):
  net = DiT(**{**SMALL, **options})
  with pytest.raises(ConfigError, match=next(iter(options))):
    jax.eval_shape(net.init, jax.random.key(0), X, TIME)
