"""Grids against the rows that the papers' code walks."""

import numpy as np
import pytest

from diffjax import config as configs
from diffjax import experiment
from diffjax.data.source import Field
from diffjax.samplers.grids import ALIGNED, GRIDS
from diffjax.schedules import SCHEDULES
from diffjax.types import ConfigError


def rows(name, steps):
  return np.round(GRIDS[name](SCHEDULES["linear"](), steps) * 1000 - 1).astype(int).tolist()


def test_rows_of_the_table_grids():
  assert rows("leading", 10) == [900, 800, 700, 600, 500, 400, 300, 200, 100, 0]
  assert rows("trailing", 10) == [999, 899, 799, 699, 599, 499, 399, 299, 199, 99]
  quadratic = [int(r) for r in np.linspace(0, np.sqrt(800), 10) ** 2]
  assert rows("quadratic", 10) == quadratic[::-1]
  assert rows("leading", 1000) == rows("trailing", 1000) == rows("linspace", 1000) == list(range(999, -1, -1))


CHOSEN = ("custom", "align_your_steps")  # their ends are their own


@pytest.mark.parametrize("grid", [grid for grid in GRIDS if grid not in CHOSEN])
def test_decreasing_within_the_schedule_and_ending_at_t_min(grid):
  schedule = SCHEDULES["linear"]()
  times = GRIDS[grid](schedule, 25)
  assert times.dtype == np.float64 and np.all(np.diff(times) < 0) and times[0] <= 1
  assert times[-1] == (0.04 if grid == "trailing" else schedule.t_min)


