"""The discriminator of patches against the same layers in PyTorch, its published size, and what one output sees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fixtures import published

from diffjax.models.discriminator import NORMS, BatchNorm, PatchDiscriminator
from diffjax.types import ConfigError

IO = published.arrays("patch_discriminator")  # its kernels come as [out, rows, columns, in]
# Our layers and theirs: convolution, norm, leaky ReLU, ...
LAYERS = {
  "conv_0": 0,
  "conv_1": 2,
  "norm_1": 3,
  "conv_2": 5,
  "norm_2": 6,
  "conv_3": 8,
  "norm_3": 9,
  "conv_out": 11,
}


def torch_params():
  params = {}
  for ours, theirs in LAYERS.items():
    weight, bias = IO[f"{theirs}.weight"], IO.get(f"{theirs}.bias")
    named = {"kernel": weight.transpose(1, 2, 3, 0)} if weight.ndim == 4 else {"scale": weight}
    params[ours] = named if bias is None else named | {"bias": bias}
  return params


@pytest.mark.parametrize("norm", NORMS)
def test_it_has_the_published_number_of_parameters(norm):
  assert published.count(PatchDiscriminator(norm=norm), jnp.zeros((1, 64, 64, 3))) == 2_765_633


@pytest.mark.parametrize("name", ["even", "odd"])
def test_it_is_the_same_layers_in_pytorch(name):
  net = PatchDiscriminator(width=2)
  out = jax.jit(net.apply)({"params": torch_params()}, IO[name])
  np.testing.assert_allclose(out, np.squeeze(IO[f"{name}_out"], -1), rtol=1e-5, atol=1e-5)


def test_batch_norm_is_its_definition_for_small_numbers_too():
  x = (0.003 * np.random.default_rng(0).standard_normal((3, 4, 5, 6))).astype(np.float32)
  params = {"scale": np.linspace(0.5, 2, 6), "bias": np.linspace(-1, 1, 6)}
  wide = np.float64(x)
  unit = (wide - wide.mean((0, 1, 2))) / np.sqrt(wide.var((0, 1, 2)) + 1e-5)
  out = BatchNorm().apply({"params": params}, x)
  np.testing.assert_allclose(out, unit * params["scale"] + params["bias"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_a_norm_forgets_the_mean_and_the_width_of_what_it_sees(norm):
  x = np.random.default_rng(0).normal(size=(3, 4, 5, 6)).astype(np.float32)
  variables = NORMS[norm]().init(jax.random.key(0), x)
  out, moved = (NORMS[norm]().apply(variables, each) for each in (x, 3 * x + 5))
  np.testing.assert_allclose(moved, out, atol=1e-4)
  assert abs(out.mean()) < 0.01 and abs(out.std() - 1) < 0.05


def test_an_output_sees_70_pixels_a_side():
  net, x = PatchDiscriminator(width=4, norm="group"), np.zeros((1, 128, 128, 3), np.float32)
  params = {name: value for name, value in jax.jit(net.init)(jax.random.key(0), x)["params"].items()}
  # Norms see the whole image through their moments; a leaky ReLU alone does not.
  rng = np.random.default_rng(0)
  seen = jax.eval_shape(net.apply, {"params": params}, x).shape
  assert seen == (1, 14, 14)

  def linear(x):
    for i, stride in enumerate((2, 2, 2, 1, 1)):
      kernel = params["conv_out" if i == 4 else f"conv_{i}"]["kernel"]
      x = jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), [(1, 1)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
      )
    return x[0, 7, 7, 0]

  inside = np.asarray(jax.jit(jax.grad(linear))(rng.standard_normal(x.shape).astype(np.float32)))
  rows = np.flatnonzero(np.abs(inside).sum((0, 2, 3)))
  assert len(rows) == rows[-1] - rows[0] + 1 == 70


def test_group_norm_couples_no_examples_and_batch_norm_does():
  x = IO["even"]
  for norm, couples in (("group", False), ("batch", True)):
    net = PatchDiscriminator(width=8, norm=norm)
    variables = jax.jit(net.init)(jax.random.key(0), x)
    whole, alone = (jax.jit(net.apply)(variables, part) for part in (x, x[:1]))
    assert (np.abs(whole[:1] - alone).max() > 1e-3) == couples
    assert whole.std() > 1e-3


def test_what_does_not_fit_is_refused():
  x = IO["even"]
  with pytest.raises(ConfigError, match="norm='layer' must be one of batch, group"):
    PatchDiscriminator(norm="layer").init(jax.random.key(0), x)
  with pytest.raises(ConfigError, match="layers=4 needs images of 48 pixels a side, but these are 32x24"):
    PatchDiscriminator(layers=4).init(jax.random.key(0), x)
