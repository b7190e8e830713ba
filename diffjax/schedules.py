"""Noise schedules: a log-SNR curve (curves.py) and a scale rule (scales.py).

    x_t = alpha(t) x0 + sigma(t) eps,   logsnr(t) = log(alpha^2 / sigma^2), strictly decreasing      (1)

Small t is data and t = 1 is noise.

A schedule of T discrete steps is a float64 table of log-SNR at t_i = (i + 1) / T, i = 0..T-1, linear in
log-SNR between its rows. Everything follows the dtype of t.

A log-SNR of -inf at t = 1 means alpha(1) = 0: no signal is left there, and a network cannot predict the
noise or the score (predictions.check says so).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import ranges
from diffjax.curves import (
  Cosine,
  Curve,
  Linear,
  Monotone,
  Power,
  Shifted,
  Sigmoid,
  Straight,
  SubVpLinear,
  Table,
  VpLinear,
  pytree,
)
from diffjax.ranges import NotNegative, Positive, Rate, closed, inside
from diffjax.scales import SCALES, Scale
from diffjax.types import ConfigError, Params, Times, Unsuitable

Rows = Annotated[int, closed(2, 1_000_000)]
RowsOrNone = Annotated[int, closed(0, 1_000_000)]
Beta = Annotated[float, inside(0, 1)]
Rho = Annotated[float, closed(0.1, 1000)]  # beyond, float32 has no digits for sigma^(1 / rho)


LIMIT = 87.0  # float32 holds e^87, but neither SNR nor 1 / SNR much beyond


@pytree("scale", "t_min", "steps")
@dataclasses.dataclass(frozen=True)
class Schedule:
  """A log-SNR curve with a scale rule.

  Attributes:
    curve: the log-SNR curve (a pytree: a learned curve is rebuilt from the parameters in every step).
    scale: name of the scale rule, one of SCALES.
    t_min: the smallest time of the schedule, where grids end; 1 / T for a table.
    steps: T for a table, None for a continuous schedule.
  """

  curve: Curve
  scale: str = "vp"
  t_min: float = 0.0
  steps: int | None = None

  def __post_init__(self):
    """Raises ConfigError for a scale rule that does not exist."""
    ranges.check("scale", self.scale, ranges.of(Scale))

  def logsnr(self, t: Times) -> Times:
    """log(alpha^2 / sigma^2) at t."""
    return self.curve.logsnr(jnp.asarray(t))

  def t_of(self, logsnr: Times) -> Times:
    """Inverse of `logsnr`, within [t_min, 1]."""
    return jnp.clip(self.curve.t_of(jnp.asarray(logsnr)), self.t_min, 1)

  def alpha_sigma(self, t: Times) -> tuple[Times, Times]:
    """alpha(t) and sigma(t) of equation (1)."""
    return SCALES[self.scale](self.logsnr(t))

  def derivatives(self, t: Times) -> tuple[Times, Times]:
    """d alpha / dt and d sigma / dt, by forward-mode differentiation; just before an infinite log-SNR."""
    return self._along(self.alpha_sigma, t)

  def slope(self, t: Times) -> Times:
    """d logsnr / dt, negative, found in the same way."""
    return self._along(self.logsnr, t)

  def _along(self, function, t):
    t = jnp.asarray(t)
    t = jnp.where(jnp.isfinite(self.logsnr(t)), t, t - 1e-6)
    return jax.jvp(function, (t,), (jnp.ones_like(t),))[1]

  def prior_std(self, t: Times | float = 1.0) -> Times:
    """Standard deviation of the noise that sampling starts from at t.

    sigma(t), but 1 where the scale keeps the variance, as DDPM's and DDIM's codes have it below t = 1 too.
    """
    sigma = self.alpha_sigma(jnp.asarray(t, float))[1]
    return jnp.ones_like(sigma) if self.scale in ("vp", "subvp") else sigma

  @property
  def ends_without_signal(self) -> bool:
    """Whether alpha(1) = 0."""
    return not np.isfinite(self.ends[1])

  @functools.cached_property
  def ends(self) -> tuple[float, float]:
    """The log-SNR at t_min and at 1, in float32; compiled as one, since operation by operation takes a second."""
    start, end = _logsnr(self, np.asarray([self.t_min, 1], np.float32))
    return float(start), float(end)


_logsnr = jax.jit(lambda schedule, t: schedule.logsnr(t))  # once for all that differ in their numbers alone


def check(schedule: Schedule) -> None:
  """Refuses a schedule that float32 cannot hold.

  Raises:
    Unsuitable: a log-SNR that does not fall from t_min to 1, or an end where SNR overflows or underflows; but -inf
      at t = 1, where alpha = 0, is allowed.
  """
  start, end = schedule.ends
  silent = end == -np.inf and schedule.scale != "ve"
  if not (end < start and abs(start) <= LIMIT and (silent or abs(end) <= LIMIT)):
    raise Unsuitable(
      "schedule",
      f"whose log-SNR with its shift runs from {start:.6g} at t = {schedule.t_min:.6g} to {end:.6g} at t = 1; it must "
      f"fall and lie between {-LIMIT:g} and {LIMIT:g}, beyond which float32 has no noise or no signal",
    )


def parameters(schedule: Schedule) -> Params | None:
  """The parameters of a learned curve, kept beside the network's; None for all other curves."""
  return {"ends": schedule.curve.ends, "interior": schedule.curve.interior} if _learned(schedule) else None


