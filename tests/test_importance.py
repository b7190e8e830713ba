"""Importance sampling of the bound (Nichol & Dhariwal 2021, section 3.3) carried by training, against NumPy."""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from diffjax import config as configs
from diffjax import experiment, keys
from diffjax.data import SOURCES
from diffjax.denoisers import gaussian_denoiser
from diffjax.jobs.held_out import HeldOut
from diffjax.jobs.train_step import make_chunk, make_step
from diffjax.machine import state
from diffjax.machine.checkpoint import Checkpoints
from diffjax.machine.parallel import Parallel
from diffjax.models import MODELS
from diffjax.objectives import OBJECTIVES
from diffjax.predictions import INPUT_SCALES, ROWS, TIME_INPUTS, Prediction, target
from diffjax.schedules import SCHEDULES
from diffjax.times import TIMES, no_history, probabilities, recorded
from diffjax.types import ConfigError
from diffjax.weights import WEIGHTS

B, ROWS_OF_TABLE, LAST, UNIFORM = 16, 5, 3, 0.1
BETAS = np.linspace(0.1, 0.4, ROWS_OF_TABLE)


class Gain(nn.Module):
  """A network of two numbers, out = w x + c time; with two outputs a channel a third, every pixel's 2 var_frac - 1."""

  out_channels: int
  conditions: tuple = ()
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x, time, cond=None, keys=None):
    number = lambda i: self.param("wcv"[i], nn.initializers.constant(0.5 - i), ())
    out = number(0) * x + number(1) * time[:, None, None, None]
    if self.out_channels == x.shape[-1]:
      return out
    return jnp.concatenate([out, number(2) * jnp.ones_like(x)], axis=-1)


@pytest.fixture(autouse=True, scope="module")
def gain():
  """The network is an entry of MODELS while these tests run."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(MODELS, "gain", Gain)
    yield


def config_of(**changes):
  config = configs.base()
  config.model.name = "gain"
  config.schedule.linear.steps = ROWS_OF_TABLE
  config.schedule.linear.beta_start, config.schedule.linear.beta_end = BETAS[0], BETAS[-1]
  config.objective.weight, config.objective.times = "vlb", "importance"
  config.objective.importance.last, config.objective.importance.uniform = LAST, UNIFORM
  config.objective.time_input = "t"
  config.train.averages = ("constant",)
  config.train.batch_size, config.train.learning_rate, config.train.constant.rates = B, 0.01, (0.9,)
  config.sample.grid, config.sample.steps = "trailing", 2
  for path, value in changes.items():
    section, field = path.split("__")
    config[section][field] = value
  return config


def make(**changes):
  return experiment.create(config_of(**changes), SOURCES["digits"](split="train").fields)


def new_state(parts):
  params = parts.task.init(keys.seed(7))
  return state.create(params, parts.optimizer, parts.averages, keys.seed(3), parts.task.start())


def batches(count):
  batch = SOURCES["digits"](split="train").read(np.arange(count * B))
  batch["index"] = np.tile(np.arange(B, dtype=np.int32), count)
  return {name: value.reshape(count, B, *value.shape[1:]) for name, value in batch.items()}


def devices(mode, count):
  return Parallel(mode, Mesh(np.asarray(jax.devices()[:count]), ("data",)))


def walked(parts, parallel, count, chunk=1, start=None):
  """The states after the steps that follow `start`, one a chunk, on the host."""
  take = parallel.train(make_chunk(make_step(parts)))
  now = parallel.init(lambda: new_state(parts)) if start is None else start
  states, data, first = [], batches(12), 0 if start is None else int(start.step)
  for k in range(first, first + count, chunk):
    now, _ = take(now, parts.frozen, parallel.place(jax.tree.map(lambda x, k=k: x[k : k + chunk], data), B))
    states.append(jax.device_get(now))
  return states


def bound(x0, eps, row, w, c, v=-1.0):
  """L_t of the table per dimension, in float64: Ho et al. 2020, eq. 5, and eq. 13 for row 0.

  The variance is beta-tilde, or that of Nichol & Dhariwal 2021, eq. 15, for v > -1.
  """
  alpha, bar, share = 1 - BETAS, np.cumprod(1 - BETAS), (v + 1) / 2
  before = np.append(1.0, bar[:-1])
  small = BETAS * (1 - before) / (1 - bar)
  small[0] = small[1]
  var = np.exp(share * np.log(BETAS) + (1 - share) * np.log(small))
  xt = np.sqrt(bar[row]) * x0 + np.sqrt(1 - bar[row]) * eps
  out = w * xt + c * (row + 1) / ROWS_OF_TABLE
  if row:
    gap = BETAS[row] / np.sqrt(alpha[row] * (1 - bar[row])) * (out - eps)  # of the means
    ratio = small[row] / var[row]
    return np.mean(0.5 * (ratio - 1 - np.log(ratio) + gap**2 / var[row]))
  mean = (xt - np.sqrt(1 - bar[0]) * out) / np.sqrt(bar[0])
  cdf = lambda x: 0.5 * (1 + math.erf(x / np.sqrt(2 * var[0])))
  terms = []
  for data, centre in zip(x0.ravel(), mean.ravel(), strict=True):
    above = 1.0 if data > 0.999 else cdf(data + 1 / 255 - centre)
    terms.append(-np.log(above - (0.0 if data < -0.999 else cdf(data - 1 / 255 - centre))))
  return np.mean(terms)


def resampler(kept):
  """The probabilities of equation (18) from lists of losses, with their code's warm-up and uniform share."""
  if any(len(losses) < LAST for losses in kept):
    return np.full(ROWS_OF_TABLE, 1 / ROWS_OF_TABLE)
  root = np.sqrt([np.mean(np.square(losses)) for losses in kept])
  return (1 - UNIFORM) * root / root.sum() + UNIFORM / ROWS_OF_TABLE


