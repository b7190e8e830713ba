"""Ancestral sampling of the reverse chain (Ho et al. 2020, algorithm 2).

    x_s ~ N(mean of q(x_s | x_t, x0 = D(x_t, t)), var)                                                (1)

with the posterior's variance (fixed_small, beta-tilde), the transition's (fixed_large, beta), what the
denoiser says (learned), interpolated between the two in the logarithm (Nichol & Dhariwal 2021, eq. 15),

    var = exp(v log beta + (1 - v) log beta-tilde) = beta (sigma_s^2 / sigma_t^2)^(1 - v)             (2)

or with a v that is the same everywhere (fixed_medium; the gamma of Ho et al. 2022, Video Diffusion Models); see
gaussian.py's equations (2) and (3). Weak order 1.
"""

from collections.abc import Callable
from typing import Annotated

import jax.numpy as jnp

from diffjax import keys as draws
from diffjax.denoisers import Estimate
from diffjax.gaussian import expand, learned_variance, posterior_mean, posterior_variance, transition_variance
from diffjax.ranges import closed, one_of
from diffjax.samplers.base import Carry, Sampler
from diffjax.schedules import Schedule
from diffjax.types import Batch, ConfigError, Times


def _fixed(variance: Callable) -> Callable:
  return lambda schedule, s, t, estimate: expand(variance(schedule, s, t), estimate.x0)


def _learned(schedule: Schedule, s: Times, t: Times, estimate: Estimate) -> Batch:
  if estimate.var_frac is None:
    raise ConfigError(
      "variance is 'learned', but the model learns no variance; choose 'fixed_small' or "
      "'fixed_large', or train with the objective 'hybrid'."
    )
  return learned_variance(schedule, estimate.var_frac, s, t)


VARIANCES: dict[str, Callable[[Schedule, Times, Times, Estimate], Batch]] = {
  "fixed_small": _fixed(posterior_variance),
  "fixed_large": _fixed(transition_variance),
  "learned": _learned,
}


Variance = Annotated[str, one_of((*VARIANCES, "fixed_medium"))]
VarFrac = Annotated[float | None, closed(0, 1)]


def variance_rule(variance: str, var_frac: float | None) -> Callable[..., Batch]:
  """(schedule, s, t, estimate) -> the variance: one of VARIANCES, or equation (2) with a fixed v.

  Raises:
    ConfigError: var_frac without fixed_medium, or the reverse.
  """
  if variance == "fixed_medium" and var_frac is None:
    raise ConfigError(
      "var_frac must be given with the variance 'fixed_medium': from 0 for 'fixed_small' to 1, 0.3 say."
    )
  if variance != "fixed_medium" and var_frac is not None:
    raise ConfigError(f"var_frac is {var_frac}, but variance is {variance!r}; set it to 'fixed_medium'.")
  if var_frac is None:
    return VARIANCES[variance]
  return lambda schedule, s, t, estimate: learned_variance(
    schedule, jnp.full_like(estimate.x0, var_frac), s, t
  )


def ancestral(variance: Variance = "fixed_large", var_frac: VarFrac = None) -> Sampler:
  """The ancestral sampler.

  Args:
    variance: one of VARIANCES, or "fixed_medium".
    var_frac: v of equation (2), with "fixed_medium" alone.
  """
  rule = variance_rule(variance, var_frac)

  def step(denoiser, schedule, carry, t, s, keys):
    estimate = denoiser(carry.x, t)
    mean = posterior_mean(schedule, estimate.x0, carry.x, s, t)
    std = jnp.sqrt(rule(schedule, s, t, estimate))
    return Carry(mean + std * draws.normal(keys, mean.shape[1:], mean.dtype))

  return Sampler(step, order=1, deterministic=False)
