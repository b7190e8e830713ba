"""The curves log-SNR(t) of schedules, t in [0, 1] from data to noise, with their inverses.

Everything follows the dtype of t. A curve is a frozen dataclass and a pytree; one that ends at log-SNR
-inf has no signal left at t = 1.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float

from diffjax.types import Params, Times


@runtime_checkable
class Curve(Protocol):
  """A strictly decreasing log-SNR curve on [t_min, 1] and its inverse; a pytree."""

  def logsnr(self, t: Times) -> Times:
    """Log-SNR (natural logarithm of the power ratio) at t."""

  def t_of(self, logsnr: Times) -> Times:
    """The time with this log-SNR, within the ends of the curve."""


def pytree(*static: str):
  """Registers a frozen dataclass as a pytree whose fields named in `static` are not leaves."""

  def register(cls):
    fields = [field.name for field in dataclasses.fields(cls)]
    data = [name for name in fields if name not in static]
    return jax.tree_util.register_dataclass(cls, data_fields=data, meta_fields=list(static))

  return register


@pytree()
@dataclasses.dataclass(frozen=True)
class Table:
  """log-SNR at t_i = (i + 1) / T, linear in between.

  A last row of -inf is approached as rows[T - 2] + 2 log(1 - share) is, so that r = sigma / alpha grows to
  infinity and every log-SNR has its time.
  """

  rows: Float[ArrayLike, "rows"]  # float64 and decreasing

  def _ends(self, i, dtype):
    rows = jnp.asarray(self.rows).astype(dtype)
    return rows[i], rows[i + 1], jnp.isfinite(rows[i + 1])

  def logsnr(self, t: Times) -> Times:
    """Interpolates between the rows; exact on them."""
    position = t * len(self.rows) - 1
    i = jnp.clip(jnp.floor(position), 0, len(self.rows) - 2).astype(int)
    share = jnp.clip(position - i, 0, 1)
    above, below, finite = self._ends(i, t.dtype)
    linear = (1 - share) * above + share * jnp.where(finite, below, 0)
    return jnp.where(finite, linear, above + 2 * jnp.log1p(jnp.where(finite, 0, -share)))

  def t_of(self, logsnr: Times) -> Times:
    """Inverts the interpolation."""
    rows = jnp.asarray(self.rows).astype(logsnr.dtype)
    i = jnp.clip(jnp.searchsorted(-rows, -logsnr, side="right") - 1, 0, len(rows) - 2)
    above, below, finite = self._ends(i, logsnr.dtype)
    linear = (above - logsnr) / (above - jnp.where(finite, below, above - 1))
    share = jnp.where(finite, linear, -jnp.expm1((logsnr - above) / 2))
    return (i + 1 + jnp.clip(share, 0, 1)) / len(rows)


def _time_of_integral(integral: Times, beta_min: float, beta_max: float) -> Times:
  """The t where beta_min t + (beta_max - beta_min) t^2 / 2 is this."""
  root = jnp.sqrt(beta_min**2 + 2 * (beta_max - beta_min) * integral)
  return 2 * integral / (beta_min + root)


@pytree("beta_min", "beta_max")
@dataclasses.dataclass(frozen=True)
class VpLinear:
  """B(t) = beta_min t + (beta_max - beta_min) t^2 / 2 and alpha^2 = exp(-B)."""

  beta_min: float
  beta_max: float

  def logsnr(self, t: Times) -> Times:
    """-log(e^B - 1)."""
    integral = t * (self.beta_min + t * (self.beta_max - self.beta_min) / 2)
    return -integral - jnp.log(-jnp.expm1(-integral))

  def t_of(self, logsnr: Times) -> Times:
    """Solves the quadratic B(t) = log(1 + e^-logsnr)."""
    return _time_of_integral(jax.nn.softplus(-logsnr), self.beta_min, self.beta_max)


@pytree("logsnr_min", "logsnr_max")
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
    up = jnp.arctan(jnp.exp(-jnp.where(logsnr > 0, logsnr, -logsnr) / 2))  # abs has the other slope at 0
    return jnp.where(logsnr > 0, (up - start) / speed, 1 - (up - complement) / speed)


@pytree("beta_min", "beta_max")
@dataclasses.dataclass(frozen=True)
class SubVpLinear:
  """alpha^2 = exp(-B) with VpLinear's B(t), and sigma = 1 - exp(-B)."""

  beta_min: float
  beta_max: float

  def logsnr(self, t: Times) -> Times:
    """sigma / alpha = e^(B/2) - e^(-B/2) = 2 sinh(B / 2)."""
    integral = t * (self.beta_min + t * (self.beta_max - self.beta_min) / 2)
    return -integral - 2 * jnp.log(-jnp.expm1(-integral))

  def t_of(self, logsnr: Times) -> Times:
    """B = 2 asinh(r / 2), and VpLinear's quadratic."""
    return _time_of_integral(2 * jnp.arcsinh(jnp.exp(-logsnr / 2) / 2), self.beta_min, self.beta_max)


