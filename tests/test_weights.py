"""Weights against the published formulas in float64 NumPy, on a table and in continuous time, at every row."""

import functools
import inspect

import jax
import numpy as np
import pytest
from variants import UNSHIFTED, VARIANTS

from diffjax import predictions
from diffjax.predictions import INPUT_SCALES, ROWS, TIME_INPUTS, Prediction, error_scale
from diffjax.schedules import SCHEDULES
from diffjax.types import Unsuitable
from diffjax.weights import WEIGHTS

# Of |x0 - x0_hat|^2, from each paper's own form, in r = sigma / alpha and the row's or the moment's share of the
# bound L. A squared error in eps is 1 / r^2 of that in x0.
PAPERS = {
  "simple": lambda r, bound: 1 / r**2,  # of eps (Ho et al. 2020, eq. 14)
  "snr": lambda r, bound: 1 / r**2,  # sigma^2 |score - target|^2 (Song & Ermon 2019, eq. 6)
  "min_snr": lambda r, bound: np.minimum(1 / r**2, 5),  # Hang et al. 2023, eq. 11
  "soft_min_snr": lambda r, bound: 1 / (r**2 + 0.5**2),  # 1 / (sigma^2 + sigma_data^2) (Crowson et al. 2024)
  "p2": lambda r, bound: (1 / r**2) / (1 + 1 / r**2),  # L_simple / (k + SNR)^gamma (Choi et al. 2022, eq. 8)
  "edm": lambda r, bound: (r**2 + 0.25) / (r * 0.5) ** 2,  # lambda(sigma) (Karras et al. 2022, table 1)
  "sigmoid": lambda r, bound: bound / (1 + np.exp(-2) / r**2),  # S(2 - logsnr) (Kingma & Gao 2023)
  "vlb": lambda r, bound: bound,  # Kingma et al. 2021, eq. 14 and 17
  "likelihood": lambda r, bound: bound,
}


def test_every_weight_has_a_formula_to_be_compared_with():
  assert PAPERS.keys() == WEIGHTS.keys(), "write a new weight's own formula, in NumPy, into PAPERS above"


@pytest.mark.parametrize("name", PAPERS)
def test_the_published_formula_in_every_row_of_ddpms_table(name):
  bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
  snr = bar / (1 - bar)
  before = np.append(snr[0] * snr[0] / snr[1], snr[:-1])  # row 0 is reached as row 1 is, by the same factor
  with jax.enable_x64(True):
    got = WEIGHTS[name]().of(SCHEDULES["linear"](), (np.arange(1000) + 1) / 1000, ROWS["eps"])
  np.testing.assert_allclose(got, PAPERS[name](snr**-0.5, (before - snr) / 2), rtol=1e-7)


@pytest.mark.parametrize("name", PAPERS)
def test_the_published_formula_in_continuous_time(name):
  t, h = np.linspace(0.1, 0.9, 9), 1e-5
  snr = lambda t: 1 / np.expm1(0.1 * t + 19.9 * t * t / 2)
  with jax.enable_x64(True):
    got = WEIGHTS[name]().of(SCHEDULES["continuous_linear"](), t, ROWS["eps"])
  slope = (snr(t - h) - snr(t + h)) / (2 * h)
  np.testing.assert_allclose(got, PAPERS[name](snr(t) ** -0.5, slope / 2), rtol=1e-6)


# The same with other options, in w = SNR.
CHOSEN = [
  ("min_snr", {"gamma": 2.0}, lambda w, bound: np.minimum(w, 2)),
  ("soft_min_snr", {"gamma": 2.0}, lambda w, bound: 2 * w / (w + 2)),
  ("p2", {"gamma": 0.5, "k": 3.0}, lambda w, bound: w / np.sqrt(3 + w)),
  ("edm", {"sigma_data": 2.0}, lambda w, bound: w + 1 / 4),  # lambda = (r^2 + 4) / (4 r^2)
  ("sigmoid", {"bias": -1.0}, lambda w, bound: bound / (1 + np.e * w)),
]


def test_every_weight_with_options_is_checked_with_others_than_its_own():
  changed = {name: set(options) for name, options, _ in CHOSEN}
  assert changed == {
    name: set(p) for name, make in WEIGHTS.items() if (p := inspect.signature(make).parameters)
  }


