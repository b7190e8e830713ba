"""Weights against the published formulas in float64 NumPy, on a table and in continuous time."""

import jax
import numpy as np
import pytest

from diffjax.predictions import ROWS
from diffjax.schedules import SCHEDULES
from diffjax.weights import WEIGHTS

BETA = np.linspace(1e-4, 0.02, 1000)
BAR = np.cumprod(1 - BETA)
SNR = BAR / (1 - BAR)
LOST = np.append(0, -np.diff(SNR)) / 2  # (SNR(s) - SNR(t)) / 2, row 0 having no s

# Of |x0 - x0_hat|^2, from each paper's own form; sigma = sqrt(1 / SNR) is that of x0 + sigma eps.
PAPERS = {
  "simple": SNR,  # L_simple of eps
  "snr": SNR,
  "min_snr": np.minimum(SNR, 5),
  "soft_min_snr": 1 / (1 / SNR + 1 / 4),  # 1 / (sigma^2 + sigma_data^2)
  "p2": SNR * (1 / (1 + SNR)),  # L_simple / (k + SNR)^gamma
  "edm": (1 / SNR + 0.25) / (np.sqrt(1 / SNR) * 0.5) ** 2,  # lambda(sigma)
  "sigmoid": LOST / (1 + np.exp(np.log(SNR) - 2)),
  "vlb": LOST,
  "likelihood": LOST,
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_published_formula_on_ddpms_table(name):
  rows = np.arange(1, 1000)
  with jax.enable_x64(True):
    got = WEIGHTS[name]().of(SCHEDULES["linear"](), (rows + 1) / 1000, ROWS["eps"])
  np.testing.assert_allclose(got, PAPERS[name][rows], rtol=1e-7)


@pytest.mark.parametrize("name", ["vlb", "likelihood", "sigmoid"])
def test_the_continuous_bound_is_half_the_slope_of_the_snr(name):
  t, h = np.linspace(0.1, 0.9, 9), 1e-5
  with jax.enable_x64(True):
    schedule = SCHEDULES["continuous_linear"]()
    got = np.asarray(WEIGHTS[name]().of(schedule, t, ROWS["v"]))
  snr = lambda t: 1 / np.expm1(0.1 * t + 19.9 * t * t / 2)  # noqa: E731
  expected = (snr(t - h) - snr(t + h)) / (2 * h) / 2
  if name == "sigmoid":
    expected /= 1 + snr(t) * np.exp(-2)
  np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_likelihood_is_the_squared_diffusion_coefficient_of_the_score():
  """g^2 / 2 |score error|^2 = beta / 2 (alpha / sigma^2)^2 |x0 error|^2 under the VP-SDE."""
  t = np.linspace(0.1, 0.9, 9)
  bar, beta = np.exp(-0.1 * t - 19.9 * t * t / 2), 0.1 + 19.9 * t
  with jax.enable_x64(True):
    got = WEIGHTS["likelihood"]().of(SCHEDULES["continuous_linear"](), t, ROWS["score"])
  np.testing.assert_allclose(got, beta / 2 * bar / (1 - bar) ** 2, rtol=1e-8)


def test_weights_stay_finite_where_no_signal_is_left():
  schedule = SCHEDULES["linear"](zero_terminal=True)
  for make in WEIGHTS.values():
    assert np.all(np.isfinite(make().of(schedule, np.float32([0.5, 0.999, 1.0]), ROWS["v"])))
