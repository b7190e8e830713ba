"""Schedules against float64 NumPy written from the papers, also near both ends."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from variants import VARIANTS

from diffjax import config as configs
from diffjax import experiment, keys
from diffjax.data.source import Field
from diffjax.likelihood import LIKELIHOODS, Likelihood
from diffjax.scales import SCALES
from diffjax.schedules import LIMIT, SCHEDULES, from_betas, parameters, rebuilt, shifted
from diffjax.types import ConfigError


def ddpm_alpha_bar():
  return np.cumprod(1 - np.linspace(1e-4, 0.02, 1000, dtype=np.float64))


def iddpm_alpha_bar():
  f = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
  return np.cumprod(1 - np.minimum(1 - f[1:] / f[:-1], 0.999))


def stable_diffusion_alpha_bar():
  return np.cumprod(1 - np.linspace(np.sqrt(0.00085), np.sqrt(0.012), 1000) ** 2)


TABLES = [
  ("linear", ddpm_alpha_bar),
  ("cosine", iddpm_alpha_bar),
  ("scaled_linear", stable_diffusion_alpha_bar),
]


@pytest.mark.parametrize("name, paper", TABLES)
def test_tables_equal_the_papers_in_float32(name, paper):
  alpha, sigma = SCHEDULES[name]().alpha_sigma(((np.arange(1000) + 1) / 1000).astype(np.float32))
  np.testing.assert_allclose(alpha**2, paper(), rtol=2e-5)
  np.testing.assert_allclose(sigma**2, 1 - paper(), rtol=2e-5)


@given(st.floats(1e-3, 1))
def test_continuous_linear_is_the_vp_sde(t):
  integral = 0.1 * t + 0.5 * 19.9 * t * t
  alpha, sigma = SCHEDULES["continuous_linear"]().alpha_sigma(np.float32(t))
  np.testing.assert_allclose(alpha**2, np.exp(-integral), rtol=1e-4)
  np.testing.assert_allclose(sigma**2, -np.expm1(-integral), rtol=1e-4)


@given(st.floats(0.02, 0.98))
def test_continuous_cosine_is_log_tan_inside(t):
  got = SCHEDULES["continuous_cosine"]().logsnr(np.float32(t))
  np.testing.assert_allclose(got, -2 * np.log(np.tan(np.pi * t / 2)), atol=6e-3)


def test_continuous_cosine_spans_its_log_snrs():
  schedule = SCHEDULES["continuous_cosine"]()
  np.testing.assert_allclose(schedule.logsnr(np.float32([0, 1])), [20, -20], rtol=1e-5)


# Compiled once for schedules that differ in their numbers alone.
@jax.jit
def values_of(schedule, t):
  """The log-SNR, alpha and sigma at t, and the time of that log-SNR."""
  logsnr = schedule.logsnr(t)
  return logsnr, *schedule.alpha_sigma(t), schedule.t_of(logsnr)


@jax.jit
def slopes_of(schedule, t):
  """Of alpha and sigma, and of the log-SNR forwards and backwards."""
  return schedule.derivatives(t), schedule.slope(t), jax.vmap(jax.grad(schedule.logsnr))(t)


@pytest.mark.parametrize("variant", VARIANTS)
def test_strictly_decreasing_with_an_inverse(variant):
  with jax.enable_x64(True):
    schedule = VARIANTS[variant]()
    t = np.linspace(schedule.t_min, 1, 4001)
    logsnr, alpha, sigma, back = map(np.asarray, values_of(schedule, t))
  assert logsnr.dtype == np.float64
  assert np.all(np.diff(logsnr) < 0)
  np.testing.assert_allclose(back, t, atol=1e-9)
  with np.errstate(divide="ignore"):
    assert np.all(np.diff(sigma / alpha) > 0) and np.all(sigma > 0) and np.all(alpha[:-1] > 0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_float32_follows_float64(variant):
  schedule = VARIANTS[variant]()
  t = np.linspace(schedule.t_min, 1, 4001).astype(np.float32)
  *single, back = values_of(schedule, t)
  with jax.enable_x64(True):
    *double, _ = values_of(schedule, t.astype(np.float64))
  np.testing.assert_allclose(single[0], double[0], rtol=1e-4, atol=1e-3)
  for one, other in zip(single[1:], double[1:], strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6)  # of each, however small
  np.testing.assert_allclose(values_of(schedule, back)[0], single[0], rtol=1e-3, atol=1e-2)


T = np.linspace(0.03, 0.97, 21)


def chen_sigmoid(t, start=-3.0, end=3.0, tau=0.9):
  logistic = lambda x: 1 / (1 + np.exp(-x))
  low, high = logistic(start / tau), logistic(end / tau)
  gamma = (high - logistic((t * (end - start) + start) / tau)) / (high - low)
  return np.sqrt(gamma), np.sqrt(1 - gamma)


def sub_vp_sde(t):
  integral = 0.1 * t + 0.5 * 19.9 * t * t
  return np.exp(-integral / 2), 1 - np.exp(-integral)


def karras(t, low=0.002, high=80.0, rho=7.0):
  return np.ones_like(t), (high ** (1 / rho) + (1 - t) * (low ** (1 / rho) - high ** (1 / rho))) ** rho


def sd3_shift(t, s=3.0):
  moved = s * t / (1 + (s - 1) * t)
  return 1 - moved, moved


PAPERS = [
  ("sigmoid", {"tau": 0.9, "logsnr_min": -50.0, "logsnr_max": 50.0}, chen_sigmoid),
  ("sub_vp", {}, sub_vp_sde),
  ("geometric", {}, lambda t: (np.ones_like(t), 0.01 * (50 / 0.01) ** t)),
  ("edm", {}, karras),
  ("flow", {}, lambda t: (1 - t, t)),
]


@pytest.mark.parametrize("name, options, paper", PAPERS)
def test_continuous_schedules_equal_the_papers(name, options, paper):
  with jax.enable_x64(True):
    alpha, sigma = SCHEDULES[name](**options).alpha_sigma(T)
  np.testing.assert_allclose(alpha, paper(T)[0], rtol=1e-8)
  np.testing.assert_allclose(sigma, paper(T)[1], rtol=1e-8)


@pytest.mark.parametrize(
  "start, end, tau", [(-3, 3, 0.3), (0, 3, 0.1), (-3, 3, 0.1), (-3, 3, 0.03), (-0.2, 0.2, 1)]
)
def test_a_steep_or_flat_sigmoid_keeps_its_digits(start, end, tau):
  schedule = SCHEDULES["sigmoid"](float(start), float(end), float(tau))
  t = np.linspace(0, 1, 201).astype(np.float32)
  single = schedule.logsnr(t)
  with jax.enable_x64(True):
    double = np.asarray(schedule.logsnr(t.astype(np.float64)))
    np.testing.assert_allclose(schedule.t_of(double), t, atol=1e-9)
  np.testing.assert_allclose(single, double, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(schedule.logsnr(schedule.t_of(single)), single, rtol=1e-3, atol=1e-2)
  assert np.all(np.diff(double) < 0) and np.all(np.isfinite(single))


def test_the_shift_of_flow_is_sd3s():
  with jax.enable_x64(True):
    alpha, sigma = shifted(SCHEDULES["flow"](), -2 * np.log(3.0)).alpha_sigma(T)
  np.testing.assert_allclose(alpha, sd3_shift(T)[0], rtol=1e-8)
  np.testing.assert_allclose(sigma, sd3_shift(T)[1], rtol=1e-8)


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "learned"])
def test_the_shift_for_resolution_is_simple_diffusions(name):
  """Images d times as large, averaged down to the old size, have the old ratio of sigma to alpha."""
  with jax.enable_x64(True):
    plain = SCHEDULES[name]()
    larger = shifted(plain, 2 * np.log(64 / 256))
    assert (larger.scale, larger.steps, larger.t_min) == (plain.scale, plain.steps, plain.t_min)
    (alpha, sigma), (alpha_4, sigma_4) = plain.alpha_sigma(T), larger.alpha_sigma(T)
    np.testing.assert_allclose(sigma_4 / 4 / alpha_4, sigma / alpha, rtol=1e-10)
  assert shifted(plain, 0.0) is plain


FIELDS = {"image": Field((8, 8, 1), "uint8")}


def logsnr_of_the_task(config, monkeypatch):
  """The log-SNR at 0.5 of the schedule that a config's task has, as a likelihood is given it."""
  half = lambda denoiser, schedule, images, keys: Likelihood(jnp.full(len(images), schedule.logsnr(0.5)), 0)
  monkeypatch.setitem(LIKELIHOODS, "half", half)
  config.eval.likelihood = ("half",)
  measure = experiment.create(config, FIELDS).task.likelihoods["half"]
  sample_keys = keys.of_examples(keys.seed(0), jnp.arange(2))
  return measure({"model": {}}, {}, {"image": jnp.zeros((2, 8, 8, 1), jnp.uint8)}, sample_keys)["bits"]