@pytest.mark.parametrize("name", ["regular", "learned_vlb"])
def test_the_history_follows_the_papers_recursion(name):
  parts = make(objective__name=name)
  states, data = [new_state(parts), *walked(parts, devices("jit", 1), 8)], batches(12)
  kept, seen, uniform_steps = [[] for _ in range(ROWS_OF_TABLE)], np.zeros(ROWS_OF_TABLE, int), 0
  for step, (before, after) in enumerate(zip(states[:-1], states[1:], strict=True)):
    draws = keys.Draws(jax.random.fold_in(keys.seed(3), step), jnp.arange(B), B)
    u = np.asarray(keys.uniform(draws.keys("t")), np.float64)
    eps = np.asarray(keys.normal(draws.keys("eps"), (8, 8, 1)), np.float64)
    each = resampler(kept)
    uniform_steps += bool(np.ptp(each) == 0)
    rows = np.searchsorted(np.cumsum(each), u, side="right")
    network = {name: float(value) for name, value in before.params["model"].items()}
    for i, row in enumerate(rows):
      loss = bound(data["image"][step, i] / 127.5 - 1, eps[i], row, **network)
      kept[row] = (kept[row] + [loss])[-LAST:]
      seen[row] += 1
    np.testing.assert_array_equal(after.memory.counts, seen)
    for row, losses in enumerate(kept):
      np.testing.assert_allclose(after.memory.losses[row, LAST - len(losses) :], losses, rtol=2e-4)
    np.testing.assert_allclose(probabilities(after.memory, UNIFORM), resampler(kept), rtol=2e-4)
  assert 1 <= uniform_steps <= 4 and np.ptp(resampler(kept)) > 0.1  # both regimes were seen


def test_rows_are_uniform_until_every_row_has_its_number_of_losses():
  history, steps = no_history(3, 2), 3
  for rows, full in (([0, 0, 0, 1], False), ([1, 2], False), ([0, 0], False), ([2], True)):
    losses = jnp.arange(1.0, 1 + len(rows)) * (1 + jnp.asarray(rows))
    history = recorded(history, (jnp.asarray(rows) + 1) / steps, losses)
    assert bool(np.ptp(probabilities(history)) > 0) == full
  np.testing.assert_array_equal(history.counts, [5, 2, 2])
  np.testing.assert_array_equal(history.losses, [[1, 2], [8, 2], [6, 3]])


@pytest.fixture(scope="module")
def alone():
  """Six steps on one device, one at a time."""
  return walked(make(), devices("jit", 1), 6)


@pytest.mark.parametrize(
  "mode, count, parts, chunk",
  [
    ("pmap", 8, 1, 1),
    ("jit", 2, 4, 3),
    pytest.param("jit", 8, 1, 1, marks=pytest.mark.slow),
    pytest.param("pmap", 1, 1, 2, marks=pytest.mark.slow),
    pytest.param("pmap", 2, 4, 1, marks=pytest.mark.slow),
  ],
)
def test_the_history_is_the_same_on_all_devices_in_parts_and_in_chunks(alone, mode, count, parts, chunk):
  objects = make(train__accumulate=parts)
  last = walked(objects, devices(mode, count), 6, chunk)[-1]
  np.testing.assert_array_equal(last.memory.counts, alone[-1].memory.counts)
  np.testing.assert_allclose(last.memory.losses, alone[-1].memory.losses, rtol=1e-4)
  for name in "wc":
    np.testing.assert_allclose(last.params["model"][name], alone[-1].params["model"][name], rtol=1e-4)
  assert last.memory.counts.sum() == 6 * B and np.ptp(probabilities(last.memory)) > 0


