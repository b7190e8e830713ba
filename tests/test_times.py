"""Draws of t: their densities, their pairs, and importance sampling against a plain loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import keys, objectives
from diffjax.objectives import OBJECTIVES
from diffjax.schedules import SCHEDULES, parameters, shifted
from diffjax.times import TIMES, no_history, probabilities, recorded
from diffjax.types import ConfigError, Unsuitable
from diffjax.weights import WEIGHTS

COUNT = 40000


def draws(count, key=0):
  return keys.Draws(keys.seed(key), jnp.arange(count), count)


CASES = [(name, "flow", {}) for name in TIMES if not TIMES[name]().table]
CASES += [("log_normal", "edm", {}), ("log_normal", "continuous_cosine", {"mean": 0.3, "std": 0.7})]
CASES += [("logit_normal", "continuous_cosine", {"mean": -0.5, "std": 0.8})]
CASES += [("log_normal", "edm", {"mean": -6.0, "std": 1.0}), ("logit_normal", "flow", {"mean": -7.0})]  # cut


@pytest.mark.parametrize("name, schedule, options", CASES)
def test_the_density_is_that_of_the_draws(name, schedule, options):
  """The density, integrated over the sorted draws, is their distribution function."""
  drawn = TIMES[name](**options).draw(SCHEDULES[schedule](), draws(COUNT), ())
  t, density = (np.asarray(a, np.float64) for a in drawn)
  order = np.argsort(t)
  t, density = t[order], density[order]
  mass = np.concatenate([[0], np.cumsum(np.diff(t) * (density[1:] + density[:-1]) / 2)])
  np.testing.assert_allclose(mass, np.arange(COUNT) / COUNT, atol=4 / np.sqrt(COUNT))


REACHES = [case for case in CASES if case[0].endswith("_normal") and case[2]]


def check(schedule, times):
  weight = WEIGHTS["simple"]()
  objectives.check(schedule, OBJECTIVES["regular"](weight), times, weight)


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
  with pytest.raises(Unsuitable, match=rf"whose mean is {options['mean']} and std") as error:
    check(SCHEDULES[schedule](), TIMES[name](**options))
  assert error.value.field == "times"


@pytest.mark.parametrize("name, schedule, options", REACHES)
def test_a_normal_that_is_cut_is_not(name, schedule, options):
  check(SCHEDULES[schedule](), TIMES[name](**options))


def test_log_normal_draws_have_edms_moments():
  schedule = SCHEDULES["edm"]()
  log_sigma = -schedule.logsnr(TIMES["log_normal"]().draw(schedule, draws(COUNT), ()).t) / 2
  np.testing.assert_allclose([log_sigma.mean(), log_sigma.std()], [-1.2, 1.2], atol=0.03)


@pytest.mark.parametrize("name", ["linear", "continuous_cosine"])
def test_antithetic_pairs_mirror(name):
  schedule = SCHEDULES[name]()
  t, density = TIMES["antithetic"]().draw(schedule, draws(64), ())
  ends = schedule.t_min + 1 if schedule.steps else 1
  np.testing.assert_allclose(t[::2] + t[1::2], ends, atol=1e-5)
  np.testing.assert_allclose(density, 1 / (schedule.steps or 1))
  part = keys.Draws(keys.seed(0), jnp.arange(7, 12), 64)
  np.testing.assert_array_equal(TIMES["antithetic"]().draw(schedule, part, ()).t, t[7:12])


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
  t, density = TIMES["importance"]().draw(schedule, draws(COUNT), history)
  rows = np.round(np.asarray(t) * steps).astype(int) - 1
  np.testing.assert_allclose(np.bincount(rows, minlength=steps) / COUNT, probabilities(history), atol=0.01)
  np.testing.assert_allclose(density, probabilities(history)[rows], rtol=1e-6)


def test_importance_wants_the_schedules_rows():
  with pytest.raises(ConfigError, match="the history has 5 rows and the schedule 4; they must agree"):
    TIMES["importance"]().draw(SCHEDULES["linear"](steps=4), draws(2), no_history(5))


def test_options_are_bound_by_name():
  t, _ = TIMES["log_normal"](mean=0.0, std=1e-3).draw(SCHEDULES["flow"](), draws(16), ())
  np.testing.assert_allclose(t, 0.5, atol=2e-3)


def drawn(times, schedule, draws, memory):
  """One compile instead of one an operation."""
  return jax.jit(lambda draws, memory: times.draw(schedule, draws, memory))(draws, memory)


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("schedule", ["linear", "flow", "learned"])
def test_every_draw_is_what_it_says_of_itself(name, schedule):
  """On rows or between them, with a density that follows the curve or not, remembering or not."""
  times, schedule = TIMES[name](), SCHEDULES[schedule]()
  if times.table and schedule.steps is None:
    with pytest.raises(Unsuitable, match="times is one which draws rows of a table"):
      check(schedule, times)
    return
  memory = times.start(schedule)
  t, density = drawn(times, schedule, draws(64), memory)
  assert t.shape == density.shape == (64,) and np.all(np.isfinite(t)) and np.all(density > 0)
  assert np.all(t >= np.float32(schedule.t_min)) and np.all(t <= 1)
  if schedule.steps:
    row = t * schedule.steps
    assert (np.abs(row - np.round(row)).max() < 1e-2) == times.rows
  losses = jnp.arange(1.0, 65)
  after = jax.jit(times.record)(memory, t, losses)
  assert jax.tree.structure(after) == jax.tree.structure(memory)
  assert bool(jax.tree.leaves(memory)) == times.divides
  if times.divides:
    assert after.counts.sum() == 64 and after.losses.max() == 64
  if parameters(schedule) is None:
    moved = drawn(times, shifted(schedule, 0.5), draws(64), memory).t
    assert (not np.allclose(moved, t)) == times.follows


@pytest.mark.parametrize("name", TIMES)
def test_a_part_of_a_batch_draws_what_the_whole_batch_draws_there(name):
  times, schedule = TIMES[name](), SCHEDULES["linear"](steps=20)
  memory = times.start(schedule)
  run = jax.jit(lambda index: times.draw(schedule, keys.Draws(keys.seed(0), index, 64), memory))
  whole, index = run(jnp.arange(64)), jnp.asarray([40, 3, 17, 63] * 16)
  for one, other in zip(run(index), whole, strict=True):
    np.testing.assert_array_equal(one, other[index])