def test_the_shift_is_a_field_of_every_config(monkeypatch):
  config = configs.base()
  config.model.unet.channels, config.model.unet.multipliers, config.model.unet.attention = 8, (1,), ()
  plain = logsnr_of_the_task(config, monkeypatch)
  np.testing.assert_allclose(plain, SCHEDULES["linear"]().logsnr(0.5), rtol=1e-6)
  config.schedule.shift = -1.5
  np.testing.assert_allclose(logsnr_of_the_task(config, monkeypatch), plain - 1.5, rtol=1e-6)
  config.schedule.name = "learned"
  message = "^config.schedule.name is 'learned', which trains its own ends, but shift is -1.5; set logsnr_min"
  with pytest.raises(ConfigError, match=message):
    experiment.create(config, FIELDS)
  config.schedule.name, config.schedule.shift = "linear", float("inf")
  with pytest.raises(ConfigError, match="config.schedule.shift is inf; it must be finite"):
    experiment.create(config, FIELDS)


def test_geometric_table_has_ncsns_levels():
  sigma = SCHEDULES["geometric"](sigma_min=0.01, sigma_max=1.0, steps=10).alpha_sigma(np.arange(1, 11) / 10)[
    1
  ]
  np.testing.assert_allclose(sigma, np.exp(np.linspace(np.log(0.01), np.log(1.0), 10)), rtol=1e-5)


