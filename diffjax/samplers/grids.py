"""Grids: the decreasing times at which a sampler stops, as float64 NumPy arrays.

A grid of S times costs S evaluations of a first-order sampler, the last one by the final denoising.
Every grid ends at the schedule's t_min, but `trailing`, those whose ends are chosen, and those moved from row 0.
One may start below t = 1: the first noise is that of its own start (base.prior).

Grids in log-SNR run between the schedule's ends or those given as sigma_min and sigma_max, values of
r = sigma / alpha. Where alpha(1) = 0 the start of r must be given, and the grid takes its first step, from
t = 1, to there.
"""

import math
from collections.abc import Callable
from typing import Annotated

import numpy as np

from diffjax import ranges
from diffjax.ranges import NotNegative, Positive, Whole, one_of
from diffjax.schedules import Schedule
from diffjax.types import ConfigError


def _of_rows(schedule: Schedule, rows: np.ndarray) -> np.ndarray:
  return (np.sort(np.unique(rows))[::-1] + 1) / schedule.steps


def _need_table(schedule: Schedule, name: str, steps: int) -> int:
  if schedule.steps is None:
    raise ConfigError(
      f"grid is {name!r}, which walks the rows of a table, but the schedule is continuous; "
      "choose 'uniform' or 'logsnr'."
    )
  if not 1 <= steps <= schedule.steps:
    raise ConfigError(
      f"steps is {steps}; with the grid {name!r} it must lie between 1 and the schedule's "
      f"{schedule.steps} steps."
    )
  return schedule.steps


def _need_two(name: str, steps: int) -> None:
  if steps < 2:
    raise ConfigError(f"steps is {steps}; the grid {name!r} needs at least 2.")


