"""Stochastic samplers on Gaussian data: mean and covariance carried exactly through their affine steps.

A step on the exact denoiser is affine in the carry and in the noise, so that its Jacobians give the moments
of the samples without sampling. Where a step is not affine (the corrector's step size), many dimensions.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import keys
from diffjax.denoisers import Estimate, gaussian_denoiser
from diffjax.samplers import SAMPLERS, base, grids
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


def stationary(affine, at, t):
  """The variance that repeated steps from t to t settle at."""
  by_state, by_noise, _, _ = affine(at, t, t)
  return float(by_noise[0] @ by_noise[0] / (1 - by_state[0, 0] ** 2))


def edm_stationary(u, r, gamma, heun):
  """The same for algorithm 2 of Karras et al. 2022 on N(0, u), in z = x / alpha."""
  hat = (1 + gamma) * r
  slope = hat / (u + hat**2)
  gain = 1 + (r - hat) * slope
  if heun:
    gain = 1 + (r - hat) * (slope + gain * r / (u + r**2)) / 2
  return gain**2 * (hat**2 - r**2) / (1 - gain**2)


@pytest.mark.parametrize("scale", ["ve", "vp"])
@pytest.mark.parametrize("name", ["euler", "heun"])
def test_churn_settles_as_the_algorithm_of_edm(name, scale, monkeypatch):
  with jax.enable_x64(True):
    schedule = SCHEDULES["continuous_cosine"](scale=scale)
    t = schedule.t_of(0.5)
    got = stationary(*affine_step(schedule, SAMPLERS[name](churn=0.2), 1, monkeypatch), t)
    alpha, sigma = (float(c) for c in schedule.alpha_sigma(t))
  np.testing.assert_allclose(
    got / alpha**2, edm_stationary(VAR, sigma / alpha, 0.2, name == "heun"), rtol=1e-9
  )


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


def test_annealed_langevin_settles_at_its_predicted_variance(monkeypatch):
  with jax.enable_x64(True):
    schedule, size = SCHEDULES["continuous_cosine"](), 0.3
    t = schedule.t_of(1.0)
    sampler = SAMPLERS["annealed_langevin"](corrections=1, step_size=size)
    got = stationary(*affine_step(schedule, sampler, 1, monkeypatch), t)
    alpha, sigma = (float(c) for c in schedule.alpha_sigma(t))
  exact = alpha**2 * VAR + sigma**2
  np.testing.assert_allclose(got, exact / (1 - size * sigma**2 / (4 * exact)), rtol=1e-9)


def test_the_corrector_settles_at_its_predicted_variance():
  """From t to t the predictor stays: V = exact (1 + snr^2), up to the norms' spread in 1024 dimensions."""
  schedule, snr = SCHEDULES["continuous_cosine"](), 0.4
  sampler = SAMPLERS["predictor_corrector"](corrections=4, snr=snr)
  t = schedule.t_of(1.0)
  alpha, sigma = schedule.alpha_sigma(t)
  exact = alpha**2 * VAR + sigma**2
  sample_keys, denoiser = (
    keys.of_examples(keys.seed(0), jnp.arange(256)),
    gaussian_denoiser(schedule, 0.0, VAR),
  )
  start = base.Carry(jnp.sqrt(exact) * keys.normal(sample_keys, (1024,)))
  x = jax.jit(lambda x: base.walk(denoiser, schedule, sampler, x, jnp.full(31, t), 0, 30, sample_keys).x)(
    start
  )
  spread = exact * np.sqrt(2 / (256 * 1024))
  np.testing.assert_allclose(np.mean(np.square(x)), exact * (1 + snr**2), atol=6 * spread + 2 / 1024)
  assert 6 * spread + 2 / 1024 < exact * snr**2 / 5


def test_learned_variance_is_the_interpolation_between_the_fixed_ones(monkeypatch):
  with jax.enable_x64(True):
    schedule = SCHEDULES["linear"]()
    t, s = jnp.asarray(0.3), jnp.asarray(0.25)
    exact = gaussian_denoiser(schedule, MEAN, VAR)

    def var(**options):
      frac = options.pop("frac", None)
      denoiser = lambda x, t: Estimate(exact(x, t).x0, None if frac is None else jnp.full_like(x, frac))  # noqa: E731
      affine, at = affine_step(schedule, SAMPLERS["ancestral"](**options), 1, monkeypatch, denoiser)
      return float(affine(at, t, s)[1][0, 0] ** 2)

    small, large = var(variance="fixed_small"), var(variance="fixed_large")
    for frac in (0.0, 0.3, 1.0):
      expected = np.exp(frac * np.log(large) + (1 - frac) * np.log(small))
      np.testing.assert_allclose(var(variance="learned", frac=frac), expected, rtol=1e-9)
  with pytest.raises(ConfigError, match="hybrid"):
    var(variance="learned")
