"""Draws of t: their densities, their pairs, and importance sampling against a plain loop."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import keys
from diffjax.schedules import SCHEDULES
from diffjax.times import TIMES, by_importance, check, no_history, probabilities, recorded
from diffjax.types import ConfigError

COUNT = 40000


def draws(count, key=0):
  return keys.Draws(keys.seed(key), jnp.arange(count), count)


CASES = [(name, "flow", {}) for name in TIMES if name != "discrete"]
CASES += [("log_normal", "edm", {}), ("log_normal", "continuous_cosine", {"mean": 0.3, "std": 0.7})]
CASES += [("logit_normal", "continuous_cosine", {"mean": -0.5, "std": 0.8})]
CASES += [("log_normal", "edm", {"mean": -6.0, "std": 1.0}), ("logit_normal", "flow", {"mean": -7.0})]  # cut


@pytest.mark.parametrize("name, schedule, options", CASES)
def test_the_density_is_that_of_the_draws(name, schedule, options):
  """The density, integrated over the sorted draws, is their distribution function."""
  t, density = (
    np.asarray(a, np.float64) for a in TIMES[name](SCHEDULES[schedule](), draws(COUNT), **options)
  )
  order = np.argsort(t)
  t, density = t[order], density[order]
  mass = np.concatenate([[0], np.cumsum(np.diff(t) * (density[1:] + density[:-1]) / 2)])
  np.testing.assert_allclose(mass, np.arange(COUNT) / COUNT, atol=4 / np.sqrt(COUNT))


REACHES = [case for case in CASES if case[0].endswith("_normal") and case[2]]
MISSES = [
  ("log_normal", "edm", {"mean": 30.0, "std": 1.2}),
  ("log_normal", "edm", {"mean": -12.0, "std": 1.0}),
]
MISSES += [
  ("log_normal", "flow", {"mean": -20.0, "std": 2.0}),
  ("log_normal", "edm", {"mean": 0.0, "std": 1e7}),
]
MISSES += [("logit_normal", "flow", {"mean": -30.0, "std": 1.0})]


@pytest.mark.parametrize("name, schedule, options", MISSES)
def test_a_normal_that_misses_the_schedule_is_refused(name, schedule, options):
  with pytest.raises(ConfigError, match=rf"config.objective.{name}.mean is {options['mean']} and std"):
    check(SCHEDULES[schedule](), name, options)


@pytest.mark.parametrize("name, schedule, options", REACHES)
def test_a_normal_that_is_cut_is_not(name, schedule, options):
  check(SCHEDULES[schedule](), name, {"mean": 0.0, "std": 1.0} | options)


def test_log_normal_draws_have_edms_moments():
  schedule = SCHEDULES["edm"]()
  log_sigma = -schedule.logsnr(TIMES["log_normal"](schedule, draws(COUNT))[0]) / 2
  np.testing.assert_allclose([log_sigma.mean(), log_sigma.std()], [-1.2, 1.2], atol=0.03)


@pytest.mark.parametrize("name", ["linear", "continuous_cosine"])
def test_antithetic_pairs_mirror(name):
  schedule = SCHEDULES[name]()
  t, density = TIMES["antithetic"](schedule, draws(64))
  ends = schedule.t_min + 1 if schedule.steps else 1
  np.testing.assert_allclose(t[::2] + t[1::2], ends, atol=1e-5)
  np.testing.assert_allclose(density, 1 / (schedule.steps or 1))
  part = keys.Draws(keys.seed(0), jnp.arange(7, 12), 64)
  np.testing.assert_array_equal(TIMES["antithetic"](schedule, part)[0], t[7:12])


def iddpm_weights(history, counts, uniform=0.001):
  """Nichol & Dhariwal 2021's resampler as loops over lists."""
  if any(count < 10 for count in counts):
    return np.full(len(counts), 1 / len(counts))
  root = np.array([np.sqrt(np.mean(np.square(losses))) for losses in history])
  return (1 - uniform) * root / root.sum() + uniform / len(counts)


def test_importance_follows_the_published_resampler():
  rng, steps = np.random.default_rng(0), 4
  schedule, history = SCHEDULES["linear"](steps=steps), no_history(steps)
  kept = [[] for _ in range(steps)]
  record = jax.jit(recorded)
  for _ in range(12):
    rows, losses = rng.integers(0, steps, 8), rng.uniform(0.1, 2, 8) * 3.0 ** rng.integers(0, steps, 8)
    history = record(history, jnp.asarray((rows + 1) / steps), jnp.asarray(losses))
    for row, loss in zip(rows, losses, strict=True):
      kept[row] = (kept[row] + [loss])[-10:]
    np.testing.assert_allclose(probabilities(history), iddpm_weights(kept, history.counts), rtol=1e-5)
  assert np.all(history.counts >= 10)
  t, density = by_importance(history)(schedule, draws(COUNT))
  rows = np.round(np.asarray(t) * steps).astype(int) - 1
  np.testing.assert_allclose(np.bincount(rows, minlength=steps) / COUNT, probabilities(history), atol=0.01)
  np.testing.assert_allclose(density, probabilities(history)[rows], rtol=1e-6)


def test_importance_wants_the_schedules_rows():
  with pytest.raises(ConfigError, match="importance"):
    by_importance(no_history(5))(SCHEDULES["linear"](steps=4), draws(2))


def test_options_are_bound_by_name():
  times = functools.partial(TIMES["log_normal"], mean=0.0, std=1e-3)
  t, _ = times(SCHEDULES["flow"](), draws(16))
  np.testing.assert_allclose(t, 0.5, atol=2e-3)
