"""Schedules against float64 NumPy written from the papers, also near both ends."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffjax.schedules import SCALES, SCHEDULES, from_betas
from diffjax.types import ConfigError


def ddpm_alpha_bar():
  return np.cumprod(1 - np.linspace(1e-4, 0.02, 1000, dtype=np.float64))


def iddpm_alpha_bar():
  f = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
  return np.cumprod(1 - np.minimum(1 - f[1:] / f[:-1], 0.999))


@pytest.mark.parametrize("name, paper", [("linear", ddpm_alpha_bar), ("cosine", iddpm_alpha_bar)])
def test_tables_equal_the_papers_in_float32(name, paper):
  alpha, sigma = SCHEDULES[name]().alpha_sigma(((np.arange(1000) + 1) / 1000).astype(np.float32))
  np.testing.assert_allclose(alpha**2, paper(), rtol=2e-5)
  np.testing.assert_allclose(sigma**2, 1 - paper(), rtol=2e-5)


@given(st.floats(1e-3, 1))
def test_continuous_linear_is_the_vp_sde(t):
  integral = 0.1 * t + 0.5 * 19.9 * t * t
  alpha, sigma = SCHEDULES["continuous_linear"]().alpha_sigma(np.float32(t))
  np.testing.assert_allclose(alpha**2, np.exp(-integral), rtol=1e-4)
  np.testing.assert_allclose(sigma**2, -np.expm1(-integral), rtol=1e-4)


@given(st.floats(0.02, 0.98))
def test_continuous_cosine_is_log_tan_inside(t):
  got = SCHEDULES["continuous_cosine"]().logsnr(np.float32(t))
  np.testing.assert_allclose(got, -2 * np.log(np.tan(np.pi * t / 2)), atol=6e-3)


def test_continuous_cosine_spans_its_log_snrs():
  schedule = SCHEDULES["continuous_cosine"]()
  np.testing.assert_allclose(schedule.logsnr(np.float32([0, 1])), [20, -20], rtol=1e-5)


@pytest.mark.parametrize("name", SCHEDULES)
def test_strictly_decreasing_with_an_inverse(name):
  with jax.enable_x64(True):
    schedule = SCHEDULES[name]()
    t = np.linspace(schedule.t_min, 1, 4001)
    logsnr = schedule.logsnr(t)
    assert logsnr.dtype == np.float64
    assert np.all(np.diff(logsnr) < 0)
    np.testing.assert_allclose(schedule.t_of(logsnr), t, atol=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
def test_float32_follows_float64(name):
  schedule = SCHEDULES[name]()
  t = np.linspace(schedule.t_min, 1, 1001).astype(np.float32)
  single = schedule.logsnr(t)
  with jax.enable_x64(True):
    double = schedule.logsnr(t.astype(np.float64))
  np.testing.assert_allclose(single, double, rtol=1e-4, atol=1e-3)


IDENTITIES = {
  "vp": lambda alpha, sigma: alpha**2 + sigma**2,
  "ve": lambda alpha, sigma: alpha,
  "fm": lambda alpha, sigma: alpha + sigma,
  "subvp": lambda alpha, sigma: alpha**2 + sigma,
}


@pytest.mark.parametrize("scale", SCALES)
@given(logsnr=st.floats(-18, 18))
def test_scale_rules(scale, logsnr):
  with jax.enable_x64(True):
    alpha, sigma = SCALES[scale](np.float64(logsnr))
  np.testing.assert_allclose(IDENTITIES[scale](alpha, sigma), 1, rtol=1e-12)
  np.testing.assert_allclose(2 * np.log(alpha / sigma), logsnr, rtol=1e-9, atol=1e-9)


def test_prior_is_sigma_one_under_ve_alone():
  for scale in SCALES:
    schedule = SCHEDULES["linear"](scale=scale)
    expected = np.exp(-schedule.logsnr(1.0) / 2) if scale == "ve" else 1
    np.testing.assert_allclose(schedule.prior_std, expected, rtol=1e-6)


@pytest.mark.parametrize("betas", [[0.1], [0.1, 1.0], [0.0, 0.1]])
def test_bad_betas_are_refused(betas):
  with pytest.raises(ConfigError, match="schedule"):
    from_betas(np.array(betas))
