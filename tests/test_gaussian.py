"""DDPM's coefficients from its own formulas in float64, KL by quadrature, the decoder by SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from diffjax import gaussian, keys
from diffjax.denoisers import gaussian_denoiser
from diffjax.samplers import SAMPLERS
from diffjax.schedules import flow, linear


def test_posterior_and_variances_are_ddpms():
  betas = np.linspace(1e-4, 0.02, 1000)
  bar = np.cumprod(1 - betas)
  before = bar[:-1]
  small = betas[1:] * (1 - before) / (1 - bar[1:])
  of_x0 = betas[1:] * np.sqrt(before) / (1 - bar[1:])
  of_xt = np.sqrt(1 - betas[1:]) * (1 - before) / (1 - bar[1:])
  with jax.enable_x64(True):
    schedule = linear()
    t = (np.arange(1000) + 1) / 1000
    s, t = t[:-1], t[1:]
    one, zero = jnp.ones((999, 1)), jnp.zeros((999, 1))
    np.testing.assert_allclose(gaussian.transition_variance(schedule, s, t), betas[1:], rtol=1e-8)
    np.testing.assert_allclose(gaussian.posterior_variance(schedule, s, t), small, rtol=1e-8)
    got = gaussian.posterior_mean(schedule, one, zero, s, t)[:, 0]
    np.testing.assert_allclose(got, of_x0, rtol=1e-8)
    got = gaussian.posterior_mean(schedule, zero, one, s, t)[:, 0]
    np.testing.assert_allclose(got, of_xt, rtol=1e-8)


@pytest.mark.parametrize("make", [flow, lambda: linear(zero_terminal=True)], ids=["flow", "zero terminal"])
@pytest.mark.parametrize("t", [0.5, 1.0])
def test_a_step_of_no_length_changes_nothing(make, t):
  schedule, t, x = make(), jnp.full(3, t), jnp.asarray([[-1.0], [0.5], [2.0]])
  for of_two in (gaussian.lost_snr, gaussian.transition_variance, gaussian.posterior_variance):
    np.testing.assert_array_equal(of_two(schedule, t, t), 0)
  denoiser, draws = gaussian_denoiser(schedule, 0.7, 0.25), keys.of_examples(keys.seed(0), jnp.arange(3))
  for name, options in (("ancestral", {}), ("ddim", {"eta": 1.0}), ("dpmpp_2m_sde", {})):
    sampler = SAMPLERS[name](**options)
    after = sampler.step(denoiser, schedule, sampler.start(x), t, t, draws)
    np.testing.assert_allclose(after.x, x, rtol=1e-5, err_msg=name)


@given(st.floats(-2, 2), st.floats(-1, 1), st.floats(-2, 2), st.floats(-1, 1))
def test_kl_by_quadrature(m1, v1, m2, v2):
  p = scipy.stats.norm(m1, np.exp(v1 / 2))
  q = scipy.stats.norm(m2, np.exp(v2 / 2))
  x = np.linspace(m1 - 12 * p.std(), m1 + 12 * p.std(), 20001)
  expected = np.trapezoid(p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), x)
  got = gaussian.kl(*map(jnp.float32, (m1, v1, m2, v2)))
  np.testing.assert_allclose(got, expected, rtol=1e-3, atol=2e-5)


def test_decoder_is_the_mass_of_each_bin_and_sums_to_one():
  pixels = np.linspace(-1, 1, 256)
  with jax.enable_x64(True):
    for mean, std in [(0.1, 0.0074), (-1.3, 0.05), (0.97, 0.3)]:
      x0 = jnp.asarray(pixels)[:, None]
      got = gaussian.discretized_nll(x0, jnp.full_like(x0, mean), jnp.asarray(std))[:, 0]
      edges = np.concatenate([[-np.inf], pixels[:-1] + 1 / 255, [np.inf]])
      mass = np.diff(scipy.stats.norm(mean, std).cdf(edges))
      np.testing.assert_allclose(np.exp(-got).sum(), 1, rtol=1e-12)
      seen = mass > 1e-8
      np.testing.assert_allclose(np.exp(-np.asarray(got))[seen], mass[seen], rtol=1e-6)


def test_decoder_has_finite_gradients_at_both_ends():
  x0 = jnp.asarray([[-1.0], [0.0], [1.0]])
  grad = jax.grad(lambda mean: gaussian.discretized_nll(x0, mean, jnp.asarray(0.0074)).sum())
  for mean in (-1.0, 0.3, 1.0):
    assert np.all(np.isfinite(grad(jnp.full_like(x0, mean))))


def test_prior_kl_is_the_formula():
  bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[-1]
  x0 = jnp.asarray([[0.5, -1.0]])
  expected = 0.5 * np.sum((1 - bar) - 1 - np.log1p(-bar) + bar * np.array([0.25, 1.0]))
  with jax.enable_x64(True):
    got = gaussian.prior_kl(linear(), x0.astype(jnp.float64))
  np.testing.assert_allclose(got, [expected], rtol=1e-3)