@pytest.mark.parametrize("mode, count", [("jit", 8), pytest.param("pmap", 2, marks=pytest.mark.slow)])
def test_a_restored_run_goes_on_bit_for_bit(tmp_path, mode, count):
  parts, parallel = make(), devices(mode, count)
  straight = walked(parts, parallel, 6)
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(parallel.replicate(straight[2]), {})
    checkpoints.wait()
    result = checkpoints.restore(parallel.abstract(lambda: new_state(parts)), 3)
    np.testing.assert_array_equal(result.memory.losses, straight[2].memory.losses)
    again = walked(parts, parallel, 3, start=result)[-1]
  bare = lambda s: jax.tree.leaves(dataclasses.replace(s, key=jax.random.key_data(s.key)))
  for one, other in zip(bare(again), bare(straight[-1]), strict=True):
    np.testing.assert_array_equal(one, other)


def test_a_checkpoint_holds_a_memory_only_where_there_is_one(tmp_path):
  for times, there in (("importance", True), ("discrete", False)):
    parts = make(objective__times=times)
    with Checkpoints(tmp_path / times) as checkpoints:
      checkpoints.save(new_state(parts), {})
      checkpoints.wait()
      assert ("memory" in (tmp_path / times / "0" / "about" / "metadata").read_text()) == there
      result = checkpoints.restore(devices("jit", 1).abstract(lambda parts=parts: new_state(parts)), 0)
    assert bool(jax.tree.leaves(result.memory)) == there


def test_held_out_losses_do_not_know_the_history(alone):
  data = SOURCES["digits"](split="test").read(np.arange(8))
  held_out = HeldOut(make(), devices("jit", 1), data)
  fresh = dataclasses.replace(alone[-1], memory=make().task.start())
  assert held_out(alone[-1]) == held_out(fresh) and held_out(fresh)


def test_the_loss_is_an_unbiased_estimate_of_the_uniform_one_with_less_variance():
  var, count = 0.25, 32768
  schedule = SCHEDULES["linear"](steps=50, beta_start=0.002, beta_end=0.2)

  def network(xt, t, dropout_keys):
    x0 = gaussian_denoiser(schedule, 0.0, var)(xt, t).x0
    alpha, sigma = (c[:, None] for c in schedule.alpha_sigma(t))
    return target(ROWS["eps"], schedule, x0, (xt - alpha * x0) / sigma, t)

  def losses(times, memory, seed):
    draws = keys.Draws(keys.seed(seed), jnp.arange(count), count)
    x0 = np.sqrt(var) * keys.normal(draws.keys("data"), (8,))
    objective = OBJECTIVES["regular"](WEIGHTS["vlb"]())
    prediction = Prediction(ROWS["eps"], INPUT_SCALES["none"], TIME_INPUTS["t"])
    drawn = times.draw(schedule, draws, memory)
    return np.asarray(objective.loss(network, schedule, prediction, x0, drawn, draws)), drawn

  times = TIMES["importance"]()
  plain, (t, density) = losses(TIMES["discrete"](), (), 0)
  history = times.record(times.start(schedule), t, plain * density)
  assert np.all(history.counts >= 10)
  guided, _ = losses(times, history, 1)
  error = np.sqrt(plain.var() / count + guided.var() / count)
  np.testing.assert_allclose(guided.mean(), plain.mean(), atol=4 * error)
  assert 4 * error < 0.1 * plain.mean() and guided.var() < 0.5 * plain.var()


@pytest.mark.parametrize(
  "changes, message",
  [
    (
      {"objective__weight": "simple"},
      "config.objective.times is 'importance', which changes with the losses, but the weight does not divide",
    ),
    (
      {"objective__name": "learned_vlb", "objective__weight": "likelihood"},
      "config.objective.name is 'learned_vlb', which is the bound, but the weight is another",
    ),
    ({"schedule__name": "continuous_cosine"}, "config.objective.times is 'importance', which draws rows"),
  ],
)
def test_what_makes_no_sense_is_refused(changes, message):
  with pytest.raises(ConfigError, match=message):
    make(**changes)


def test_every_weight_that_divides_by_the_density_is_allowed():
  for weight in ("vlb", "likelihood", "sigmoid"):
    assert make(objective__weight=weight).task.start().counts.shape == (ROWS_OF_TABLE,)
