"""Grids against the rows that the papers' code walks."""

import numpy as np
import pytest

from diffjax.samplers.grids import GRIDS
from diffjax.schedules import SCHEDULES
from diffjax.types import ConfigError


def rows(name, steps):
  return np.round(GRIDS[name](SCHEDULES["linear"](), steps) * 1000 - 1).astype(int).tolist()


def test_rows_of_the_table_grids():
  assert rows("leading", 10) == [900, 800, 700, 600, 500, 400, 300, 200, 100, 0]
  assert rows("trailing", 10) == [999, 899, 799, 699, 599, 499, 399, 299, 199, 99]
  quadratic = [int(r) for r in np.linspace(0, np.sqrt(800), 10) ** 2]
  assert rows("quadratic", 10) == quadratic[::-1]
  assert rows("leading", 1000) == rows("trailing", 1000) == list(range(999, -1, -1))


@pytest.mark.parametrize("grid", GRIDS)
def test_decreasing_within_the_schedule_and_ending_at_t_min(grid):
  schedule = SCHEDULES["linear"]()
  times = GRIDS[grid](schedule, 25)
  assert times.dtype == np.float64 and np.all(np.diff(times) < 0) and times[0] <= 1
  assert times[-1] == (0.04 if grid == "trailing" else schedule.t_min)


def test_logsnr_is_even_in_logsnr():
  schedule = SCHEDULES["continuous_cosine"]()
  logsnr = schedule.logsnr(GRIDS["logsnr"](schedule, 9).astype(np.float32))
  np.testing.assert_allclose(logsnr, np.linspace(-20, 20, 9), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("grid", ["leading", "trailing", "quadratic"])
@pytest.mark.parametrize("schedule, steps", [("continuous_cosine", 10), ("linear", 1001)])
def test_table_grids_refuse_what_has_no_rows(grid, schedule, steps):
  with pytest.raises(ConfigError, match="sample"):
    GRIDS[grid](SCHEDULES[schedule](), steps)