@pytree("logsnr_min", "logsnr_max")
@dataclasses.dataclass(frozen=True)
class Linear:
  """log-SNR falling linearly from one value to another."""

  logsnr_min: float
  logsnr_max: float

  def logsnr(self, t: Times) -> Times:
    """The line."""
    return self.logsnr_max + t * (self.logsnr_min - self.logsnr_max)

  def t_of(self, logsnr: Times) -> Times:
    """Its inverse."""
    return (self.logsnr_max - logsnr) / (self.logsnr_max - self.logsnr_min)


@pytree("sigma_min", "sigma_max", "rho")
@dataclasses.dataclass(frozen=True)
class Power:
  """r^(1 / rho) growing linearly from sigma_min^(1 / rho) to sigma_max^(1 / rho), r = sigma / alpha."""

  sigma_min: float
  sigma_max: float
  rho: float

  def logsnr(self, t: Times) -> Times:
    """-2 log r."""
    low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
    return -2 * self.rho * jnp.log(low + t * (high - low))

  def t_of(self, logsnr: Times) -> Times:
    """Its inverse."""
    low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
    return (jnp.exp(-logsnr / (2 * self.rho)) - low) / (high - low)


@pytree()
@dataclasses.dataclass(frozen=True)
class Straight:
  """alpha = 1 - t and sigma = t under the scale `fm`: log-SNR 2 log((1 - t) / t), infinite at both ends."""

  def logsnr(self, t: Times) -> Times:
    """The logit of 1 - t, twice."""
    return 2 * (jnp.log1p(-t) - jnp.log(t))

  def t_of(self, logsnr: Times) -> Times:
    """Its inverse."""
    return jax.nn.sigmoid(-logsnr / 2)


@pytree("start", "end", "logsnr_min", "logsnr_max")
@dataclasses.dataclass(frozen=True)
class Sigmoid:
  """alpha_bar = (S(end) - S(x)) / (S(end) - S(start)), S the logistic function, x from start to end.

  By S(a) - S(b) = sinh((a - b) / 2) / (2 cosh(a / 2) cosh(b / 2)), with y = (x - start) / 2 and
  L = (end - start) / 2,

      SNR = cosh(start / 2) / cosh(end / 2) sinh(L - y) / sinh(y)
      y = (softplus(L - g) - softplus(-L - g)) / 2,   g = logsnr - log of the ratio of the two cosh

  where nothing is lost or overflows, however steep. y runs linearly between the two log-SNRs' own values.
  """

  start: float
  end: float
  logsnr_min: float
  logsnr_max: float

  @property
  def _half(self):
    return (self.end - self.start) / 2

  @property
  def _offset(self):
    log_cosh = lambda x: np.logaddexp(x, -x)  # and log 2
    return log_cosh(self.start / 2) - log_cosh(self.end / 2)

  def _from_either_end(self, logsnr, xp):
    """y where the log-SNR is positive and L - y elsewhere: the smaller, about."""
    gap = logsnr - self._offset
    gap = xp.where(logsnr > 0, gap, -gap)
    return (xp.logaddexp(0, self._half - gap) - xp.logaddexp(0, -self._half - gap)) / 2

  @property
  def _ends(self):
    """y at t = 0 and L - y at t = 1."""
    up, down = self._from_either_end(np.array([self.logsnr_max, self.logsnr_min]), np)
    return up if self.logsnr_max > 0 else self._half - up, down if self.logsnr_min <= 0 else self._half - down

  def logsnr(self, t: Times) -> Times:
    """Both ends keep their digits."""
    up, down = self._ends
    speed = self._half - up - down
    rising, falling = up + speed * t, down + speed * (1 - t)
    log_sinh = lambda x: x + jnp.log(-jnp.expm1(-2 * x))  # and log 2
    return self._offset + log_sinh(falling) - log_sinh(rising)

  def t_of(self, logsnr: Times) -> Times:
    """From whichever end is the nearer."""
    up, down = self._ends
    speed = self._half - up - down
    y = self._from_either_end(logsnr, jnp)
    return jnp.where(logsnr > 0, (y - up) / speed, 1 - (y - down) / speed)