def rebuilt(schedule: Schedule, params: Params | None) -> Schedule:
  """The schedule with these parameters of its curve; `parameters` undone."""
  if params is None:
    return schedule
  return dataclasses.replace(schedule, curve=dataclasses.replace(schedule.curve, **params))


def _learned(schedule: Schedule) -> bool:
  return hasattr(schedule.curve, "interior")


def from_betas(betas: np.ndarray, scale: str = "vp") -> Schedule:
  """The table of a discrete chain q(x_i | x_{i-1}) = N(sqrt(1 - beta_i) x_{i-1}, beta_i).

  Args:
    betas: [T] in (0, 1), T >= 2; accumulated in float64.
    scale: the scale rule.

  Raises:
    ConfigError: fewer than two steps, or a beta outside (0, 1).
  """
  betas = np.asarray(betas, np.float64)
  if len(betas) < 2:
    raise ConfigError(f"steps: a schedule's table needs at least 2, and there are {len(betas)} betas.")
  if not (np.all(betas > 0) and np.all(betas < 1)):
    raise ConfigError(
      f"beta_end: the betas run from {betas.min():.3g} to {betas.max():.3g}, but each must lie strictly between 0 "
      "and 1; with few steps choose a smaller one."
    )
  log_alpha_bar = np.cumsum(np.log1p(-betas))
  rows = log_alpha_bar - np.log(-np.expm1(log_alpha_bar))
  return Schedule(Table(rows), scale, t_min=1 / len(betas), steps=len(betas))


def zero_terminal(schedule: Schedule) -> Schedule:
  """A table rescaled so that alpha(1) = 0 (Lin et al. 2024, algorithm 1).

  sqrt(alpha_bar) is shifted to end at 0 and stretched to begin where it began.

  Raises:
    ConfigError: under the scale `ve`, where sigma(1) would be infinite, or without a table of 3 rows or more.
  """
  if schedule.scale == "ve" or (schedule.steps or 0) < 3:
    raise ConfigError("zero_terminal needs a table of at least 3 steps and a scale other than 've'.")
  log_alpha_bar = -np.logaddexp(0, -np.asarray(schedule.curve.rows))
  root = np.exp(log_alpha_bar / 2)
  alpha_bar = ((root - root[-1]) * root[0] / (root[0] - root[-1]))[:-1] ** 2
  rows = np.append(np.log(alpha_bar) - np.log1p(-alpha_bar), -np.inf)
  return dataclasses.replace(schedule, curve=Table(rows))


def shifted(schedule: Schedule, by: float) -> Schedule:
  """The schedule with a constant added to its log-SNR, for images of another size.

  2 log(64 / d) for d pixels a side (Hoogeboom et al. 2023, eq. 12), and -2 log(s) is the shift s of Esser et al.
  2024, eq. 23. On a table all rows move.

  Raises:
    Unsuitable: for a learned curve, whose ends are trained.
  """
  if by and _learned(schedule):
    raise Unsuitable(
      "schedule",
      f"which trains its own ends, but shift is {by}; set logsnr_min and logsnr_max, where training starts",
    )
  return dataclasses.replace(schedule, curve=Shifted(schedule.curve, by)) if by else schedule