@pytest.mark.parametrize("name, paper", TABLES)
def test_zero_terminal_snr_is_the_published_algorithm(name, paper):
  root = np.sqrt(paper())
  root = (root - root[-1]) * root[0] / (root[0] - root[-1])
  rows = (np.arange(1000) + 1) / 1000
  with jax.enable_x64(True):
    schedule = SCHEDULES[name](zero_terminal=True)
    alpha, sigma = schedule.alpha_sigma(rows)
    between = np.linspace(0.9985, 1, 50)
    logsnr = schedule.logsnr(between)
    assert np.all(np.diff(logsnr) < 0) and schedule.ends_without_signal
    np.testing.assert_allclose(schedule.t_of(logsnr), between, atol=1e-9)
  np.testing.assert_allclose(alpha, root, rtol=1e-8, atol=1e-12)
  np.testing.assert_allclose(sigma, np.sqrt(1 - root**2), rtol=1e-8)


@pytest.mark.parametrize("variant", VARIANTS)
def test_slopes_are_finite_also_without_signal(variant):
  schedule = VARIANTS[variant]()
  t = np.linspace(schedule.t_min, 1, 101).astype(np.float32)
  derivatives, slope, backward = slopes_of(schedule, t)
  assert np.all(np.isfinite(np.array(derivatives)))
  assert np.all(np.isfinite(slope)) and np.all(slope < 0)
  np.testing.assert_allclose(backward[:-1], slope[:-1], rtol=1e-3)
  with jax.enable_x64(True):
    inside, h = (np.floor(t.astype(np.float64)[5:-5] * 1000) + 0.5) / 1000, 1e-6  # between rows
    above, below = (np.asarray(values_of(schedule, inside + side)[0]) for side in (h, -h))
    np.testing.assert_allclose(slopes_of(schedule, inside)[1], (above - below) / (2 * h), rtol=1e-5)


def test_flow_has_constant_velocity_up_to_both_ends():
  alpha, sigma = SCHEDULES["flow"]().derivatives(jnp.asarray([0.001, 0.5, 1.0]))
  np.testing.assert_allclose([alpha, sigma], [[-1] * 3, [1] * 3], rtol=1e-4)


def test_a_learned_curve_is_rebuilt_from_its_parameters_and_trains():
  schedule = SCHEDULES["learned"]()
  start = parameters(schedule)
  np.testing.assert_allclose(schedule.logsnr(jnp.asarray([0.0, 1.0])), [13.3, -5.0], rtol=1e-5)
  moved = jax.tree.map(lambda leaf: leaf + 0.3, start)
  other = rebuilt(schedule, moved)
  logsnr = np.asarray(other.logsnr(jnp.linspace(0, 1, 101)))
  np.testing.assert_allclose(logsnr[[0, -1]], [13.6, 13.6 - 18.3 * np.exp(0.3)], rtol=1e-5)
  assert np.all(np.diff(logsnr) < 0)
  grads = jax.grad(lambda params: jnp.sum(rebuilt(schedule, params).logsnr(jnp.float32(T)) ** 2))(start)
  assert all(np.all(np.isfinite(g)) and np.any(g != 0) for g in jax.tree.leaves(grads))
  assert parameters(SCHEDULES["linear"]()) is None and rebuilt(other, None) is other


REFUSED = [
  ("flow", {"scale": "ve"}),
  ("flow", {"t_min": 0.0}),
  ("continuous_linear", {"t_min": 0.0}),
  ("sub_vp", {"t_min": 0.0}),
  ("linear", {"steps": 2, "zero_terminal": True}),
  ("linear", {"scale": "ve", "zero_terminal": True}),
  ("linear", {"scale": "pv"}),
  ("edm", {"sigma_min": 90.0}),
  ("geometric", {"steps": 1}),
  ("continuous_linear", {"beta_min": 0.0}),
  ("sigmoid", {"start": 4.0}),
  ("continuous_cosine", {"t_min": 1.0}),
]