@pytree("by")
@dataclasses.dataclass(frozen=True)
class Shifted:
  """Another curve, moved by a constant log-SNR."""

  curve: Curve
  by: float

  def logsnr(self, t: Times) -> Times:
    """The moved curve."""
    return self.curve.logsnr(t) + self.by

  def t_of(self, logsnr: Times) -> Times:
    """The inverse of the unmoved curve there."""
    return self.curve.t_of(logsnr - self.by)


@pytree()
@dataclasses.dataclass(frozen=True)
class Monotone:
  """A learned curve (Kingma et al. 2021, appendix H): logsnr_max less a share m(t) of the span,

      m(t) proportional to e^slope t + sum_k e^weight_k (S(e^rate_k (t - centre_k)) - S(-e^rate_k centre_k))

  with m(0) = 0 and m(1) = 1, S the logistic function. All its fields are trained.

  Attributes:
    ends: logsnr_max and the logarithm of the span logsnr_max - logsnr_min, which the bound itself trains.
    interior: the numbers of m, which do not change the bound in continuous time, only its variance.
  """

  ends: Float[ArrayLike, "2"]
  interior: Params

  def _rise(self, t):
    parts = {name: jnp.asarray(value).astype(t.dtype) for name, value in self.interior.items()}
    rate = jnp.exp(parts["rate"])
    start = jax.nn.sigmoid(-rate * parts["centre"])
    steps = jax.nn.sigmoid(rate * (t[..., None] - parts["centre"])) - start
    return jnp.exp(parts["slope"]) * t + jnp.sum(jnp.exp(parts["weight"]) * steps, axis=-1)

  def logsnr(self, t: Times) -> Times:
    """logsnr_max - span m(t)."""
    ends = jnp.asarray(self.ends).astype(t.dtype)
    return ends[0] - jnp.exp(ends[1]) * self._rise(t) / self._rise(jnp.ones_like(t))

  def t_of(self, logsnr: Times) -> Times:
    """By bisection to the last digit; not differentiable."""
    return _bisection(self.logsnr, logsnr)


def _bisection(curve: Callable[[Times], Times], logsnr: Times) -> Times:
  """The t in [0, 1] where a strictly decreasing function has this value, to the last digit of either float type."""

  def halve(_, bracket):
    low, high = bracket
    middle = (low + high) / 2
    early = curve(middle) > logsnr
    return jnp.where(early, middle, low), jnp.where(early, high, middle)

  low, high = jax.lax.fori_loop(0, 60, halve, (jnp.zeros_like(logsnr), jnp.ones_like(logsnr)))
  return (low + high) / 2


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _inverse(curve: Callable[[Times], Times], logsnr: Times) -> Times:
  return _bisection(curve, logsnr)


@_inverse.defjvp
def _inverse_jvp(curve, primals, tangents):
  """dt / dL = 1 / L'(t)."""
  t = _inverse(curve, *primals)
  slope = jax.jvp(curve, (t,), (jnp.ones_like(t),))[1]
  return t, tangents[0] / slope


@pytree("logsnr")
@dataclasses.dataclass(frozen=True)
class Bisected:
  """A curve of which the log-SNR alone is known: what a schedule of a new shape needs,

      Schedule(Bisected(lambda t: 10 * jnp.cos(jnp.pi * t)))

  Attributes:
    logsnr: t -> log-SNR, a pure function of arrays of any shape, elementwise, strictly decreasing on [0, 1] and
      differentiable. It is part of what is compiled, not a leaf: the same function each time compiles once, and one
      with parameters that are trained needs a curve of its own, as Monotone is.
  """

  logsnr: Callable[[Times], Times]

  def t_of(self, logsnr: Times) -> Times:
    """By bisection to the last digit; 0 or 1 beyond the ends. Differentiable as any inverse function is."""
    return _inverse(self.logsnr, logsnr)