def _table(betas: np.ndarray, scale: str, zero: bool) -> Schedule:
  schedule = from_betas(betas, scale)
  return zero_terminal(schedule) if zero else schedule


def linear(
  steps: Rows = 1000,
  beta_start: Beta = 1e-4,
  beta_end: Beta = 0.02,
  scale: Scale = "vp",
  zero_terminal: bool = False,
) -> Schedule:
  """DDPM's table: betas evenly spaced (Ho et al. 2020, section 4); not rescaled with `steps`."""
  _growing(beta_start=beta_start, beta_end=beta_end)
  return _table(np.linspace(beta_start, beta_end, steps, dtype=np.float64), scale, zero_terminal)


def scaled_linear(
  steps: Rows = 1000,
  beta_start: Beta = 0.00085,
  beta_end: Beta = 0.012,
  scale: Scale = "vp",
  zero_terminal: bool = False,
) -> Schedule:
  """Stable Diffusion's table: square roots of the betas evenly spaced (Rombach et al. 2022, code)."""
  _growing(beta_start=beta_start, beta_end=beta_end)
  roots = np.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=np.float64)
  return _table(roots**2, scale, zero_terminal)


def cosine(
  steps: Rows = 1000,
  s: NotNegative = 0.008,
  beta_clip: Beta = 0.999,
  scale: Scale = "vp",
  zero_terminal: bool = False,
) -> Schedule:
  """iDDPM's table: alpha_bar(u) ~ cos^2((u + s) / (1 + s) pi / 2) (Nichol & Dhariwal 2021, eq. 17)."""
  u = np.arange(steps + 1, dtype=np.float64) / max(steps, 1)
  alpha_bar = np.cos((u + s) / (1 + s) * np.pi / 2) ** 2
  betas = np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], beta_clip)
  return _table(betas, scale, zero_terminal)


def continuous_linear(
  beta_min: Positive = 0.1, beta_max: Positive = 20.0, t_min: Rate = 1e-3, scale: Scale = "vp"
) -> Schedule:
  """The VP-SDE (Song et al. 2021, eq. 33), the limit of `linear` and not the same schedule."""
  _growing(beta_min=beta_min, beta_max=beta_max)
  return Schedule(VpLinear(beta_min, beta_max), scale, t_min=_noisy(t_min))


def continuous_cosine(
  logsnr_min: float = -20.0,
  logsnr_max: float = 20.0,
  t_min: Rate = 0.0,
  scale: Scale = "vp",
) -> Schedule:
  """logsnr = -2 log tan(pi t / 2), its angle cut so that t in [0, 1] spans the two log-SNRs.

  Salimans & Ho 2022, appendix; the cut (rather than a clip) keeps the curve strictly decreasing.
  """
  _ordered(logsnr_min=logsnr_min, logsnr_max=logsnr_max)
  return Schedule(Cosine(logsnr_min, logsnr_max), scale, t_min=t_min)


def sigmoid(
  start: float = -3.0,
  end: float = 3.0,
  tau: Positive = 1.0,
  logsnr_min: float = -20.0,
  logsnr_max: float = 20.0,
  t_min: Rate = 0.0,
  scale: Scale = "vp",
) -> Schedule:
  """alpha_bar a logistic function of t (Jabri et al. 2023, algorithm; Chen 2023, section 3.1).

  Cut as `continuous_cosine` is, where their code clips.
  """
  _ordered(start=start, end=end)
  _ordered(logsnr_min=logsnr_min, logsnr_max=logsnr_max)
  curve = Sigmoid(start / tau, end / tau, logsnr_min, logsnr_max)
  return Schedule(curve, scale, t_min=t_min)


def sub_vp(beta_min: Positive = 0.1, beta_max: Positive = 20.0, t_min: Rate = 1e-3, scale: Scale = "subvp"):
  """The sub-VP SDE (Song et al. 2021, eq. 29): alpha as the VP-SDE's, sigma its sigma^2."""
  _growing(beta_min=beta_min, beta_max=beta_max)
  return Schedule(SubVpLinear(beta_min, beta_max), scale, t_min=_noisy(t_min))


