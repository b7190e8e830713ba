"""Stochastic samplers on Gaussian data: mean and covariance carried exactly through their affine steps.

A step on the exact denoiser is affine in the carry and in the noise, so that its Jacobians give the moments
of the samples without sampling. Where a step is not affine (the corrector's step size), many dimensions.
"""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from diffjax import keys
from diffjax.denoisers import Estimate, gaussian_denoiser
from diffjax.samplers import SAMPLERS, base, grids, langevin
from diffjax.schedules import SCHEDULES
from diffjax.types import ConfigError

MEAN, VAR = 0.7, 0.25
WEAK = [name for name in SAMPLERS if SAMPLERS[name]().order and not SAMPLERS[name]().deterministic]


def affine_step(schedule, sampler, draws, monkeypatch, denoiser=None):
  """(t, s, memory's times) -> Jacobians of a step by carry and noise, and its value at 0, jitted.

  The carry is (x, remembered estimates) in one dimension; `draws` is the number of noises in a step.
  """
  denoiser = denoiser or gaussian_denoiser(schedule, MEAN, VAR)
  start = sampler.start(jnp.zeros((1, 1)))
  key = keys.of_examples(keys.seed(0), jnp.arange(1))

  def run(state, noise, at, t, s):
    supply = iter(noise)
    monkeypatch.setattr(keys, "normal", lambda keys, shape, dtype: next(supply)[None, None])
    memory = tuple(
      p._replace(x0=v[None, None], at=a) for p, v, a in zip(start.memory, state[1:], at, strict=True)
    )
    out = sampler.step(denoiser, schedule, base.Carry(state[0][None, None], memory), t, s, key)
    assert next(supply, None) is None
    return jnp.stack([out.x[0, 0], *(p.x0[0, 0] for p in out.memory)]), [p.at for p in out.memory]

  @jax.jit
  def affine(at, t, s):
    zero = jnp.zeros(1 + len(start.memory)), jnp.zeros(draws)
    by_state, by_noise = jax.jacfwd(lambda x, z: run(x, z, at, t, s)[0], (0, 1))(*zero)
    return by_state, by_noise, *run(*zero, at, t, s)

  return affine, [p.at for p in start.memory]


def moments(schedule, grid, mean, var, affine, at):
  """Mean and variance at the grid's end of x with this mean and variance at its start."""
  m = np.zeros(1 + len(at))
  cov = np.zeros((len(m), len(m)))
  m[0], cov[0, 0] = mean, var
  for t, s in zip(grid[:-1], grid[1:], strict=True):
    by_state, by_noise, shift, at = affine(at, t, s)
    m = by_state @ m + shift
    cov = by_state @ cov @ by_state.T + by_noise @ by_noise.T
  return float(m[0]), float(cov[0, 0])


@pytest.mark.parametrize("variance, expected", [("fixed_small", 0.24613), ("fixed_large", 0.25075)])
def test_ancestral_chain_ends_with_the_computed_variance(variance, expected, monkeypatch):
  with jax.enable_x64(True):
    schedule = SCHEDULES["linear"]()
    affine = affine_step(schedule, SAMPLERS["ancestral"](variance=variance), 1, monkeypatch)
    _, var = moments(schedule, jnp.asarray(grids.leading(schedule, 1000)), 0.0, 1.0, *affine)
    alpha, sigma = schedule.alpha_sigma(schedule.t_min)
    gain = alpha * VAR / (alpha**2 * VAR + sigma**2)  # the final denoising
  np.testing.assert_allclose(gain**2 * var, expected, atol=6e-6)


@pytest.mark.parametrize("name", WEAK)
def test_fitted_weak_order(name, monkeypatch):
  counts, errors = [64, 128, 256], []
  with jax.enable_x64(True):
    schedule, sampler = SCHEDULES["continuous_cosine"](), SAMPLERS[name]()
    affine = affine_step(schedule, sampler, 1, monkeypatch)
    for count in counts:
      grid = schedule.t_of(jnp.linspace(-4.0, 4.0, count + 1))
      (alpha, sigma), (alpha_s, sigma_s) = (schedule.alpha_sigma(t) for t in (grid[0], grid[-1]))
      mean, var = moments(schedule, grid, alpha * MEAN, alpha**2 * VAR + sigma**2, *affine)
      errors.append(abs(mean - alpha_s * MEAN) + abs(var - alpha_s**2 * VAR - sigma_s**2))
  order = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
  assert abs(order - sampler.order) < 0.3, order


LEVELS = np.geomspace(0.01, 4.0, 64)  # variances of the data along 64 directions


def turned_denoiser(schedule, turn):
  """The exact denoiser of N(0, turn diag(LEVELS) turn^T)."""
  exact = gaussian_denoiser(schedule, 0.0, jnp.asarray(LEVELS))
  return lambda x, t: Estimate(exact(x @ turn, t).x0 @ turn.T)


