"""Objectives on Gaussian data against closed forms; examples do not couple."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import keys
from diffjax.denoisers import classifier_free, clipped, gaussian_denoiser, network_denoiser
from diffjax.gaussian import expand
from diffjax.objectives import LEARNS_VARIANCE, OBJECTIVES, TIMES, WEIGHTS, check
from diffjax.predictions import INPUT_SCALES, ROWS, TIME_INPUTS, target
from diffjax.schedules import SCHEDULES, parameters, rebuilt
from diffjax.types import ConfigError

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


def make(times, weight, row, name="regular", **options):
  parts = TIMES[times], WEIGHTS[weight](), ROWS[row], INPUT_SCALES["none"], TIME_INPUTS["t"]
  return OBJECTIVES[name](*parts, **options)


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


CASES = [("regular", weight) for weight in WEIGHTS]
CASES += [("hybrid", "simple"), ("sliced", "snr"), ("vdm", "vlb")]


@pytest.mark.parametrize("name, weight", CASES)
def test_losses_of_examples_do_not_couple_and_are_finite(name, weight):
  schedule = SCHEDULES["learned" if name == "vdm" else "linear"]()
  times = "uniform" if name == "vdm" else "discrete"
  apply = lambda xt, t, cond, dropout_keys: jnp.tile(0.9 * xt, 1 + (name in LEARNS_VARIANCE))  # noqa: E731
  objective = make(times, weight, "eps", name)
  run = jax.jit(lambda x0, index: objective(apply, schedule, x0, None, keys.Draws(keys.seed(0), index, 64)))
  levels = jnp.round(keys.uniform(draws(64).keys("data")) * 255)[:, None] * jnp.ones(4)
  x0, index = levels / 127.5 - 1, jnp.arange(64)
  whole = run(x0, index)
  moved = run(jnp.concatenate([x0[5:9], 0 * x0[:60]]), jnp.concatenate([index[5:9], index[:60]]))
  assert np.all(np.isfinite(whole))
  np.testing.assert_allclose(whole[5:9], moved[:4], rtol=1e-5)


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


def test_ncsn_is_a_triple():
  """Song & Ermon 2019, eq. 5 and 6, with lambda = sigma^2, twice and per dimension."""
  schedule = SCHEDULES["geometric"](sigma_min=0.01, sigma_max=1.0, steps=10)
  levels = np.geomspace(0.01, 1.0, 10)
  x0 = keys.normal(draws(64).keys("data"), (8,))
  apply = lambda xt, t, cond, dropout_keys: -xt / (1 + 2 * t[:, None])  # noqa: E731
  loss = make("discrete", "snr", "score")(apply, schedule, x0, None, draws(64))
  t = np.asarray(TIMES["discrete"](schedule, draws(64))[0], np.float64)[:, None]
  sigma = levels[np.round(t * 10).astype(int) - 1]
  noisy = x0 + sigma * np.asarray(keys.normal(draws(64).keys("eps"), (8,)), np.float64)
  expected = sigma**2 * (-noisy / (1 + 2 * t) + (noisy - x0) / sigma**2) ** 2
  np.testing.assert_allclose(loss, expected.mean(1), rtol=1e-3)


def test_sliced_score_matching_is_half_the_negative_fisher_information():
  """With the exact score of N(0, V): E = l (1 / 2V - 1 / V) per dimension, l = sigma^2."""
  with jax.enable_x64(True):
    schedule = SCHEDULES["continuous_cosine"](-6.0, 6.0)
    x0 = np.sqrt(VAR) * keys.normal(draws(4096).keys("data"), (16,))
    objective = make("stratified", "snr", "score", "sliced")
    run = jax.jit(lambda x0: objective(perfect(schedule, ROWS["score"]), schedule, x0, None, draws(4096)))
    loss = np.asarray(run(x0))
    alpha, sigma = schedule.alpha_sigma(np.linspace(0, 1, 20001))
    expected = float(np.mean(-(sigma**2) / (2 * (alpha**2 * VAR + sigma**2))))
  np.testing.assert_allclose(loss.mean(), expected, atol=4 * loss.std() / 64)
  assert 4 * loss.std() / 64 < 0.1 * abs(expected)


def iddpm_term(x0, xt, estimate, frac, i):
  """L_i of Nichol & Dhariwal 2021 on DDPM's betas, in nats, elementwise, in float64."""
  beta = np.linspace(1e-4, 0.02, 1000)
  bar = np.cumprod(1 - beta)
  before = np.append(1.0, bar[:-1])
  small = beta * (1 - before) / (1 - bar)
  small[0] = small[1]
  mean = lambda data: (  # noqa: E731
    np.sqrt(before[i]) * beta[i] / (1 - bar[i]) * data
    + np.sqrt(1 - beta[i]) * (1 - before[i]) / (1 - bar[i]) * xt
  )
  logvar = frac * np.log(beta[i]) + (1 - frac) * np.log(small[i])
  if i == 0:
    cdf = lambda x: 0.5 * (1 + np.vectorize(math.erf)(x / np.sqrt(2)))  # noqa: E731
    gap, std = x0 - mean(estimate), np.exp(logvar / 2)
    return -np.log(cdf((gap + 1 / 255) / std) - cdf((gap - 1 / 255) / std))
  ratio = small[i] / np.exp(logvar)
  return 0.5 * (logvar - np.log(small[i]) - 1 + ratio + (mean(x0) - mean(estimate)) ** 2 / np.exp(logvar))


