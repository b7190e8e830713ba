"""Cycles over all pairs of kinds and all scale rules, and the relation between their errors."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import config as configs
from diffjax import experiment
from diffjax.data.source import Field
from diffjax.gaussian import diffuse
from diffjax.predictions import (
  INPUT_SCALES,
  ROWS,
  TIME_INPUTS,
  Prediction,
  check,
  error_scale,
  target,
  to_x0_eps,
)
from diffjax.scales import SCALES
from diffjax.schedules import SCHEDULES
from diffjax.types import ConfigError, Unsuitable


def draw(seed):
  return np.random.default_rng(seed).normal(size=(5, 3))


TIMES = np.array([0.05, 0.2, 0.5, 0.8, 0.95])
CONTINUOUS = [kind for kind in ROWS if kind != "posterior"]


@pytest.mark.parametrize("scale", SCALES)
def test_cycles_over_all_pairs(scale):
  with jax.enable_x64(True):
    schedule = SCHEDULES["continuous_cosine"](scale=scale)
    x0, eps = jnp.asarray(draw(0)), jnp.asarray(draw(1))
    xt = diffuse(schedule, x0, eps, TIMES)
    for one, other in itertools.product((ROWS[kind] for kind in CONTINUOUS), repeat=2):
      out = target(one, schedule, x0, eps, TIMES)
      back = to_x0_eps(one, schedule, xt, out, TIMES)
      there = target(other, schedule, *back, TIMES)
      again = to_x0_eps(other, schedule, xt, there, TIMES)
      np.testing.assert_allclose(again[0], x0, rtol=1e-7, atol=1e-7)
      np.testing.assert_allclose(again[1], eps, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("kind", CONTINUOUS)
def test_squared_errors_scale_as_stated(kind, scale):
  with jax.enable_x64(True):
    schedule = SCHEDULES["continuous_cosine"](scale=scale)
    xt, one, other = jnp.asarray(draw(2)), jnp.asarray(draw(3)), jnp.asarray(draw(4))
    in_x0 = to_x0_eps(ROWS[kind], schedule, xt, one, TIMES)[0]
    in_x0 -= to_x0_eps(ROWS[kind], schedule, xt, other, TIMES)[0]
    ratio = error_scale(ROWS[kind], schedule, TIMES)[:, None]
    np.testing.assert_allclose((one - other) ** 2, ratio * in_x0**2, rtol=1e-7)


def test_x0_is_returned_as_it_is():
  out = jnp.asarray(draw(5), jnp.float32)
  x0, _ = to_x0_eps(ROWS["x0"], SCHEDULES["linear"](), out * 0 + 3, out, jnp.float32(TIMES))
  np.testing.assert_array_equal(x0, out)


def test_v_and_edm_agree_with_their_papers():
  with jax.enable_x64(True):
    vp, ve = SCHEDULES["continuous_cosine"](), SCHEDULES["continuous_cosine"](scale="ve")
    x0, eps = jnp.asarray(draw(6)), jnp.asarray(draw(7))
    alpha, sigma = (c[:, None] for c in vp.alpha_sigma(TIMES))
    np.testing.assert_allclose(target(ROWS["v"], vp, x0, eps, TIMES), alpha * eps - sigma * x0)
    sigma = ve.alpha_sigma(TIMES)[1][:, None]
    total = sigma**2 + 0.25
    c_skip, c_out = 0.25 / total, sigma * 0.5 / np.sqrt(total)
    expected = (x0 - c_skip * (x0 + sigma * eps)) / c_out
    np.testing.assert_allclose(target(ROWS["edm"], ve, x0, eps, TIMES), expected, rtol=1e-9)


def test_index_is_ddpms_integer():
  schedule = SCHEDULES["linear"]()
  rows = np.arange(1000)
  got = TIME_INPUTS["index"](schedule, ((rows + 1) / 1000).astype(np.float32))
  np.testing.assert_array_equal(got, rows)


def test_unit_input_has_unit_variance():
  schedule = SCHEDULES["continuous_cosine"](scale="ve")
  alpha, sigma = schedule.alpha_sigma(jnp.float32(TIMES))
  scale = INPUT_SCALES["unit"](schedule, jnp.float32(TIMES), sigma_data=0.7)
  np.testing.assert_allclose(scale**2 * (0.49 * alpha**2 + sigma**2), 1, rtol=1e-5)


def test_posterior_is_ddpms_mean_with_x0_in_row_0():
  beta = np.linspace(1e-4, 0.02, 1000)
  bar = np.cumprod(1 - beta)
  before = np.append(1.0, bar[:-1])
  x0, eps = draw(8)[:, :1], draw(9)[:, :1]
  rows = np.array([0, 1, 10, 500, 999])
  of = lambda values: values[rows][:, None]
  xt = np.sqrt(of(bar)) * x0 + np.sqrt(1 - of(bar)) * eps
  expected = np.sqrt(of(before)) * of(beta) / (1 - of(bar)) * x0
  expected += np.sqrt(1 - of(beta)) * (1 - of(before)) / (1 - of(bar)) * xt
  with jax.enable_x64(True):
    schedule, t = SCHEDULES["linear"](), (rows + 1) / 1000
    got = target(ROWS["posterior"], schedule, jnp.asarray(x0), jnp.asarray(eps), t)
    back = to_x0_eps(ROWS["posterior"], schedule, jnp.asarray(xt), got, t)[0]
  np.testing.assert_allclose(got, expected, rtol=1e-8)
  np.testing.assert_allclose(back, x0, rtol=1e-6)


def prediction(predict, time_input):
  return Prediction(ROWS[predict], INPUT_SCALES["none"], TIME_INPUTS[time_input])


REFUSED = [
  ("flow", {}, "eps", "t", "predict"),
  ("flow", {}, "score", "t", "predict"),
  ("linear", {"zero_terminal": True}, "eps", "index", "predict"),
  ("linear", {}, "flow", "index", "predict"),
  ("continuous_cosine", {}, "posterior", "t", "predict"),
  ("continuous_cosine", {}, "v", "index", "time_input"),
  ("flow", {}, "v", "logsnr", "time_input"),
  ("flow", {}, "v", "log_sigma", "time_input"),
]


@pytest.mark.parametrize("name, options, predict, time_input, field", REFUSED)
def test_refused_combinations(name, options, predict, time_input, field):
  with pytest.raises(Unsuitable, match=f"^{field} is one which ") as error:
    check(SCHEDULES[name](**options), prediction(predict, time_input))
  assert error.value.field == field


@pytest.mark.parametrize(
  "field, value", [("predict", "epsilon"), ("time_input", "row"), ("input_scale", "unt")]
)
def test_names_that_are_none_are_refused(field, value):
  config = configs.base()
  config.objective[field] = value
  with pytest.raises(ConfigError, match=f"config.objective.{field} is '{value}'; it must be one of "):
    experiment.create(config, {"image": Field((8, 8, 1), "uint8")})


def test_allowed_combinations():
  for name, predict, time_input in (
    ("flow", "flow", "t"),
    ("flow", "v", "t"),
    ("linear", "posterior", "index"),
  ):
    check(SCHEDULES[name](), prediction(predict, time_input))
  check(SCHEDULES["linear"](zero_terminal=True), prediction("v", "index"))
