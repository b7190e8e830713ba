"""The autoencoder against diffusers' AutoencoderKL, its published sizes, and the Gaussian of its latent."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fixtures import published

from diffjax.interop.configs import autoencoder_kl
from diffjax.models.autoencoder import LOGVAR, AutoencoderKL, Decoder, Encoder, Moments, draw, kl
from diffjax.types import ConfigError

IMAGE = jnp.zeros((1, 64, 64, 3))
RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
  "fields, parameters",
  [({}, 83_653_863), ({"latent_channels": 16, "latent_convs": False}, 83_819_683)],
)
def test_it_has_the_published_number_of_parameters(fields, parameters):
  assert published.count(AutoencoderKL(**fields), IMAGE) == parameters


def test_its_halves_have_the_published_numbers_of_parameters():
  assert published.count(Encoder(), IMAGE) == 34_163_592
  assert published.count(Decoder(), jnp.zeros((1, 8, 8, 4))) == 49_490_179


@pytest.mark.parametrize("name", ["autoencoder_kl", "autoencoder_kl_plain"])
def test_it_is_diffusers(name):
  io, tensors = published.arrays(name), published.tensors(name)
  net = autoencoder_kl(published.config(name))
  encode = jax.jit(lambda v, x: net.apply(v, x, method="encode"))
  decode = jax.jit(lambda v, z: net.apply(v, z, method="decode"))
  for suffix, given in (("_eps", published.quiet(tensors)), ("", tensors)):
    variables = published.variables(net, "autoencoder_kl", given, io["images"])
    moments = encode(variables, io["images"])
    mean, logvar = np.split(io[f"moments{suffix}"], 2, axis=-1)
    np.testing.assert_allclose(moments.mean, mean, atol=1e-5)
    np.testing.assert_allclose(moments.logvar, np.clip(logvar, -30, 20), atol=1e-5)
    np.testing.assert_allclose(decode(variables, io["sample"]), io[f"decoded{suffix}"], atol=1e-5)
  np.testing.assert_allclose(draw(moments, io["noise"]), io["sample"], atol=1e-5)
  np.testing.assert_allclose(kl(moments), io["kl"], rtol=1e-5)
  alone = [decode(variables, z[None])[0] for z in io["sample"]]
  assert len(alone) > 1
  np.testing.assert_allclose(alone, decode(variables, io["sample"]), atol=1e-5)


def test_kl_is_the_integral():
  """Against quadrature of p log(p / q) over one latent number at a time."""
  mean, logvar = np.array([0.3, -1.2, 2.0]), np.array([-1.0, 0.4, 0.7])
  x = np.linspace(-25, 25, 200_001)
  want = 0
  for m, v in zip(mean, np.exp(logvar), strict=True):
    log_p = -((x - m) ** 2) / (2 * v) - np.log(2 * np.pi * v) / 2
    log_q = -(x**2) / 2 - np.log(2 * np.pi) / 2
    want += np.sum(np.exp(log_p) * (log_p - log_q)) * (x[1] - x[0])
  moments = Moments(*(jnp.asarray(a, jnp.float32).reshape(1, 1, 1, 3) for a in (mean, logvar)))
  np.testing.assert_allclose(kl(moments), [want], rtol=1e-5)


def test_the_log_variance_is_clipped():
  net = AutoencoderKL(channels=8, multipliers=(1,), blocks=1, latent_channels=1, latent_convs=False)
  x = np.zeros((1, 4, 4, 3), np.float32)
  params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), published.shapes(net, x))
  encode = jax.jit(lambda v, x: net.apply(v, x, method="encode"))
  for logvar, want in ((-1e3, LOGVAR[0]), (1e3, LOGVAR[1]), (3.0, 3.0)):
    params["encoder"]["conv_out"]["bias"] = jnp.array([7.0, logvar])
    moments = encode({"params": params}, x)
    np.testing.assert_array_equal(moments.logvar, np.full((1, 4, 4, 1), want, np.float32))
    np.testing.assert_array_equal(moments.mean, np.full((1, 4, 4, 1), 7, np.float32))


def test_images_of_any_shape_that_can_be_halved():
  net = AutoencoderKL(channels=8, multipliers=(1, 1, 2), blocks=1, latent_channels=2)
  x = jnp.zeros((2, 12, 20, 3))
  (out, moments), _ = jax.eval_shape(net.init_with_output, jax.random.key(0), x)
  assert out.shape == x.shape and moments.mean.shape == moments.logvar.shape == (2, 3, 5, 2)
  with pytest.raises(ConfigError, match="divisible by 4, but it is 12x18"):
    jax.eval_shape(net.init, jax.random.key(0), x[:, :, :18])
  with pytest.raises(ConfigError, match="groups=3 must divide the channels, which are 8 at one level"):
    jax.eval_shape(dataclasses.replace(net, groups=3).init, jax.random.key(0), x)


def test_bfloat16_and_remat_change_neither_parameters_nor_the_type_of_outputs():
  x, eps = (RNG.standard_normal((2, 4, 4, channels)).astype(np.float32) for channels in (3, 4))
  plain = AutoencoderKL(channels=8, multipliers=(1,), blocks=1, latent_convs=False)
  variables = jax.jit(plain.init)(jax.random.key(0), x)
  want, moments = jax.jit(plain.apply)(variables, x, eps)
  by_hand = jax.jit(lambda v, z: plain.apply(v, z, method="decode"))(variables, draw(moments, eps))
  np.testing.assert_allclose(want, by_hand, rtol=1e-4, atol=1e-5)
  for fields, tolerance in (({"remat": True}, 1e-5), ({"dtype": "bfloat16"}, 0.1)):
    net = dataclasses.replace(plain, **fields)
    assert published.shapes(net, x) == published.shapes(plain, x)
    out, moments = jax.jit(net.apply)(variables, x, eps)
    assert {out.dtype, moments.mean.dtype, moments.logvar.dtype} == {jnp.dtype("float32")}
    np.testing.assert_allclose(out, want, atol=tolerance)
