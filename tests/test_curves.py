"""Bisected against the inverses of curves that have one in closed form, and its derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.curves import (
  Bisected,
  Cosine,
  Curve,
  Linear,
  Power,
  Shifted,
  Sigmoid,
  Straight,
  SubVpLinear,
  Table,
  VpLinear,
)
from diffjax.gaussian import diffuse
from diffjax.schedules import Schedule, check

CURVES = {
  "vp_linear": VpLinear(0.1, 20.0),
  "cosine": Cosine(-20.0, 20.0),
  "sub_vp_linear": SubVpLinear(0.1, 20.0),
  "linear": Linear(-8.0, 9.0),
  "power": Power(0.002, 80.0, 7.0),
  "straight": Straight(),
  "sigmoid": Sigmoid(-3.0, 3.0, -20.0, 20.0),
  "table": Table(np.array([9.0, 8.0, 3.0, 2.5, -4.0])),
  "shifted": Shifted(Cosine(-20.0, 20.0), -2.0),
}
FLAT = [name for name in CURVES if name != "table"]  # and differentiable


@pytest.mark.parametrize("name", CURVES)
def test_the_inverse_is_that_of_the_closed_form(name):
  curve, low = CURVES[name], 0.21 if name == "table" else 1e-3  # a table begins at 1 / T
  run = jax.jit(Bisected(curve.logsnr).t_of)
  t = np.linspace(low, 1 - 1e-3, 101)
  single = run(curve.logsnr(jnp.asarray(t, jnp.float32)))
  assert single.dtype == jnp.float32
  np.testing.assert_allclose(single, t, atol=1e-4)  # the log-SNR itself is rounded
  with jax.enable_x64(True):
    logsnr = curve.logsnr(jnp.asarray(t))
    double = Bisected(curve.logsnr).t_of(logsnr)
    assert double.dtype == jnp.float64
    np.testing.assert_allclose(double, curve.t_of(logsnr), atol=1e-12)
    np.testing.assert_allclose(double, t, atol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_it_finds_the_last_digit_and_the_ends(dtype):
  """Of t itself, where the curve is 1 - t exactly; beyond the ends the ends."""
  with jax.enable_x64(True):
    bisected = Bisected(lambda t: 1 - t)
    t = jnp.asarray([2.0**-10, 0.3, 0.5, 0.75], dtype)
    np.testing.assert_allclose(bisected.t_of(1 - t), t, atol=2 * float(jnp.finfo(dtype).eps))
    ends = bisected.t_of(jnp.asarray([jnp.inf, 7.0, -7.0, -jnp.inf], dtype))
    np.testing.assert_allclose(ends, [0, 0, 1, 1], atol=1e-15)
    assert bisected.t_of(jnp.asarray(0.25, dtype)).shape == ()
    assert bisected.t_of(jnp.zeros((2, 3), dtype)).shape == (2, 3)


@pytest.mark.parametrize("name", FLAT)
def test_its_derivatives_are_those_of_the_closed_form(name):
  """The first by grad, forward and under vmap, and the second, which differentiates the rule itself."""
  with jax.enable_x64(True):
    curve = CURVES[name]
    t_of = Bisected(curve.logsnr).t_of
    logsnr = jnp.append(
      curve.logsnr(jnp.linspace(0.05, 0.95, 7)), 0
    )  # where some curves change their formula
    first = jax.jit(jax.vmap(jax.grad(curve.t_of)))(logsnr)
    np.testing.assert_allclose(jax.jit(jax.vmap(jax.grad(t_of)))(logsnr), first, rtol=1e-8)
    forward = jax.jit(lambda at: jax.jvp(t_of, (at,), (2 * jnp.ones_like(at),)))(logsnr)
    np.testing.assert_allclose(forward[0], curve.t_of(logsnr), atol=1e-12)
    np.testing.assert_allclose(forward[1], 2 * first, rtol=1e-8)
    second = jax.jit(jax.vmap(jax.grad(jax.grad(curve.t_of))))(logsnr)
    got = jax.jit(jax.vmap(jax.grad(jax.grad(t_of))))(logsnr)
    np.testing.assert_allclose(got, second, rtol=1e-6, atol=1e-10)


def smooth(t):
  """A shape with no inverse in closed form."""
  return 6 - 12 * t - jnp.sin(6 * jnp.pi * t) / 2


def test_a_schedule_of_a_new_shape_needs_only_its_log_snr():
  schedule = Schedule(Bisected(smooth), "fm", t_min=0.01)
  check(schedule)
  assert isinstance(schedule.curve, Curve)
  t = jnp.linspace(0.01, 1, 51)
  logsnr = schedule.logsnr(t)
  np.testing.assert_allclose(logsnr, smooth(np.asarray(t)), rtol=1e-6)
  np.testing.assert_allclose(schedule.t_of(logsnr), t, atol=1e-5)
  np.testing.assert_allclose(
    schedule.slope(t), -12 - 3 * np.pi * np.cos(6 * np.pi * np.asarray(t)), rtol=1e-4
  )
  alpha, sigma = schedule.alpha_sigma(t)
  np.testing.assert_allclose(alpha + sigma, 1, rtol=1e-6)
  assert np.all(np.diff(alpha) < 0)


def test_it_is_a_pytree_that_compiles_once():
  count = []

  @jax.jit
  def run(schedule, x, t):
    count.append(1)
    return diffuse(schedule, x, jnp.ones_like(x), schedule.t_of(schedule.logsnr(t)))

  x, t = jnp.ones((2, 3)), jnp.asarray([0.2, 0.6])
  first = run(Schedule(Bisected(smooth)), x, t)
  again = run(Schedule(Bisected(smooth)), x, t)
  assert len(count) == 1 and not jax.tree.leaves(Bisected(smooth))
  np.testing.assert_array_equal(first, again)
  alpha, sigma = Schedule(Bisected(smooth)).alpha_sigma(t)
  np.testing.assert_allclose(first[:, 0], alpha + sigma, rtol=1e-5)
