"""Every sampler on every schedule: no pair is refused, and on Gaussian data each ends where theory has it.

Sampling starts from the prior, which is not quite the noised data, so that even the exact reverse process ends
a little beside the data. On N(MEAN, VAR), with V = alpha^2 VAR + sigma^2 and a gap x - alpha MEAN at t = 1,

    probability flow   the gap is multiplied by g = sqrt(V_s / V_t)                                   (1)
    reverse SDE        by g = (alpha_t / alpha_s) V_s / V_t, and noise makes up V_s - g^2 V_t         (2)

Steps of h in log(alpha / sigma) and a claimed order p leave a relative error of about h^p in the deviation.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from one_of import OneOf

from diffjax import keys
from diffjax.denoisers import gaussian_denoiser
from diffjax.samplers import SAMPLERS, base, grids
from diffjax.schedules import SCHEDULES

MEAN, VAR = 0.7, 0.25
STEPS, SAMPLES, DIM = 128, 128, 16
MADE = {name: make() for name, make in SCHEDULES.items()} | {
  "geometric, a table": SCHEDULES["geometric"](steps=10),
  "scaled_linear, zero terminal": SCHEDULES["scaled_linear"](zero_terminal=True),
}
LANGEVIN = {"corrections": 4, "step_size": 0.2}
OPTIONS = {"annealed_langevin": LANGEVIN, "adaptive_ode": {"rtol": 1e-3, "atol": 1e-3}}


def marginal(schedule, t):
  """alpha and V at t."""
  alpha, sigma = (float(c) for c in schedule.alpha_sigma(t))
  return alpha, alpha**2 * VAR + sigma**2


def reverse_flow(schedule, grid):
  """The gap's factor g, and the variance that is left, equation (1)."""
  (_, start), (_, end) = (marginal(schedule, t) for t in (grid[0], grid[-1]))
  return np.sqrt(end / start), end / start * float(schedule.prior_std()) ** 2


def reverse_sde(schedule, grid):
  """The same of equation (2)."""
  (alpha_t, start), (alpha_s, end) = (marginal(schedule, t) for t in (grid[0], grid[-1]))
  gain = alpha_t / alpha_s * end / start
  return gain, end - gain**2 * (start - float(schedule.prior_std()) ** 2)


def annealed(schedule, grid):
  """The same of Song & Ermon 2019, algorithm 1, on this grid, whose steps are affine."""
  gap, var = 1.0, float(schedule.prior_std()) ** 2
  for t, s in zip(grid[:-1], grid[1:], strict=True):
    (alpha_t, sigma_t), (alpha_s, sigma_s) = (map(float, schedule.alpha_sigma(u)) for u in (t, s))
    scale = alpha_s / alpha_t if alpha_t else sigma_s / sigma_t
    gap, var, e = gap * scale, var * scale**2, LANGEVIN["step_size"] * sigma_s**2 / 2
    kept = 1 - e / marginal(schedule, s)[1]
    for _ in range(LANGEVIN["corrections"]):
      gap, var = gap * kept, var * kept**2 + 2 * e
  return gap, var


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_ends_as_theory_has_it_on_every_schedule(name):
  with jax.enable_x64(True):
    schedules, sampler = tuple(MADE.values()), SAMPLERS[name](**OPTIONS.get(name, {}))
    sample_keys = keys.of_examples(keys.seed(0), jnp.arange(SAMPLES))

    @jax.jit
    def run(index, grid):
      schedule = OneOf(schedules, index)
      carry = sampler.start(base.prior(schedule, sample_keys, (DIM,), grid[0]))
      denoiser = gaussian_denoiser(schedule, MEAN, VAR)
      return carry.x, base.walk(denoiser, schedule, sampler, carry, grid, 0, STEPS, sample_keys).x

    for index, (title, schedule) in enumerate(MADE.items()):
      grid = grids.logsnr(schedule, STEPS + 1, sigma_max=80.0 * schedule.ends_without_signal)
      x, end = (np.asarray(v) for v in run(jnp.asarray(index), jnp.asarray(grid)))
      assert np.all(np.isfinite(end)), title
      (alpha_t, _), (alpha_s, exact) = (marginal(schedule, t) for t in (grid[0], grid[-1]))
      h = abs(np.diff(np.asarray(schedule.logsnr(jnp.asarray(grid)))[1:])).max() / 2
      error, end = h ** (sampler.order or 1), end - alpha_s * MEAN
      if sampler.deterministic:
        gap = reverse_flow(schedule, grid)[0] * (x - alpha_t * MEAN)
        assert np.sqrt(np.mean((end - gap) ** 2) / exact) < error, title
        continue
      predicted = {"annealed_langevin": annealed}.get(name, reverse_sde)
      gain, var = predicted(schedule, grid)
      error = 0 if predicted is annealed else error
      excess = 0.16**2 if name == "predictor_corrector" else 0  # its snr^2, see langevin.py
      mean, spread = -gain * alpha_t * MEAN, np.sqrt(1 / end.size)
      assert abs(end.mean() - mean) < np.sqrt(var) * (error + 5 * spread), title
      assert abs(end.var() / var - 1) < 2 * error + excess + 5 * np.sqrt(2) * spread, title
