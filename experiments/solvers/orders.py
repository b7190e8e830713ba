"""Orders of convergence on Gaussian data, where the exact answer is known, in float64.

Between log-SNR -4 and 4 on the continuous cosine schedule, evenly in log-SNR. Deterministic samplers are
compared with the exact flow, which keeps (x - alpha m) / sqrt(alpha^2 u + sigma^2). Of the others the mean
and the variance are compared: a step on the exact denoiser is affine in the carry and in its noise, so that
its Jacobians carry both through exactly. The order is the slope of log error against log steps.
"""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import keys
from diffjax.denoisers import gaussian_denoiser
from diffjax.samplers import base
from diffjax.samplers.base import Sampler
from diffjax.schedules import SCHEDULES

MEAN, VAR, END = 0.7, 0.25, 4.0
STEPS = {True: (256, 512, 1024, 2048), False: (64, 128, 256, 512)}  # deterministic or not


def fitted_order(sampler: Sampler) -> float:
  """The order that the errors show; needs jax.enable_x64(True)."""
  counts = STEPS[sampler.deterministic]
  error_of = flow_errors if sampler.deterministic else moment_errors
  return -np.polyfit(np.log(counts), np.log(error_of(sampler, counts)), 1)[0]


def _marginal(schedule, t):
  alpha, sigma = schedule.alpha_sigma(t)
  return alpha * MEAN, jnp.sqrt(alpha**2 * VAR + sigma**2)


def flow_errors(sampler: Sampler, counts: tuple[int, ...]) -> list[float]:
  """Largest distance from the exact flow over three starts, for each number of steps."""
  schedule = SCHEDULES["continuous_cosine"]()
  denoiser, x = gaussian_denoiser(schedule, MEAN, VAR), jnp.asarray([[-1.0], [0.2], [1.5]])
  sample_keys = keys.of_examples(keys.seed(0), jnp.arange(3))
  start = sampler.start(x)
  run = jax.jit(lambda grid, n: base.walk(denoiser, schedule, sampler, start, grid, 0, n, sample_keys).x)
  errors = []
  for count in counts:
    grid = schedule.t_of(jnp.linspace(-END, END, count + 1))
    (mean, std), (mean_end, std_end) = (_marginal(schedule, t) for t in (grid[0], grid[-1]))
    exact = mean_end + std_end / std * (x - mean)
    padded = jnp.pad(grid, (0, max(counts) - count), mode="edge")
    errors.append(float(jnp.abs(run(padded, count) - exact).max()))
  return errors


def moment_errors(sampler: Sampler, counts: tuple[int, ...]) -> list[float]:
  """|error of the mean| + |error of the variance| for each number of steps."""
  schedule = SCHEDULES["continuous_cosine"]()
  affine, memory_times = _affine_step(schedule, sampler)
  errors = []
  for count in counts:
    grid, at = schedule.t_of(jnp.linspace(-END, END, count + 1)), memory_times
    (mean, std), (mean_end, std_end) = (_marginal(schedule, t) for t in (grid[0], grid[-1]))
    m, cov = np.zeros(1 + len(at)), np.zeros((1 + len(at), 1 + len(at)))
    m[0], cov[0, 0] = mean, std**2
    for t, s in zip(grid[:-1], grid[1:], strict=True):
      by_state, by_noise, shift, at = affine(at, t, s)
      m = by_state @ m + shift
      cov = by_state @ cov @ by_state.T + np.outer(by_noise, by_noise)
    errors.append(float(abs(m[0] - mean_end) + abs(cov[0, 0] - std_end**2)))
  return errors


def _affine_step(schedule, sampler: Sampler):
  """(memory's times, t, s) -> Jacobians of a step by (x, remembered estimates) and by its noise, and more."""
  denoiser, start = gaussian_denoiser(schedule, MEAN, VAR), sampler.start(jnp.zeros((1, 1)))
  key = keys.of_examples(keys.seed(0), jnp.arange(1))

  def run(state, noise, at, t, s):
    past = zip(start.memory, state[1:], at, strict=True)
    memory = tuple(p._replace(x0=v[None, None], at=a) for p, v, a in past)
    with mock.patch.object(keys, "normal", lambda keys, shape, dtype: noise[None, None]):
      out = sampler.step(denoiser, schedule, base.Carry(state[0][None, None], memory), t, s, key)
    return jnp.stack([out.x[0, 0], *(p.x0[0, 0] for p in out.memory)]), [p.at for p in out.memory]

  @jax.jit
  def affine(at, t, s):
    zero = jnp.zeros(1 + len(start.memory)), jnp.zeros(())
    return *jax.jacfwd(lambda x, z: run(x, z, at, t, s)[0], (0, 1))(*zero), *run(*zero, at, t, s)

  return affine, [p.at for p in start.memory]