def test_logsnr_is_even_in_logsnr():
  schedule = SCHEDULES["continuous_cosine"]()
  logsnr = schedule.logsnr(GRIDS["logsnr"](schedule, 9).astype(np.float32))
  np.testing.assert_allclose(logsnr, np.linspace(-20, 20, 9), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("grid", ["leading", "linspace", "trailing", "quadratic"])
@pytest.mark.parametrize(
  "schedule, steps, message",
  [
    ("continuous_cosine", 10, "grid is '{}', which walks the rows of a table, but"),
    ("linear", 1001, "steps is 1001; with the grid '{}' it"),
  ],
)
def test_table_grids_refuse_what_has_no_rows(grid, schedule, steps, message):
  with pytest.raises(ConfigError, match=f"^{message.format(grid)}"):
    GRIDS[grid](SCHEDULES[schedule](), steps)


@pytest.mark.parametrize(
  "grid, steps", [("leading", 1), ("leading", 501), ("leading", 999), ("quadratic", 1)]
)
def test_table_grids_refuse_to_start_near_the_data(grid, steps):
  with pytest.raises(ConfigError, match=f"^steps is {steps}; the grid '{grid}'"):
    GRIDS[grid](SCHEDULES["linear"](), steps)
  config = configs.base()
  config.sample.grid, config.sample.steps = grid, steps
  with pytest.raises(ConfigError, match=f"^config.sample.steps is {steps}; the grid '{grid}'"):
    experiment.create(config, {"image": Field((8, 8, 1), "uint8")})


@pytest.mark.parametrize(
  "grid, steps, options, message",
  [
    (
      "leading",
      1000,
      {"offset": 1},
      "offset is 1; with 1000 steps the grid 'leading' would start at row 1000",
    ),
    ("leading", 500, {"without_row_0": True}, "steps is 500; the grid 'leading' would start at row 499"),
    ("linspace", 1000, {"without_row_0": True}, "steps is 1000; without row 0 the schedule has 999"),
    ("linspace", 1, {}, "steps is 1; the grid 'linspace' needs at least 2"),
  ],
)
def test_rows_that_are_not_there_are_refused(grid, steps, options, message):
  with pytest.raises(ConfigError, match=f"^{message}"):
    GRIDS[grid](SCHEDULES["linear"](), steps, **options)


def ratio(schedule, times):
  return np.exp(-np.asarray(schedule.logsnr(np.float32(times))) / 2)


def edm_sigmas(steps, low=0.002, high=80.0, rho=7):
  ramp = np.arange(steps) / (steps - 1)
  return (high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho


def test_karras_is_edms_equation_on_any_schedule_that_reaches_so_far():
  for name in ("edm", "continuous_cosine"):
    schedule = SCHEDULES[name]()
    times = GRIDS["karras"](schedule, 18, sigma_min=0.002, sigma_max=80.0)
    np.testing.assert_allclose(ratio(schedule, times), edm_sigmas(18), rtol=2e-3)
  np.testing.assert_allclose(GRIDS["karras"](SCHEDULES["edm"](), 18), np.linspace(1, 0, 18), atol=1e-5)


def test_exponential_falls_by_a_constant_factor_between_its_ends():
  schedule = SCHEDULES["continuous_cosine"]()
  times = GRIDS["exponential"](schedule, 9, sigma_min=0.01, sigma_max=50.0)
  np.testing.assert_allclose(ratio(schedule, times), np.geomspace(50, 0.01, 9), rtol=1e-3)


def test_without_signal_the_first_step_goes_from_one_to_the_start_that_must_be_given():
  schedule = SCHEDULES["flow"]()
  for grid in ("karras", "exponential", "logsnr"):
    with pytest.raises(ConfigError, match="sigma_max"):
      GRIDS[grid](schedule, 10)
    times = GRIDS[grid](schedule, 10, sigma_max=80.0)
    assert len(times) == 10 and times[0] == 1 and times[-1] == schedule.t_min
    np.testing.assert_allclose(times[1], 80 / 81, rtol=1e-5)  # r = t / (1 - t)


# Sabour et al. 2024, table 3, and diffusers' AysSchedules, which end at 0.
SABOUR = {
  "stable_diffusion": "14.615 6.475 3.861 2.697 1.886 1.396 0.963 0.652 0.399 0.152 0.029",
  "sdxl": "14.615 6.315 3.771 2.181 1.342 0.862 0.555 0.380 0.234 0.113 0.029",
  "deepfloyd": "160.41 8.081 3.315 1.885 1.207 0.785 0.553 0.293 0.186 0.030 0.006",
  "stable_video": "700.00 54.5 15.886 7.977 4.248 1.789 0.981 0.403 0.173 0.034 0.002",
}


@pytest.mark.parametrize("table", ALIGNED)
def test_align_your_steps_has_the_published_values_from_the_first_to_the_last(table):
  schedule = SCHEDULES["edm"](sigma_min=0.001, sigma_max=1000.0)
  published = np.array(SABOUR[table].split(), float)
  times = GRIDS["align_your_steps"](schedule, 11, table=table)
  np.testing.assert_allclose(ratio(schedule, times), published, rtol=1e-4)
  between = GRIDS["align_your_steps"](schedule, 21, table=table)
  np.testing.assert_allclose(ratio(schedule, between[1::2]) ** 2, published[1:] * published[:-1], rtol=1e-4)


@pytest.mark.parametrize(
  "table, rows",
  [
    ("stable_diffusion", [999, 850, 736, 645, 545, 455, 343, 233, 124, 24]),
    ("sdxl", [999, 845, 730, 587, 443, 310, 193, 116, 53, 13]),
  ],
)
def test_align_your_steps_has_diffusers_rows(table, rows):
  times = GRIDS["align_your_steps"](SCHEDULES["scaled_linear"](), 11, table=table)
  assert times[0] == 1
  np.testing.assert_allclose(times[:10] * 1000 - 1, rows, atol=1.5)


def test_custom_takes_times_or_ratios_and_refuses_the_rest():
  schedule = SCHEDULES["continuous_cosine"]()
  np.testing.assert_array_equal(GRIDS["custom"](schedule, 3, times=(1.0, 0.5, 0.1)), [1, 0.5, 0.1])
  times = GRIDS["custom"](schedule, 3, sigmas=(80.0, 1.0, 0.01))
  np.testing.assert_allclose(ratio(schedule, times), [80, 1, 0.01], rtol=1e-3)
  for options, message in (
    ({}, "times or sigmas must be given, and not both"),
    ({"times": (1.0, 0.5)}, "steps is 3, but the custom grid has 2 times"),
    ({"times": (0.1, 0.5, 1.0)}, "grid is 'custom', whose times must fall"),
    ({"times": (2.0, 0.5, 0.1)}, "times must lie in"),
  ):
    with pytest.raises(ConfigError, match=f"^{message}"):
      GRIDS["custom"](schedule, 3, **options)


@pytest.mark.parametrize(
  "schedule, grid, options, message",
  [
    ("edm", "karras", {"sigma_max": 100.0}, "sigma_max: the grid runs from sigma / alpha = 100 to"),
    ("edm", "exponential", {"sigma_min": 1e-4}, "sigma_max: the grid runs from sigma / alpha = 80 to 0.0001"),
    ("continuous_cosine", "karras", {"rho": 0.0}, "rho is 0.0; it must be greater than 0"),
    (
      "linear",
      "align_your_steps",
      {"table": "sd"},
      "table is 'sd'; it must be one of stable_diffusion, sdxl",
    ),
  ],
)
def test_grids_beyond_the_schedule_are_refused(schedule, grid, options, message):
  with pytest.raises(ConfigError, match=f"^{message}"):
    GRIDS[grid](SCHEDULES[schedule](), 10, **options)
