"""Samplers on exact denoisers: closed forms, order of convergence, independence of the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import keys
from diffjax.denoisers import gaussian_denoiser, mixture_denoiser
from diffjax.gaussian import posterior_mean
from diffjax.samplers import SAMPLERS, base, grids
from diffjax.schedules import SCALES, SCHEDULES

MEAN, VAR = 0.7, 0.25


def affine_moments(schedule, sampler, grid):
  """Mean and variance of the samples, carried exactly through steps that are affine in x and noise."""
  denoiser = gaussian_denoiser(schedule, MEAN, VAR)
  key = keys.of_examples(keys.seed(0), jnp.arange(1))

  @jax.jit
  def moments(t, s):
    step = lambda x: sampler.step(denoiser, schedule, base.Carry(x[None, None]), t, s, key).x[0, 0]  # noqa: E731
    noise = keys.normal(key, (1,), t.dtype)[0, 0]
    shift, gain = jax.value_and_grad(step)(jnp.zeros((), t.dtype))
    clean = MEAN * affine_mean(schedule, t, s)
    return gain, shift, noise, clean

  mean, var = 0.0, float(schedule.prior_std) ** 2
  for t, s in zip(grid[:-1], grid[1:], strict=True):
    gain, shift, noise, clean = moments(jnp.asarray(t), jnp.asarray(s))
    std = 0 if sampler.deterministic else float((shift - clean) / noise)
    mean = float(gain) * mean + (float(shift) if sampler.deterministic else float(clean))
    var = float(gain) ** 2 * var + std**2
  alpha, sigma = (float(c) for c in schedule.alpha_sigma(grid[-1]))
  gain = alpha * VAR / (alpha**2 * VAR + sigma**2)
  return MEAN + gain * (mean - alpha * MEAN), gain**2 * var


def affine_mean(schedule, t, s):
  """The noiseless ancestral step of x = 0, per unit of the data's mean."""
  alpha, sigma = schedule.alpha_sigma(t)
  x0 = 1 - alpha**2 * VAR / (alpha**2 * VAR + sigma**2)
  one = jnp.ones((1, 1), jnp.asarray(t).dtype)
  return posterior_mean(schedule, x0 * one, 0 * one, s, t)[0, 0]


@pytest.mark.parametrize("variance, expected", [("fixed_small", 0.24613), ("fixed_large", 0.25075)])
def test_ancestral_chain_ends_with_the_computed_variance(variance, expected):
  with jax.enable_x64(True):
    schedule = SCHEDULES["linear"]()
    sampler = SAMPLERS["ancestral"](variance=variance)
    _, var = affine_moments(schedule, sampler, grids.leading(schedule, 1000))
  np.testing.assert_allclose(var, expected, atol=6e-6)


