"""Denoisers of networks and of other schedules against the exact ones, and functions of a batch under vmap."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.denoisers import gaussian_denoiser, moved_to, network_denoiser, per_example, rescheduled
from diffjax.gaussian import expand
from diffjax.guidance import clipped
from diffjax.predictions import INPUT_SCALES, ROWS, TIME_INPUTS, Prediction, target
from diffjax.scales import SCALES
from diffjax.schedules import SCHEDULES

MEAN, VAR = 0.3, 0.25
XT = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32)


def kind(row, input_scale="none"):
  return Prediction(ROWS[row], INPUT_SCALES[input_scale], TIME_INPUTS["t"])


@pytest.mark.parametrize("input_scale", INPUT_SCALES)
@pytest.mark.parametrize("row", ["eps", "x0", "v", "score", "edm", "posterior"])
def test_network_denoiser_recovers_the_exact_one_and_clips(row, input_scale):
  """A network that undoes the scale of its input and answers as the exact denoiser does."""
  schedule = SCHEDULES["linear"]()
  xt, t = jnp.asarray([[0.1], [3.0]]), jnp.asarray([0.2, 0.01])
  exact = gaussian_denoiser(schedule, 0.0, VAR)

  def network(scaled, t, dropout_keys):
    assert dropout_keys is None
    xt = scaled / expand(INPUT_SCALES[input_scale](schedule, t), scaled)
    alpha, sigma = (expand(c, xt) for c in schedule.alpha_sigma(t))
    x0 = exact(xt, t).x0
    return target(ROWS[row], schedule, x0, (xt - alpha * x0) / sigma, t)

  denoiser, expected = network_denoiser(network, schedule, kind(row, input_scale)), exact(xt, t).x0
  assert denoiser(xt, t).var_frac is None
  np.testing.assert_allclose(denoiser(xt, t).x0, expected, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(clipped(denoiser)(xt, t).x0, np.clip(expected, -1, 1), rtol=1e-4, atol=1e-5)


def test_a_learned_variance_is_the_second_half_of_the_channels():
  network = lambda x, time, dropout_keys: jnp.concatenate([x, jnp.full_like(x, 0.5)], axis=-1)
  schedule = SCHEDULES["continuous_cosine"]()
  estimate = network_denoiser(network, schedule, kind("x0"), outputs=2)(XT, jnp.asarray(0.5))
  np.testing.assert_allclose(estimate.x0, XT)
  np.testing.assert_allclose(estimate.var_frac, 0.75)


PAIRS = [(own, other) for own in SCALES for other in SCALES]


@pytest.mark.parametrize("own, other", PAIRS)
def test_a_rescheduled_denoiser_is_that_of_the_other_schedule(own, other):
  """E[x0 | x_t] knows the log-SNR and x_t in units of its noise, and nothing of the schedule."""
  with jax.enable_x64(True):
    trained, request = SCHEDULES["continuous_cosine"](scale=own), SCHEDULES["linear"](scale=other)
    xt, t = jnp.asarray(XT, jnp.float64), jnp.asarray([0.001, 0.4, 1.0])
    got = rescheduled(gaussian_denoiser(trained, MEAN, VAR), trained, request)(xt, t).x0
    np.testing.assert_allclose(got, gaussian_denoiser(request, MEAN, VAR)(xt, t).x0, rtol=1e-9)
    times, factor = moved_to(trained, request, t)
    np.testing.assert_allclose(trained.logsnr(times), request.logsnr(t), rtol=1e-9)
    np.testing.assert_allclose(factor * request.alpha_sigma(t)[1], trained.alpha_sigma(times)[1], rtol=1e-12)


def test_a_rescheduled_denoiser_keeps_what_else_is_estimated():
  schedule, other = SCHEDULES["linear"](), SCHEDULES["continuous_cosine"]()
  exact = gaussian_denoiser(schedule, MEAN, VAR)
  learned = lambda xt, t: exact(xt, t)._replace(var_frac=jnp.full_like(xt, 0.3))
  np.testing.assert_array_equal(
    rescheduled(learned, schedule, other)(XT, jnp.asarray(0.5)).var_frac, np.float32(0.3)
  )


@pytest.mark.parametrize("name", ["edm", "linear", "flow"])
def test_beyond_its_ends_a_schedule_is_asked_at_them_with_their_noise(name):
  """The noise counts there: x_t is scaled to the end's sigma, be it more or less than was asked for."""
  own, other = SCHEDULES[name](), SCHEDULES["continuous_cosine"](-86.0, 86.0, scale="ve")
  low, high = sorted(own.ends)
  t = jnp.asarray([0.0, 0.5, 1.0])
  times, factor = moved_to(own, other, t)
  assert np.all(np.isfinite(times)) and np.all(factor > 0)
  np.testing.assert_allclose(times[0], own.t_min, atol=1e-6)
  np.testing.assert_allclose(own.logsnr(times[0]), high, rtol=1e-4)
  np.testing.assert_allclose(own.logsnr(times[1]), 0, atol=2e-3)
  if np.isfinite(low):
    np.testing.assert_allclose(times[2], 1, atol=1e-6)
  got = rescheduled(gaussian_denoiser(own, MEAN, VAR), own, other)(XT, t).x0
  scaled = XT * (own.alpha_sigma(times)[1] / other.alpha_sigma(t)[1])[:, None]
  np.testing.assert_allclose(got, gaussian_denoiser(own, MEAN, VAR)(scaled, times).x0, rtol=1e-5)


