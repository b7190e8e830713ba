"""Objectives on Gaussian data against closed forms; examples do not couple."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import keys
from diffjax.denoisers import classifier_free, clipped, gaussian_denoiser, network_denoiser
from diffjax.gaussian import expand
from diffjax.objectives import TIMES, WEIGHTS, regular
from diffjax.predictions import INPUT_SCALES, ROWS, TIME_INPUTS, target
from diffjax.schedules import SCHEDULES

VAR = 0.25


def draws(count, key=0):
  return keys.Draws(keys.seed(key), jnp.arange(count), count)


def perfect(schedule, row):
  """The network that answers as the exact denoiser of N(0, VAR) does; its time input is t."""

  def apply(xt, t, cond, dropout_keys):
    x0 = gaussian_denoiser(schedule, 0.0, VAR)(xt, t).x0
    alpha, sigma = (expand(c, xt) for c in schedule.alpha_sigma(t))
    return target(row, schedule, x0, (xt - alpha * x0) / sigma, t)

  return apply


def make(times, weight, row):
  return regular(TIMES[times], WEIGHTS[weight](), ROWS[row], INPUT_SCALES["none"], TIME_INPUTS["t"])


@pytest.mark.parametrize("row", ["eps", "x0", "v", "score", "flow", "edm"])
@pytest.mark.parametrize("weight, cap", [("snr", np.inf), ("min_snr", 5.0)])
def test_snr_weights_have_their_closed_form_in_every_kind(row, weight, cap):
  with jax.enable_x64(True):
    schedule = SCHEDULES["continuous_cosine"](-6.0, 6.0)
    x0 = np.sqrt(VAR) * keys.normal(draws(4096).keys("data"), (16,))
    loss = make("stratified", weight, row)(perfect(schedule, ROWS[row]), schedule, x0, None, draws(4096))
    snr = np.exp(schedule.logsnr(np.linspace(0, 1, 20001)))
  expected = np.mean(np.minimum(snr, cap) * VAR / (1 + snr * VAR))  # posterior variance of x0
  np.testing.assert_allclose(loss.mean(), expected, rtol=0.02)


@pytest.mark.parametrize("row", ["eps", "x0", "v"])
def test_continuous_vlb_is_half_the_log_of_the_two_ends(row):
  with jax.enable_x64(True):
    schedule = SCHEDULES["continuous_cosine"](-6.0, 6.0)
    x0 = np.sqrt(VAR) * keys.normal(draws(4096).keys("data"), (16,))
    loss = make("stratified", "vlb", row)(perfect(schedule, ROWS[row]), schedule, x0, None, draws(4096))
  expected = 0.5 * np.log((1 + VAR * np.exp(6.0)) / (1 + VAR * np.exp(-6.0)))
  np.testing.assert_allclose(loss.mean(), expected, rtol=0.03)


def test_simple_is_the_squared_error_of_the_kind():
  schedule = SCHEDULES["linear"]()
  x0 = keys.normal(draws(512).keys("data"), (64,))
  apply = lambda xt, t, cond, dropout_keys: jnp.zeros_like(xt)  # noqa: E731
  loss = make("discrete", "simple", "eps")(apply, schedule, x0, None, draws(512))
  eps = keys.normal(draws(512).keys("eps"), (64,))
  np.testing.assert_allclose(loss, np.mean(np.square(eps), axis=1), rtol=1e-5)


@pytest.mark.parametrize("weight", WEIGHTS)
def test_losses_of_examples_do_not_couple_and_are_finite(weight):
  schedule = SCHEDULES["linear"]()
  apply = lambda xt, t, cond, dropout_keys: 0.9 * xt  # noqa: E731
  objective = make("discrete", weight, "eps")
  levels = jnp.round(keys.uniform(draws(64).keys("data")) * 255)[:, None] * jnp.ones(4)
  x0 = levels / 127.5 - 1
  whole = objective(apply, schedule, x0, None, draws(64))
  part = objective(apply, schedule, x0[5:9], None, keys.Draws(keys.seed(0), jnp.arange(5, 9), 64))
  assert np.all(np.isfinite(whole))
  np.testing.assert_allclose(whole[5:9], part, rtol=1e-5)


def test_times_are_uniform_and_strata_are_even():
  schedule = SCHEDULES["linear"](steps=10)
  t, density = TIMES["discrete"](schedule, draws(20000))
  counts = np.bincount(np.round(np.asarray(t) * 10).astype(int), minlength=11)[1:]
  np.testing.assert_allclose(counts, 2000, atol=5 * np.sqrt(1800))
  np.testing.assert_allclose(density, 0.1)
  t, _ = TIMES["stratified"](schedule, draws(40))
  np.testing.assert_array_equal(np.bincount(np.round(np.asarray(t) * 10).astype(int))[1:], 4)


def test_guidance_of_zero_is_the_conditional_model_and_w_extrapolates():
  schedule = SCHEDULES["linear"]()
  conditional = lambda cond: gaussian_denoiser(schedule, cond[:, None], VAR)  # noqa: E731
  cond, null = jnp.asarray([0.5, -0.5]), jnp.zeros(2)
  xt, t = jnp.asarray([[0.1], [0.3]]), jnp.asarray(0.5)
  with_cond, without = conditional(cond)(xt, t).x0, conditional(null)(xt, t).x0
  np.testing.assert_array_equal(classifier_free(conditional, cond, null, 0)(xt, t).x0, with_cond)
  guided = classifier_free(conditional, cond, null, 1.5)(xt, t).x0
  np.testing.assert_allclose(guided, with_cond + 1.5 * (with_cond - without), rtol=1e-5)


def test_network_denoiser_recovers_the_exact_one_and_clips():
  schedule = SCHEDULES["linear"]()
  xt, t = jnp.asarray([[0.1], [3.0]]), jnp.asarray([0.2, 0.01])
  exact = gaussian_denoiser(schedule, 0.0, VAR)(xt, t).x0
  for row in ("eps", "x0", "v", "score", "edm"):
    network = perfect(schedule, ROWS[row])
    apply = lambda x, time, network=network: network(x, time, None, None)  # noqa: E731
    denoiser = network_denoiser(apply, schedule, ROWS[row], INPUT_SCALES["none"], TIME_INPUTS["t"])
    np.testing.assert_allclose(denoiser(xt, t).x0, exact, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(clipped(denoiser)(xt, t).x0, np.clip(exact, -1, 1), rtol=1e-4)
