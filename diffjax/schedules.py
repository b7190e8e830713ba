"""Noise schedules: a log-SNR curve and a scale rule.

    x_t = alpha(t) x0 + sigma(t) eps,   logsnr(t) = log(alpha^2 / sigma^2), strictly decreasing      (1)

Small t is data and t = 1 is noise. With r = exp(-logsnr / 2) = sigma / alpha the scale rule splits the
log-SNR into alpha and sigma:

    vp      alpha^2 + sigma^2 = 1      alpha = sigmoid(logsnr)^(1/2)                                  (2)
    ve      alpha = 1                  sigma = r                                                      (3)
    fm      alpha + sigma = 1          alpha = sigmoid(logsnr / 2) = 1 / (1 + r)                      (4)
    subvp   alpha^2 + sigma = 1        alpha = 2 / (r + sqrt(r^2 + 4))                                (5)

No formula subtracts alpha_bar from 1, which loses three digits near the data in float32.

A schedule of T discrete steps is a float64 table of log-SNR at t_i = (i + 1) / T, i = 0..T-1, linear in
log-SNR between its rows. Everything follows the dtype of t.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from diffjax.types import ConfigError, Times


@runtime_checkable
class Curve(Protocol):
  """A strictly decreasing log-SNR curve on [t_min, 1] and its inverse; a pytree."""

  def logsnr(self, t: Times) -> Times:
    """Log-SNR (natural logarithm of the power ratio) at t."""

  def t_of(self, logsnr: Times) -> Times:
    """The time with this log-SNR, within the ends of the curve."""


def _pytree(*static: str):
  """Registers a frozen dataclass as a pytree whose fields named in `static` are not leaves."""

  def register(cls):
    fields = [field.name for field in dataclasses.fields(cls)]
    data = [name for name in fields if name not in static]
    return jax.tree_util.register_dataclass(cls, data_fields=data, meta_fields=list(static))

  return register


def _vp(logsnr):
  return jnp.sqrt(jax.nn.sigmoid(logsnr)), jnp.sqrt(jax.nn.sigmoid(-logsnr))


def _ve(logsnr):
  return jnp.ones_like(logsnr), jnp.exp(-logsnr / 2)


def _fm(logsnr):
  return jax.nn.sigmoid(logsnr / 2), jax.nn.sigmoid(-logsnr / 2)


def _subvp(logsnr):
  r = jnp.exp(-logsnr / 2)
  alpha = 2 / (r + jnp.sqrt(r * r + 4))
  return alpha, r * alpha


SCALES: dict[str, Callable[[Times], tuple[Times, Times]]] = {
  "vp": _vp,
  "ve": _ve,
  "fm": _fm,
  "subvp": _subvp,
}


@_pytree("scale", "t_min", "steps")
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
    if self.scale not in SCALES:
      raise ConfigError(f"schedule.scale is {self.scale!r}; it must be one of {', '.join(SCALES)}.")

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
    """d alpha / dt and d sigma / dt, by forward-mode differentiation."""
    t = jnp.asarray(t)
    return jax.jvp(self.alpha_sigma, (t,), (jnp.ones_like(t),))[1]

  @property
  def prior_std(self) -> Float[Array, ""]:
    """Standard deviation of x_1 where sampling starts: sigma(1) under `ve`, else 1."""
    alpha, sigma = self.alpha_sigma(jnp.ones(()))
    return sigma if self.scale == "ve" else jnp.ones_like(alpha)


@_pytree()
@dataclasses.dataclass(frozen=True)
class Table:
  """log-SNR at t_i = (i + 1) / T, linear in between."""

  rows: Float[ArrayLike, "rows"]  # float64 and decreasing

  def logsnr(self, t: Times) -> Times:
    """Interpolates between the rows; exact on them."""
    rows = jnp.asarray(self.rows).astype(t.dtype)
    position = t * len(rows) - 1
    i = jnp.clip(jnp.floor(position), 0, len(rows) - 2).astype(int)
    share = jnp.clip(position - i, 0, 1)
    return (1 - share) * rows[i] + share * rows[i + 1]

  def t_of(self, logsnr: Times) -> Times:
    """Inverts the interpolation."""
    rows = jnp.asarray(self.rows).astype(logsnr.dtype)
    i = jnp.clip(jnp.searchsorted(-rows, -logsnr, side="right") - 1, 0, len(rows) - 2)
    share = jnp.clip((rows[i] - logsnr) / (rows[i] - rows[i + 1]), 0, 1)
    return (i + 1 + share) / len(rows)


@_pytree("beta_min", "beta_max")
@dataclasses.dataclass(frozen=True)
class VpLinear:
  """B(t) = beta_min t + (beta_max - beta_min) t^2 / 2 and alpha^2 = exp(-B)."""

  beta_min: float
  beta_max: float

  def logsnr(self, t: Times) -> Times:
    """-log(e^B - 1)."""
    integral = t * (self.beta_min + t * (self.beta_max - self.beta_min) / 2)
    return -jnp.log(jnp.expm1(integral))

  def t_of(self, logsnr: Times) -> Times:
    """Solves the quadratic B(t) = log(1 + e^-logsnr)."""
    integral = jax.nn.softplus(-logsnr)
    slope = self.beta_max - self.beta_min
    root = jnp.sqrt(self.beta_min**2 + 2 * slope * integral)
    return 2 * integral / (self.beta_min + root)


@_pytree("logsnr_min", "logsnr_max")
@dataclasses.dataclass(frozen=True)
class Cosine:
  """logsnr = -2 log tan(angle), the angle running linearly between the two log-SNRs' own."""

  logsnr_min: float
  logsnr_max: float

  @property
  def _ends(self):
    return np.arctan(np.exp(-self.logsnr_max / 2)), np.arctan(np.exp(self.logsnr_min / 2))

  def logsnr(self, t: Times) -> Times:
    """tan = sin / sin of the complement, so that both ends keep their digits."""
    start, complement = self._ends
    speed = np.pi / 2 - start - complement
    up, down = start + speed * t, complement + speed * (1 - t)
    return 2 * (jnp.log(jnp.sin(down)) - jnp.log(jnp.sin(up)))

  def t_of(self, logsnr: Times) -> Times:
    """From whichever end is the nearer."""
    start, complement = self._ends
    speed = np.pi / 2 - start - complement
    up = jnp.arctan(jnp.exp(-jnp.abs(logsnr) / 2))
    return jnp.where(logsnr > 0, (up - start) / speed, 1 - (up - complement) / speed)


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
    raise ConfigError(f"schedule.steps is {len(betas)}: a table needs at least 2 steps.")
  if not (np.all(betas > 0) and np.all(betas < 1)):
    raise ConfigError(
      f"schedule betas run from {betas.min():.3g} to {betas.max():.3g}, but each must lie strictly "
      "between 0 and 1; with few steps choose a smaller beta_end."
    )
  log_alpha_bar = np.cumsum(np.log1p(-betas))
  rows = log_alpha_bar - np.log(-np.expm1(log_alpha_bar))
  return Schedule(Table(rows), scale, t_min=1 / len(betas), steps=len(betas))