@pytest.mark.parametrize("name", SCHEDULES)
def test_where_no_signal_is_left_every_schedule_is_asked_at_its_end(name):
  """`flow` at t = 1 has log-SNR -inf, which few inverses can take."""
  own, flow = SCHEDULES[name](), SCHEDULES["flow"]()
  times, factor = moved_to(own, flow, jnp.asarray(1.0))
  np.testing.assert_allclose(times, 1, atol=1e-5)
  np.testing.assert_allclose(factor, own.alpha_sigma(1.0)[1], rtol=1e-4)


def test_a_schedule_rescheduled_to_itself_changes_nothing():
  with jax.enable_x64(True):
    for name, make in SCHEDULES.items():
      schedule = make()
      t = jnp.linspace(schedule.t_min, 1, 4)
      times, factor = moved_to(schedule, schedule, t)
      np.testing.assert_allclose(times, t, atol=1e-5, err_msg=name)
      np.testing.assert_allclose(factor, 1, rtol=1e-4, err_msg=name)


def bound(cond):
  """A function of a batch that holds the conditions of its examples, in a closure."""
  return lambda x, scale: {"sum": jnp.sum(x, axis=1) * scale + cond, "x": x * cond[:, None]}


def test_a_function_of_a_batch_is_one_of_examples_under_vmap():
  cond, x, scale = jnp.asarray([1.0, 2.0, 3.0]), XT, jnp.asarray([0.5, 1.0, 2.0])
  one, arrays = per_example(bound(cond), x, scale)
  each = lambda x, scale: one(arrays, x, scale)
  expected = bound(cond)(x, scale)
  for run in (jax.vmap(each), jax.jit(jax.vmap(each))):
    got = run(x, scale)
    assert got.keys() == expected.keys()
    for name in expected:
      np.testing.assert_allclose(got[name], expected[name], rtol=1e-6)
  shared = jax.vmap(functools.partial(each, scale=jnp.asarray(2.0)))(
    x
  )  # what is not mapped is each example's
  np.testing.assert_allclose(shared["sum"], bound(cond)(x, jnp.full(3, 2.0))["sum"], rtol=1e-6)


def test_it_may_be_traced_inside_with_conditions_that_are_traced():
  """As the ODE solvers call it: in a loop of a length of each example's own, under jit."""

  @jax.jit
  def run(cond, x, count):
    one, arrays = per_example(lambda x: jnp.sin(x + cond[:, None]), x)

    def solve(x, count):
      return jax.lax.while_loop(lambda s: s[0] < count, lambda s: (s[0] + 1, one(arrays, s[1])), (0, x))[1]

    return jax.vmap(solve)(x, count)

  cond, count = np.array([0.1, -0.4, 0.9]), np.array([3, 0, 5])
  expected = np.array(XT, np.float64)
  for i in range(3):
    for _ in range(count[i]):
      expected[i] = np.sin(expected[i] + cond[i])
  np.testing.assert_allclose(run(jnp.asarray(cond), XT, jnp.asarray(count)), expected, rtol=1e-5)