@pytest.mark.parametrize("name, options", REFUSED)
def test_impossible_options_are_refused(name, options):
  with pytest.raises(ConfigError, match=rf"^({'|'.join(options)}) "):
    SCHEDULES[name](**options)


def created(name, options, shift=0.0):
  config = configs.base()
  config.schedule.name, config.schedule.shift = name, shift
  config.schedule[name].update(options)
  config.model.unet.attention, config.objective.predict = (), "v"
  if not config.schedule[name].get("steps"):
    config.objective.times, config.objective.time_input, config.sample.grid = "uniform", "t", "uniform"
  return experiment.create(config, FIELDS)


@pytest.mark.parametrize("name, options", REFUSED)
def test_what_is_refused_is_named_by_fields_that_exist(name, options):
  with pytest.raises(ConfigError, match=rf"config\.schedule\.{name}\.\w+ ") as error:
    created(name, options)
  for path in re.findall(r"config\.([\w.]*\w)", str(error.value)):
    configs.require_path(configs.base(), path)


NOT_IN_FLOAT32 = [
  ("linear", {"steps": 9000, "beta_end": 0.25}, 0.0),
  ("continuous_linear", {"beta_max": 200.0}, 0.0),
  ("continuous_cosine", {"logsnr_min": -100.0}, 0.0),
  ("continuous_cosine", {"logsnr_max": 300.0}, 0.0),
  ("learned", {"logsnr_min": -100.0}, 0.0),
  ("linear", {}, -200.0),
  ("flow", {}, -200.0),
  ("flow", {"t_min": 1e-42}, 0.0),
  ("flow", {"t_min": 0.9999999999}, 0.0),
  ("edm", {"sigma_min": 1e-30}, 0.0),
]


@pytest.mark.parametrize("name, options, shift", NOT_IN_FLOAT32)
def test_what_float32_cannot_hold_is_refused(name, options, shift):
  with pytest.raises(
    ConfigError, match=f"^config.schedule.name is '{name}', whose log-SNR with its shift runs"
  ):
    created(name, options, shift)


@pytest.mark.parametrize("scale", SCALES)
def test_up_to_that_limit_alpha_and_sigma_keep_their_digits(scale):
  both = jax.jit(lambda logsnr: jnp.stack(SCALES[scale](logsnr)))
  logsnr = np.linspace(-170 if scale in ("vp", "fm") else -LIMIT, LIMIT, 175)
  single, slopes = jax.jvp(both, (jnp.float32(logsnr),), (jnp.ones(175, jnp.float32),))
  with jax.enable_x64(True):
    double, expected = jax.jvp(both, (jnp.asarray(logsnr),), (jnp.ones(175),))
  assert np.all(single > 0)
  np.testing.assert_allclose(single, double, rtol=3e-5)
  np.testing.assert_allclose(slopes, expected, rtol=1e-4, atol=1e-7)
  assert np.all(np.isfinite(both(jnp.float32(-np.inf)))) or scale == "ve"


IDENTITIES = {
  "vp": lambda alpha, sigma: alpha**2 + sigma**2,
  "ve": lambda alpha, sigma: alpha,
  "fm": lambda alpha, sigma: alpha + sigma,
  "subvp": lambda alpha, sigma: alpha**2 + sigma,
}


@pytest.mark.parametrize("scale", SCALES)
@given(logsnr=st.floats(-18, 18))
def test_scale_rules(scale, logsnr):
  with jax.enable_x64(True):
    alpha, sigma = SCALES[scale](np.float64(logsnr))
  np.testing.assert_allclose(IDENTITIES[scale](alpha, sigma), 1, rtol=1e-12)
  np.testing.assert_allclose(2 * np.log(alpha / sigma), logsnr, rtol=1e-9, atol=1e-9)


def test_the_prior_is_the_noise_at_t_where_the_scale_does_not_keep_the_variance():
  for scale in SCALES:
    schedule = SCHEDULES["linear"](scale=scale)
    for t in (1.0, 0.7):
      r = np.exp(-schedule.logsnr(t) / 2)
      expected = {"vp": 1, "subvp": 1, "ve": r, "fm": r / (1 + r)}[scale]
      np.testing.assert_allclose(schedule.prior_std(t), expected, rtol=1e-6)


@pytest.mark.parametrize("betas", [[0.1], [0.1, 1.0], [0.0, 0.1]])
def test_bad_betas_are_refused(betas):
  with pytest.raises(ConfigError, match="^(steps|beta_end): .*betas"):
    from_betas(np.array(betas))