def leading(
  schedule: Schedule, steps: int, offset: Whole = 0, without_row_0: bool = False, then_row_0: bool = False
) -> np.ndarray:
  """Rows 0, T // S, 2 (T // S), ... (DDIM's code: "uniform"); it starts at row (S - 1) (T // S), below T - 1.

  Refused are one step, which is row 0 alone, and S between T / 2 and T, where rows lie side by side and those
  from S on are left out (DDIM's code then walks all T).

  Args:
    schedule: a table.
    steps: S.
    offset: added to the rows, 1 with Stable Diffusion (diffusers' steps_offset).
    without_row_0: of S + 1 such rows the first is left out (diffusers' multistep solvers).
    then_row_0: whether a last step goes on to row 0, where diffusers' DDIM and PNDM end by default
      (set_alpha_to_one = False, the final "none"); it needs an offset.

  Raises:
    ConfigError: a schedule without rows, or steps that it has not.
  """
  rows, count = _need_table(schedule, "leading", steps), steps + without_row_0
  if count == 1 or (rows < 2 * count and count != rows):
    raise ConfigError(
      f"steps is {steps}; the grid 'leading' would start at row {steps - 1} of the schedule's {rows}. "
      f"Give it 2 to {rows // 2} steps or all {rows}, or choose 'trailing'."
    )
  indices = np.arange(count)[without_row_0:] * (rows // count) + offset
  if indices[-1] >= rows:
    raise ConfigError(
      f"offset is {offset}; with {steps} steps the grid 'leading' would start at row {indices[-1]}, but the last of "
      f"the schedule's is {rows - 1}. Give it fewer steps."
    )
  return _of_rows(schedule, np.append(indices, 0) if then_row_0 else indices)


def linspace(schedule: Schedule, steps: int, without_row_0: bool = False) -> np.ndarray:
  """Rows round(linspace(0, T - 1, S)), from the first to the last (Lin et al. 2024, table 2).

  Args:
    schedule: a table.
    steps: S.
    without_row_0: of S + 1 such rows the first is left out (diffusers' multistep solvers).
  """
  rows, count = _need_table(schedule, "linspace", steps), steps + without_row_0
  _need_two("linspace", count)
  if count > rows:
    raise ConfigError(f"steps is {steps}; without row 0 the schedule has {rows - 1}.")
  return _of_rows(schedule, np.round(np.linspace(0, rows - 1, count)[without_row_0:]))


def trailing(schedule: Schedule, steps: int) -> np.ndarray:
  """Rows T - 1, T - 1 - T / S, ... (Lin et al. 2024, table 2); it ends above row 0."""
  rows = _need_table(schedule, "trailing", steps)
  return _of_rows(schedule, np.round(rows - np.arange(steps) * rows / steps) - 1)


def quadratic(schedule: Schedule, steps: int) -> np.ndarray:
  """Rows floor(linspace(0, sqrt(0.8 T), S)^2), dense near the data (DDIM's code: "quad").

  Rows that fall together are walked once.
  """
  rows = _need_table(schedule, "quadratic", steps)
  _need_two("quadratic", steps)
  return _of_rows(schedule, np.floor(np.linspace(0, np.sqrt(0.8 * rows), steps) ** 2))


def uniform(schedule: Schedule, steps: int) -> np.ndarray:
  """Times evenly spaced from 1 to t_min."""
  _need_two("uniform", steps)
  return np.linspace(1, schedule.t_min, steps)


def _in_ratio(
  schedule: Schedule, steps: int, name: str, sigma_min: float, sigma_max: float, spacing: Callable
) -> np.ndarray:
  """The times of spacing(log r at the start, log r at the end, count); 0 means the schedule's own end."""
  _need_two(name, steps)
  first, last = (-float(schedule.logsnr(t)) / 2 for t in (1.0, schedule.t_min))
  without_signal = schedule.ends_without_signal
  if without_signal and not sigma_max:
    raise ConfigError(
      "sigma_max must be given: the schedule has no signal left at t = 1 (alpha = 0), where "
      "sigma / alpha is infinite. 80 is EDM's."
    )
  start = math.log(sigma_max) if sigma_max else first
  stop = math.log(sigma_min) if sigma_min else last
  if not last - 1e-5 <= stop < start <= first + 1e-5:
    raise ConfigError(
      f"sigma_max: the grid runs from sigma / alpha = {math.exp(start):.6g} to {math.exp(stop):.6g}, which must "
      f"fall and lie within the schedule's {math.exp(first):.6g} to {math.exp(last):.6g}."
    )
  grid = np.array(schedule.t_of(-2 * spacing(start, stop, steps - without_signal)), np.float64)
  grid[-1] = grid[-1] if sigma_min else schedule.t_min
  if without_signal:
    return np.concatenate([[1.0], grid])
  grid[0] = grid[0] if sigma_max else 1
  return grid


def exponential(
  schedule: Schedule, steps: int, sigma_min: NotNegative = 0.0, sigma_max: NotNegative = 0.0
) -> np.ndarray:
  """r falling by a constant factor: evenly spaced in log-SNR, between chosen ends."""
  return _in_ratio(schedule, steps, "exponential", sigma_min, sigma_max, np.linspace)


def logsnr(schedule: Schedule, steps: int, sigma_max: NotNegative = 0.0) -> np.ndarray:
  """Times evenly spaced in log-SNR from 1 to t_min; they may fall between the rows of a table."""
  return _in_ratio(schedule, steps, "logsnr", 0.0, sigma_max, np.linspace)


def karras(
  schedule: Schedule,
  steps: int,
  rho: Positive = 7.0,
  sigma_min: NotNegative = 0.0,
  sigma_max: NotNegative = 0.0,
) -> np.ndarray:
  """r^(1 / rho) evenly spaced (Karras et al. 2022, eq. 5); they may fall between the rows of a table."""

  def spacing(start, stop, count):
    return rho * np.log(np.linspace(math.exp(start / rho), math.exp(stop / rho), count))

  return _in_ratio(schedule, steps, "karras", sigma_min, sigma_max, spacing)


# Sabour et al. 2024, table 3: sigma / alpha for 10 steps.
ALIGNED: dict[str, tuple[float, ...]] = {
  "stable_diffusion": (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029),
  "sdxl": (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029),
  "deepfloyd": (160.41, 8.081, 3.315, 1.885, 1.207, 0.785, 0.553, 0.293, 0.186, 0.030, 0.006),
  "stable_video": (700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002),
}


def align_your_steps(
  schedule: Schedule, steps: int, table: Annotated[str, one_of(ALIGNED)] = "stable_diffusion"
) -> np.ndarray:
  """One of ALIGNED, log-linearly interpolated from its 11 values to `steps`.

  It starts at the table's first value, not at t = 1, and ends at its last; the schedule's own ends if nearer.
  """
  _need_two("align_your_steps", steps)
  log_ratio = np.log(ALIGNED[table])
  place = np.linspace(0, len(log_ratio) - 1, steps)
  times = np.array(schedule.t_of(-2 * np.interp(place, np.arange(len(log_ratio)), log_ratio)), np.float64)
  return _decreasing("align_your_steps", times)


def custom(
  schedule: Schedule, steps: int, times: tuple[float, ...] = (), sigmas: tuple[Positive, ...] = ()
) -> np.ndarray:
  """The times given, or those of the values of sigma / alpha given."""
  if bool(times) == bool(sigmas):
    raise ConfigError("times or sigmas must be given, and not both.")
  if steps != len(times or sigmas):
    raise ConfigError(
      f"steps is {steps}, but the custom grid has {len(times or sigmas)} times; they must agree."
    )
  if sigmas:
    return _decreasing("custom", np.array(schedule.t_of(-2 * np.log(np.asarray(sigmas))), np.float64))
  if not schedule.t_min <= min(times) or not max(times) <= 1:
    raise ConfigError(f"times must lie in [{schedule.t_min}, 1], where the schedule is.")
  return _decreasing("custom", np.asarray(times, np.float64))


def _decreasing(name: str, grid: np.ndarray) -> np.ndarray:
  if not np.all(np.diff(grid) < 0):
    raise ConfigError(
      f"grid is {name!r}, whose times must fall, but on this schedule they are "
      f"{', '.join(f'{t:.4g}' for t in grid)}."
    )
  return grid


GRIDS: dict[str, Callable[..., np.ndarray]] = ranges.checked(
  {
    "leading": leading,
    "linspace": linspace,
    "trailing": trailing,
    "quadratic": quadratic,
    "uniform": uniform,
    "logsnr": logsnr,
    "karras": karras,
    "exponential": exponential,
    "align_your_steps": align_your_steps,
    "custom": custom,
  }
)