def stationary(schedule, sampler, t, monkeypatch):
  """The covariance [64, 64] that repeated steps from t to t settle at, each affine in x and in its noise."""
  turn = np.linalg.qr(np.random.default_rng(0).standard_normal((64, 64)))[0]
  denoiser, key = turned_denoiser(schedule, turn), keys.of_examples(keys.seed(0), jnp.arange(1))

  def run(x, z):
    monkeypatch.setattr(keys, "normal", lambda keys, shape, dtype: z[None])
    return sampler.step(denoiser, schedule, base.Carry(x[None]), t, t, key).x[0]

  by_x, by_noise = jax.jit(jax.jacfwd(run, (0, 1)))(jnp.zeros(64), jnp.zeros(64))
  return turn.T @ scipy.linalg.solve_discrete_lyapunov(by_x, by_noise @ by_noise.T) @ turn


def churned(gamma, noise_scale, heun):
  """The variance in z = x / alpha that algorithm 2 of Karras et al. 2022 settles at on data of variance u."""

  def variance(alpha, sigma, u):
    r = sigma / alpha
    hat = (1 + gamma) * r
    slope = hat / (u + hat**2)
    gain = 1 + (r - hat) * slope
    if heun:
      gain = 1 + (r - hat) * (slope + gain * r / (u + r**2)) / 2
    return alpha**2 * gain**2 * noise_scale**2 * (hat**2 - r**2) / (1 - gain**2)

  return variance


def annealed(size):
  """The variance that x <- x - (e / V) x + sqrt(2 e) z settles at, e = size sigma^2 / 2, V that of x_t."""

  def variance(alpha, sigma, u):
    exact = alpha**2 * u + sigma**2
    return exact / (1 - size * sigma**2 / (4 * exact))

  return variance


# Those that claim no order and whose steps are affine: options, and the variance that they settle at.
SETTLING = {
  "euler": ({"churn": 0.2, "noise_scale": 1.1}, churned(0.2, 1.1, heun=False)),
  "heun": ({"churn": 0.2, "noise_scale": 1.1}, churned(0.2, 1.1, heun=True)),
  "annealed_langevin": ({"corrections": 1, "step_size": 0.3}, annealed(0.3)),
}


def test_everything_that_claims_no_order_is_held_to_its_moments():
  stochastic = {name for name in SAMPLERS if not (SAMPLERS[name]().order or SAMPLERS[name]().deterministic)}
  churning = {name for name in SAMPLERS if "churn" in inspect.signature(SAMPLERS[name]).parameters}
  assert stochastic | churning == {*SETTLING, "predictor_corrector"}


@pytest.mark.parametrize("scale", ["ve", "vp"])
@pytest.mark.parametrize("name", SETTLING)
def test_it_settles_at_its_predicted_covariance_in_64_dimensions(name, scale, monkeypatch):
  options, variance = SETTLING[name]
  with jax.enable_x64(True):
    schedule = SCHEDULES["continuous_cosine"](scale=scale)
    t = schedule.t_of(0.5)
    got = stationary(schedule, SAMPLERS[name](**options), t, monkeypatch)
    alpha, sigma = (float(c) for c in schedule.alpha_sigma(t))
  predicted, exact = variance(alpha, sigma, LEVELS), alpha**2 * LEVELS + sigma**2
  np.testing.assert_allclose(got, np.diag(predicted), rtol=1e-9, atol=1e-11)
  assert np.abs(predicted / exact - 1).max() > 0.003  # a bias that can be seen


def test_churn_keeps_to_its_interval():
  schedule = SCHEDULES["continuous_cosine"](scale="ve")
  key, x = keys.of_examples(keys.seed(0), jnp.arange(2)), jnp.ones((2, 3))
  denoiser = gaussian_denoiser(schedule, MEAN, VAR)
  churned = SAMPLERS["heun"](churn=0.2, sigma_min=0.5, sigma_max=2.0)
  for sigma, inside in ((0.4, False), (1.0, True), (3.0, False)):
    t, s = (schedule.t_of(-2 * np.log(f * sigma)) for f in (1.0, 0.8))
    got = churned.step(denoiser, schedule, base.Carry(x), t, s, key).x
    plain = SAMPLERS["heun"]().step(denoiser, schedule, base.Carry(x), t, s, key).x
    assert np.allclose(got, plain) != inside


@pytest.mark.parametrize("name", ["euler", "heun"])
def test_an_interval_of_churn_without_members_is_refused(name):
  with pytest.raises(ConfigError, match="^sigma_min is 2.0 and sigma_max 0.5"):
    SAMPLERS[name](churn=0.2, sigma_min=2.0, sigma_max=0.5)


def still(denoiser, schedule, carry, t, s, keys):
  """A predictor that does nothing."""
  return carry


