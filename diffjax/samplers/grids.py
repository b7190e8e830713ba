"""Grids: the decreasing times at which a sampler stops, as float64 NumPy arrays.

A grid of S times costs S evaluations of a first-order sampler, the last one by the final denoising.
Every grid but `trailing` ends at the schedule's t_min.
"""

from collections.abc import Callable

import numpy as np

from diffjax.schedules import Schedule
from diffjax.types import ConfigError


def _of_rows(schedule: Schedule, rows: np.ndarray) -> np.ndarray:
  return (np.sort(np.unique(rows))[::-1] + 1) / schedule.steps


def _need_table(schedule: Schedule, name: str, steps: int) -> int:
  if schedule.steps is None:
    raise ConfigError(
      f"config.sample.grid is {name!r}, which walks the rows of a table, but the schedule is continuous; "
      "choose 'uniform' or 'logsnr'."
    )
  if not 1 <= steps <= schedule.steps:
    raise ConfigError(
      f"config.sample.steps is {steps}; with the grid {name!r} it must lie between 1 and the schedule's "
      f"{schedule.steps} steps."
    )
  return schedule.steps


def _need_two(name: str, steps: int) -> None:
  if steps < 2:
    raise ConfigError(f"config.sample.steps is {steps}; the grid {name!r} needs at least 2.")


def leading(schedule: Schedule, steps: int) -> np.ndarray:
  """Rows 0, T // S, 2 (T // S), ... (DDIM's code: "uniform"); it starts below row T - 1."""
  rows = _need_table(schedule, "leading", steps)
  return _of_rows(schedule, np.arange(steps) * (rows // steps))


def trailing(schedule: Schedule, steps: int) -> np.ndarray:
  """Rows T - 1, T - 1 - T / S, ... (Lin et al. 2024, table 2); it ends above row 0."""
  rows = _need_table(schedule, "trailing", steps)
  return _of_rows(schedule, np.round(rows - np.arange(steps) * rows / steps) - 1)


def quadratic(schedule: Schedule, steps: int) -> np.ndarray:
  """Rows floor(linspace(0, sqrt(0.8 T), S)^2), dense near the data (DDIM's code: "quad").

  Rows that fall together are walked once.
  """
  rows = _need_table(schedule, "quadratic", steps)
  return _of_rows(schedule, np.floor(np.linspace(0, np.sqrt(0.8 * rows), steps) ** 2))


def uniform(schedule: Schedule, steps: int) -> np.ndarray:
  """Times evenly spaced from 1 to t_min."""
  _need_two("uniform", steps)
  return np.linspace(1, schedule.t_min, steps)


def logsnr(schedule: Schedule, steps: int) -> np.ndarray:
  """Times evenly spaced in log-SNR from 1 to t_min; they may fall between the rows of a table."""
  _need_two("logsnr", steps)
  ends = np.float64(schedule.logsnr(1.0)), np.float64(schedule.logsnr(schedule.t_min))
  grid = np.array(schedule.t_of(np.linspace(*ends, steps)), np.float64)
  grid[0], grid[-1] = 1, schedule.t_min
  return grid


GRIDS: dict[str, Callable[[Schedule, int], np.ndarray]] = {
  "leading": leading,
  "trailing": trailing,
  "quadratic": quadratic,
  "uniform": uniform,
  "logsnr": logsnr,
}