def geometric(
  sigma_min: Positive = 0.01,
  sigma_max: Positive = 50.0,
  steps: Annotated[int, closed(0, 1_000_000)] = 0,
  scale: Scale = "ve",
) -> Schedule:
  """The VE-SDE's sigma_min (sigma_max / sigma_min)^t (Song et al. 2021, eq. 30).

  With `steps` the table of NCSN's discrete noise levels (Song & Ermon 2019, 10 of them), else continuous.
  """
  _ordered(0.0, sigma_min=sigma_min, sigma_max=sigma_max)
  ends = -2 * np.log(sigma_max), -2 * np.log(sigma_min)
  if not steps:
    return Schedule(Linear(*ends), scale)
  if steps < 2:
    raise ConfigError(f"steps is {steps}: a table needs at least 2 steps, and 0 is continuous.")
  return Schedule(Table(np.linspace(*ends[::-1], steps)), scale, t_min=1 / steps, steps=steps)


def edm(sigma_min: Positive = 0.002, sigma_max: Positive = 80.0, rho: Rho = 7.0, scale: Scale = "ve"):
  """sigma^(1/rho) growing linearly (Karras et al. 2022, eq. 5), so that uniform times are its grid.

  EDM draws its training noise levels from a log-normal (times.py), which does not depend on this.
  """
  _ordered(0.0, sigma_min=sigma_min, sigma_max=sigma_max)
  return Schedule(Power(sigma_min, sigma_max, rho), scale)


def flow(t_min: Rate = 1e-3, scale: Scale = "fm") -> Schedule:
  """Rectified flow: alpha = 1 - t and sigma = t (Liu et al. 2023; Lipman et al. 2023), alpha(1) = 0."""
  if scale == "ve":
    raise ConfigError("scale is 've', but this schedule ends at an infinite sigma / alpha; choose another.")
  return Schedule(Straight(), scale, t_min=_noisy(t_min))


def learned(
  logsnr_min: float = -5.0,
  logsnr_max: float = 13.3,
  width: Annotated[int, closed(1, 4096)] = 64,
  scale: Scale = "vp",
) -> Schedule:
  """A learned monotone curve (Kingma et al. 2021, appendix H), at first nearly linear between the two.

  `parameters(schedule)` is what is trained and `rebuilt(schedule, params)` the schedule that it makes.
  `width` is the number of logistic steps, their centres spread evenly over [0, 1].
  """
  _ordered(logsnr_min=logsnr_min, logsnr_max=logsnr_max)
  interior = {
    "slope": np.zeros((), np.float32),
    "weight": np.full(width, -np.log(width), np.float32),
    "rate": np.full(width, np.log(10.0), np.float32),
    "centre": np.linspace(0, 1, width, dtype=np.float32),
  }
  ends = np.array([logsnr_max, np.log(logsnr_max - logsnr_min)], np.float32)
  return Schedule(Monotone(ends, interior), scale)


def _growing(**pair: float) -> None:
  """Raises ConfigError if the second of two options is the smaller."""
  (low_name, low), (high_name, high) = pair.items()
  if low > high:
    raise ConfigError(f"{low_name} is {low} and {high_name} {high}; {low_name} <= {high_name} is needed.")


def _ordered(above: float = -np.inf, **pair: float) -> None:
  """Raises ConfigError unless the first of two options is the smaller, and larger than `above`."""
  (low_name, low), (high_name, high) = pair.items()
  if not above < low < high:
    floor = f"{above:g} < " if np.isfinite(above) else ""
    raise ConfigError(
      f"{low_name} is {low} and {high_name} {high}; {floor}{low_name} < {high_name} is needed."
    )


def _noisy(t_min: float) -> float:
  if t_min == 0:
    raise ConfigError("t_min is 0, where this schedule has no noise at all; 0.001 is usual.")
  return t_min


SCHEDULES: dict[str, Callable[..., Schedule]] = ranges.checked(
  {
    "linear": linear,
    "scaled_linear": scaled_linear,
    "cosine": cosine,
    "continuous_linear": continuous_linear,
    "continuous_cosine": continuous_cosine,
    "sigmoid": sigmoid,
    "sub_vp": sub_vp,
    "geometric": geometric,
    "edm": edm,
    "flow": flow,
    "learned": learned,
  }
)