@pytest.mark.parametrize("scale", ["ve", "vp", "fm"])
def test_the_corrector_settles_at_its_predicted_variance(scale, monkeypatch):
  """V = exact (1 + a snr^2), a = (alpha_t / alpha_s)^2, up to the norms' spread in 1024 dimensions."""
  monkeypatch.setitem(langevin.PREDICTORS, "still", lambda: base.Sampler(still, None, True))
  schedule, snr = SCHEDULES["continuous_cosine"](scale=scale), 0.4
  sampler = SAMPLERS["predictor_corrector"]("still", corrections=4, snr=snr)
  t, s = schedule.t_of(-0.5), schedule.t_of(1.0)
  alpha, sigma = schedule.alpha_sigma(s)
  a, exact = (schedule.alpha_sigma(t)[0] / alpha) ** 2, alpha**2 * VAR + sigma**2
  assert a == 1 if scale == "ve" else a < 0.6
  sample_keys, denoiser = keys.of_examples(keys.seed(0), jnp.arange(64)), gaussian_denoiser(schedule, 0, VAR)
  one = lambda k, x: sampler.step(denoiser, schedule, x, t, s, keys.fold(sample_keys, k))
  start = base.Carry(jnp.sqrt(exact) * keys.normal(sample_keys, (1024,)))
  x = jax.jit(lambda x: jax.lax.fori_loop(0, 30, one, x).x)(start)
  spread = exact * (6 * np.sqrt(2 / (64 * 1024)) + 2 / 1024)
  np.testing.assert_allclose(np.mean(np.square(x)), exact * (1 + a * snr**2), atol=spread)
  assert spread < exact * a * snr**2 / 2


def test_the_vp_correction_is_the_papers(monkeypatch):
  """Song et al. 2021, algorithm 5, in float64 NumPy: the step size has the factor alpha_i = 1 - beta_i."""
  monkeypatch.setitem(langevin.PREDICTORS, "still", lambda: base.Sampler(still, None, True))
  steps, row, snr, rng = 10, 6, 0.3, np.random.default_rng(0)
  x, noise = rng.standard_normal((2, 3, 64))
  betas = np.linspace(0.02, 0.5, steps)
  alpha_bar = np.cumprod(1 - betas)[row - 1]
  with jax.enable_x64(True):
    schedule = SCHEDULES["linear"](steps, beta_start=0.02, beta_end=0.5)
    sampler = SAMPLERS["predictor_corrector"]("still", snr=snr)
    monkeypatch.setattr(keys, "normal", lambda keys, shape, dtype: jnp.asarray(noise))
    t, s = (row + 1) / steps, row / steps
    draws = keys.of_examples(keys.seed(0), jnp.arange(3))
    got = sampler.step(
      gaussian_denoiser(schedule, MEAN, VAR), schedule, base.Carry(jnp.asarray(x)), t, s, draws
    ).x
  score = -(x - np.sqrt(alpha_bar) * MEAN) / (alpha_bar * VAR + 1 - alpha_bar)
  norm = lambda v: np.linalg.norm(v, axis=1, keepdims=True)
  e = 2 * (1 - betas[row]) * (snr * norm(noise) / norm(score)) ** 2
  np.testing.assert_allclose(got, x + e * score + np.sqrt(2 * e) * noise, rtol=1e-9)


def test_learned_variance_is_the_interpolation_between_the_fixed_ones(monkeypatch):
  with jax.enable_x64(True):
    schedule = SCHEDULES["linear"]()
    t, s = jnp.asarray(0.3), jnp.asarray(0.25)
    exact = gaussian_denoiser(schedule, MEAN, VAR)

    def var(**options):
      frac = options.pop("frac", None)
      denoiser = lambda x, t: Estimate(exact(x, t).x0, None if frac is None else jnp.full_like(x, frac))
      affine, at = affine_step(schedule, SAMPLERS["ancestral"](**options), 1, monkeypatch, denoiser)
      return float(affine(at, t, s)[1][0, 0] ** 2)

    small, large = var(variance="fixed_small"), var(variance="fixed_large")
    for frac in (0.0, 0.3, 1.0):
      expected = np.exp(frac * np.log(large) + (1 - frac) * np.log(small))
      np.testing.assert_allclose(var(variance="learned", frac=frac), expected, rtol=1e-9)
      np.testing.assert_allclose(var(variance="fixed_medium", var_frac=frac), expected, rtol=1e-9)
  with pytest.raises(ConfigError, match="hybrid"):
    var(variance="learned")


@pytest.mark.parametrize(
  "options, message",
  [
    ({"var_frac": 0.3}, "^var_frac is 0.3, but variance is 'fixed_large'; set it to 'fixed_medium'"),
    ({"variance": "fixed_medium"}, "^var_frac must be given with the variance 'fixed_medium'"),
    ({"variance": "fixed_medium", "var_frac": 1.5}, "^var_frac is 1.5; it must be between 0 and 1"),
  ],
)
def test_a_fixed_interpolation_and_its_share_go_together(options, message):
  with pytest.raises(ConfigError, match=message):
    SAMPLERS["ancestral"](**options)