def test_hybrid_is_iddpms_and_holds_the_mean_in_the_bound():
  with jax.enable_x64(True):
    schedule, x0 = SCHEDULES["linear"](), jnp.asarray([[0.2], [-0.4]])
    parts = WEIGHTS["simple"](), ROWS["eps"], INPUT_SCALES["none"], TIME_INPUTS["t"]
    eps, out = np.asarray(keys.normal(draws(2).keys("eps"), (1,))), jnp.asarray([0.1, -0.4])

    @jax.jit
    def loss(mean_and_raw, t):
      apply = lambda xt, t, cond, keys: jnp.broadcast_to(mean_and_raw, (2, 2))  # noqa: E731
      fixed = lambda schedule, draws: (jnp.full(2, t), jnp.full(2, 1e-3))  # noqa: E731
      objective = OBJECTIVES["hybrid"](fixed, *parts, vlb_weight=0.001)
      return objective(apply, schedule, x0, None, draws(2))

    by_out = jax.jit(jax.jacobian(loss))
    for row in (0, 1, 400, 999):
      t = (row + 1) / 1000
      alpha, sigma = (float(c) for c in schedule.alpha_sigma(t))
      xt = alpha * np.asarray(x0) + sigma * eps
      bound = iddpm_term(np.asarray(x0), xt, (xt - sigma * 0.1) / alpha, 0.3, row)
      expected = (eps - 0.1) ** 2 + 0.001 * bound / 1e-3
      np.testing.assert_allclose(loss(out, t), expected[:, 0], rtol=1e-5)
      slope = by_out(out, t)
      np.testing.assert_allclose(slope[:, 0], 2 * (0.1 - eps[:, 0]), rtol=1e-9)  # of L_simple alone
      assert np.all(slope[:, 1] != 0)


def binary_network(schedule):
  """The exact denoiser of a fair sign, as an eps network: E[x0 | x_t] = tanh(alpha x_t / sigma^2)."""

  def apply(xt, t, cond, dropout_keys):
    alpha, sigma = (expand(c, xt) for c in schedule.alpha_sigma(t))
    return (xt - alpha * jnp.tanh(alpha * xt / sigma**2)) / sigma

  return apply


def test_vdm_with_the_exact_denoiser_is_the_entropy_of_the_data():
  with jax.enable_x64(True):
    schedule = SCHEDULES["learned"](logsnr_min=-8.0, logsnr_max=3.0, width=4)
    x0 = jnp.sign(keys.normal(draws(32768).keys("data"), (16,)))
    objective = make("stratified", "vlb", "eps", "vdm", levels=2)
    run = jax.jit(lambda x0: objective(binary_network(schedule), schedule, x0, None, draws(32768)))
    loss = np.asarray(run(x0))
  np.testing.assert_allclose(loss.mean(), np.log(2), atol=4 * loss.std() / np.sqrt(32768))
  assert 4 * loss.std() / np.sqrt(32768) < 0.03


def test_vdm_trains_the_ends_by_the_bound_and_the_interior_by_its_variance():
  with jax.enable_x64(True):
    schedule = SCHEDULES["learned"](logsnr_min=-4.0, logsnr_max=5.0, width=3)
    start = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), parameters(schedule))
    x0, seen = jnp.sign(keys.normal(draws(32).keys("data"), (4,))), draws(32)
    apply = lambda xt, t, cond, keys: jnp.tanh(xt + t[:, None])  # noqa: E731
    bound = make("uniform", "vlb", "eps", "vdm", levels=2)
    term = make("uniform", "likelihood", "eps")  # the bound's last term alone

    def loss(params):
      return bound(apply, rebuilt(schedule, params), x0, None, seen).mean()

    def squared(params):
      return (term(apply, rebuilt(schedule, params), x0, None, seen) ** 2).mean()

    grads = jax.jit(jax.grad(loss))(start)
    value, spread = jax.jit(loss), jax.jit(squared)

    def slope(function, section, leaf, place, h=1e-5):
      def moved(by):
        changed = jax.tree.map(lambda a: a, start)
        inside = changed if section is None else changed[section]
        inside[leaf] = inside[leaf].at[place].add(by)
        return float(function(changed))

      return (moved(h) - moved(-h)) / (2 * h)

    for place in (0, 1):
      np.testing.assert_allclose(grads["ends"][place], slope(value, None, "ends", place), rtol=1e-5)
    for leaf, place in (("slope", ()), ("weight", 0), ("rate", 1), ("centre", 2)):
      expected = slope(spread, "interior", leaf, place)
      np.testing.assert_allclose(grads["interior"][leaf][place], expected, rtol=1e-5, atol=1e-9)


REFUSED = [
  ("continuous_cosine", "regular", "discrete", "simple"),
  ("continuous_cosine", "regular", "importance", "vlb"),
  ("continuous_cosine", "hybrid", "uniform", "simple"),
  ("linear", "hybrid", "uniform", "simple"),
  ("linear", "vdm", "discrete", "vlb"),
  ("learned", "vdm", "uniform", "simple"),
  ("linear", "regular", "uniform", "vlb"),
  ("linear", "regular", "log_normal", "sigmoid"),
  ("linear", "regulr", "discrete", "simple"),
  ("linear", "regular", "discret", "simple"),
  ("linear", "regular", "discrete", "simpel"),
]


@pytest.mark.parametrize("schedule, objective, times, weight", REFUSED)
def test_refused_combinations(schedule, objective, times, weight):
  with pytest.raises(ConfigError, match="objective"):
    check(SCHEDULES[schedule](), objective, times, weight)


def test_allowed_combinations():
  check(SCHEDULES["linear"](), "regular", "importance", "vlb")
  check(SCHEDULES["linear"](), "hybrid", "stratified", "simple")
  check(SCHEDULES["edm"](), "regular", "log_normal", "edm")
  check(SCHEDULES["learned"](), "vdm", "antithetic", "vlb")