def linear(steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02, scale: str = "vp"):
  """DDPM's table: betas evenly spaced (Ho et al. 2020, section 4); not rescaled with `steps`."""
  return from_betas(np.linspace(beta_start, beta_end, steps, dtype=np.float64), scale)


def cosine(steps: int = 1000, s: float = 0.008, beta_clip: float = 0.999, scale: str = "vp"):
  """iDDPM's table: alpha_bar(u) ~ cos^2((u + s) / (1 + s) pi / 2) (Nichol & Dhariwal 2021, eq. 17)."""
  u = np.arange(steps + 1, dtype=np.float64) / max(steps, 1)
  alpha_bar = np.cos((u + s) / (1 + s) * np.pi / 2) ** 2
  return from_betas(np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], beta_clip), scale)


def continuous_linear(
  beta_min: float = 0.1, beta_max: float = 20.0, t_min: float = 1e-3, scale: str = "vp"
) -> Schedule:
  """The VP-SDE (Song et al. 2021, eq. 33), the limit of `linear` and not the same schedule."""
  if not 0 < beta_min <= beta_max:
    raise ConfigError(
      f"schedule.beta_min is {beta_min} and beta_max {beta_max}; 0 < beta_min <= beta_max is needed."
    )
  return Schedule(VpLinear(beta_min, beta_max), scale, t_min=_start(t_min))


def continuous_cosine(
  logsnr_min: float = -20.0, logsnr_max: float = 20.0, t_min: float = 0.0, scale: str = "vp"
) -> Schedule:
  """logsnr = -2 log tan(pi t / 2), its angle cut so that t in [0, 1] spans the two log-SNRs.

  Salimans & Ho 2022, appendix; the cut (rather than a clip) keeps the curve strictly decreasing.
  """
  if not logsnr_min < logsnr_max:
    raise ConfigError(f"schedule.logsnr_min is {logsnr_min}, which is not below logsnr_max {logsnr_max}.")
  return Schedule(Cosine(logsnr_min, logsnr_max), scale, t_min=_start(t_min))


def _start(t_min: float) -> float:
  if not 0 <= t_min < 1:
    raise ConfigError(f"schedule.t_min is {t_min}; it must lie in [0, 1).")
  return t_min


SCHEDULES: dict[str, Callable[..., Schedule]] = {
  "linear": linear,
  "cosine": cosine,
  "continuous_linear": continuous_linear,
  "continuous_cosine": continuous_cosine,
}