def exact_flow(schedule, x, t, s):
  """The probability-flow solution on N(MEAN, VAR): standardised x is constant."""
  (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.alpha_sigma(t), schedule.alpha_sigma(s)
  ratio = jnp.sqrt((alpha_s**2 * VAR + sigma_s**2) / (alpha_t**2 * VAR + sigma_t**2))
  return alpha_s * MEAN + ratio * (x - alpha_t * MEAN)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", ["ddim"])
def test_fitted_order_of_deterministic_samplers(name, scale):
  with jax.enable_x64(True):
    schedule = SCHEDULES["continuous_cosine"](scale=scale)
    sampler = SAMPLERS[name]()
    denoiser = gaussian_denoiser(schedule, MEAN, VAR)
    sample_keys = keys.of_examples(keys.seed(0), jnp.arange(3))
    x = jnp.asarray([[-1.0], [0.2], [1.5]])
    errors = []
    counts = [16, 32, 64, 128]
    for count in counts:
      grid = schedule.t_of(jnp.linspace(-4.0, 4.0, count + 1))
      carry = base.walk(denoiser, schedule, sampler, sampler.start(x), grid, 0, count, sample_keys)
      errors.append(jnp.abs(carry.x - exact_flow(schedule, x, grid[0], grid[-1])).max())
  order = -np.polyfit(np.log(counts), np.log(np.array(errors)), 1)[0]
  assert abs(order - sampler.order) < 0.3, order


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_step_to_the_same_time_is_the_identity(name):
  schedule = SCHEDULES["continuous_cosine"]()
  sampler = SAMPLERS[name]()
  x = keys.normal(keys.of_examples(keys.seed(1), jnp.arange(4)), (3,))
  t = jnp.asarray(0.4)
  sample_keys = keys.of_examples(keys.seed(0), jnp.arange(4))
  got = sampler.step(gaussian_denoiser(schedule, MEAN, VAR), schedule, sampler.start(x), t, t, sample_keys)
  np.testing.assert_allclose(got.x, x, rtol=1e-5, atol=1e-5)


def draw(sampler, index, grid_steps=20, schedule=None, key=0):
  schedule = schedule or SCHEDULES["linear"]()
  denoiser = gaussian_denoiser(schedule, MEAN, VAR)
  grid, length = base.padded(grids.leading(schedule, grid_steps))
  return base.sample(denoiser, schedule, sampler, grid, length, keys.seed(key), index, (2, 3))


@pytest.mark.parametrize("name", SAMPLERS)
def test_sample_i_does_not_depend_on_its_batch(name):
  sampler = SAMPLERS[name]()
  whole = draw(sampler, jnp.arange(8))
  parts = [draw(sampler, jnp.asarray([3])), draw(sampler, jnp.asarray([5, 3]))[1:]]
  for part in parts:
    np.testing.assert_allclose(part[0], whole[3], rtol=1e-5, atol=1e-5)
  assert not np.allclose(whole[3], whole[4])


def test_eta_one_is_ancestral_sampling_with_the_small_variance():
  index = jnp.arange(4)
  one = draw(SAMPLERS["ddim"](eta=1.0), index)
  other = draw(SAMPLERS["ancestral"](variance="fixed_small"), index)
  np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_walk_is_a_python_loop_and_ends_in_the_denoised_estimate(name):
  schedule = SCHEDULES["linear"]()
  sampler, denoiser = SAMPLERS[name](), gaussian_denoiser(schedule, MEAN, VAR)
  sample_keys = keys.of_examples(keys.seed(0), jnp.arange(4))
  grid = jnp.asarray(grids.leading(schedule, 10))
  carry = sampler.start(base.prior(schedule, sample_keys, (2, 3)))
  step_keys = keys.purpose(sample_keys, "step")
  for k in range(9):
    draws = keys.fold(step_keys, k)
    carry = sampler.step(denoiser, schedule, carry, grid[k], grid[k + 1], draws)
  expected = denoiser(carry.x, jnp.asarray(schedule.t_min, grid.dtype)).x0
  got = draw(sampler, jnp.arange(4), grid_steps=10)
  np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_one_compile_for_every_number_of_steps_and_key():
  schedule = SCHEDULES["linear"]()
  denoiser = gaussian_denoiser(schedule, MEAN, VAR)

  @jax.jit
  def run(grid, length, key):
    index = jnp.arange(2)
    return base.sample(denoiser, schedule, SAMPLERS["ddim"](), grid, length, key, index, (2,))

  for steps in (5, 50, 1000):
    run(*base.padded(grids.leading(schedule, steps)), keys.seed(steps))
  assert run._cache_size() == 1


def test_inversion_returns_to_the_noise():
  with jax.enable_x64(True):
    schedule = SCHEDULES["continuous_cosine"]()
    sampler, denoiser = SAMPLERS["ddim"](), gaussian_denoiser(schedule, MEAN, VAR)
    sample_keys = keys.of_examples(keys.seed(0), jnp.arange(1))
    grid = schedule.t_of(jnp.linspace(-4.0, 4.0, 2001))
    x = jnp.asarray([[0.3]])
    there = base.walk(denoiser, schedule, sampler, base.Carry(x), grid, 0, 2000, sample_keys)
    back = base.walk(denoiser, schedule, sampler, there, grid[::-1], 0, 2000, sample_keys)
  np.testing.assert_allclose(back.x, x, atol=5e-3)


def test_ddim_finds_the_modes_of_a_mixture():
  schedule = SCHEDULES["linear"]()
  means = jnp.asarray([[-1.0, 0.5], [1.0, -0.5]])
  weights = jnp.asarray([0.25, 0.75])
  denoiser = mixture_denoiser(schedule, means, jnp.asarray([0.01, 0.01]), weights)
  grid, length = base.padded(grids.leading(schedule, 200))
  x = base.sample(denoiser, schedule, SAMPLERS["ddim"](), grid, length, keys.seed(0), jnp.arange(4096), (2,))
  second = np.asarray(x[:, 0] > 0)
  np.testing.assert_allclose(second.mean(), 0.75, atol=4 * np.sqrt(0.75 * 0.25 / 4096) + 0.01)
  np.testing.assert_allclose(x[second].mean(0), means[1], atol=0.02)
  np.testing.assert_allclose(x[second].std(0), 0.1, atol=0.02)