@pytest.mark.parametrize("name, options, paper", CHOSEN)
def test_the_published_formula_with_chosen_options(name, options, paper):
  bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
  snr = bar / (1 - bar)
  with jax.enable_x64(True):
    got = WEIGHTS[name](**options).of(SCHEDULES["linear"](), np.arange(2, 1001) / 1000, ROWS["eps"])
  np.testing.assert_allclose(got, paper(snr[1:], (snr[:-1] - snr[1:]) / 2), rtol=1e-7)


@pytest.mark.parametrize("name", ["vlb", "likelihood", "sigmoid"])
def test_on_evenly_spaced_log_snrs_every_row_has_the_same_share(name):
  """On NCSN's levels L = SNR (q^2 - 1) / 2 in all rows, the first too, with q the ratio of two levels."""
  levels = np.geomspace(0.01, 50, 10)
  with jax.enable_x64(True):
    got = WEIGHTS[name]().of(SCHEDULES["geometric"](steps=10), np.arange(1, 11) / 10, ROWS["eps"])
  expected = ((levels[1] / levels[0]) ** 2 - 1) / (2 * levels**2)
  np.testing.assert_allclose(got, PAPERS[name](levels, expected), rtol=1e-9)


def vp(t):
  integral, beta = 0.1 * t + 19.9 * t * t / 2, 0.1 + 19.9 * t
  return (
    np.exp(-integral / 2),
    np.sqrt(-np.expm1(-integral)),
    beta,
  )  # alpha, sigma, g^2 (Song et al. 2021, eq. 11)


def sub_vp(t):
  integral, beta = 0.1 * t + 19.9 * t * t / 2, 0.1 + 19.9 * t
  return np.exp(-integral / 2), -np.expm1(-integral), beta * -np.expm1(-2 * integral)  # eq. 12


def ve(t):
  sigma = 0.01 * (50 / 0.01) ** t
  return np.ones_like(t), sigma, 2 * sigma**2 * np.log(50 / 0.01)  # d sigma^2 / dt, eq. 9


@pytest.mark.parametrize("name, sde", [("continuous_linear", vp), ("sub_vp", sub_vp), ("geometric", ve)])
def test_likelihood_is_the_squared_diffusion_coefficient_of_the_score(name, sde):
  """g^2 / 2 |score error|^2 (Song et al. 2021b, eq. 7), the score's error being alpha / sigma^2 of x0's."""
  t = np.linspace(0.1, 0.9, 9)
  alpha, sigma, g2 = sde(t)
  with jax.enable_x64(True):
    got = WEIGHTS["likelihood"]().of(SCHEDULES[name](), t, ROWS["score"])
  np.testing.assert_allclose(got, g2 / 2 * alpha**2 / sigma**4, rtol=1e-8)


def kinds(schedule):
  """The prediction kinds that a schedule allows."""
  for name, row in ROWS.items():
    try:
      predictions.check(schedule, Prediction(row, INPUT_SCALES["none"], TIME_INPUTS["t"]))
    except Unsuitable:
      continue
    yield name


@functools.partial(jax.jit, static_argnums=0)
def factors(kinds, schedule, t):
  """By kind and weight; compiled once for schedules that differ in their numbers alone."""
  weights = {name: make().of(schedule, t, ROWS["v"]) for name, make in WEIGHTS.items()}
  scales = {kind: error_scale(ROWS[kind], schedule, t) for kind in kinds}
  return {(kind, name): weights[name] / scales[kind] for kind in kinds for name in weights}


@pytest.mark.parametrize("variant", UNSHIFTED)
def test_finite_positive_and_the_same_in_float32_up_to_both_ends_in_every_kind(variant):
  """What multiplies the squared error of the network's own kind, equation (1) of objectives.py."""
  schedule = VARIANTS[variant]()
  rows = (
    np.linspace(1, schedule.steps, 10).round() / schedule.steps if schedule.steps else np.linspace(0, 1, 10)
  )
  t, allowed = np.maximum(rows, schedule.t_min), tuple(kinds(schedule))
  single = factors(allowed, schedule, t.astype(np.float32))
  with jax.enable_x64(True):
    double = factors(allowed, schedule, t)
  assert single
  for case, values in single.items():
    assert values.dtype == np.float32 and np.all(np.isfinite(values)) and np.all(values >= 0), case
    np.testing.assert_allclose(values, double[case], rtol=2e-3, atol=1e-9, err_msg=str(case))
