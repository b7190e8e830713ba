"""Ancestral sampling of the reverse chain (Ho et al. 2020, algorithm 2).

    x_s ~ N(mean of q(x_s | x_t, x0 = D(x_t, t)), var)                                                (1)

with the posterior's variance (fixed_small, beta-tilde) or the transition's (fixed_large, beta); see
gaussian.py's equations (2) and (3). Weak order 1.
"""

from collections.abc import Callable

import jax.numpy as jnp

from diffjax import keys as draws
from diffjax.gaussian import expand, posterior_mean, posterior_variance, transition_variance
from diffjax.samplers.base import Carry, Sampler
from diffjax.types import ConfigError

VARIANCES: dict[str, Callable] = {
  "fixed_small": posterior_variance,
  "fixed_large": transition_variance,
}


def ancestral(variance: str = "fixed_large") -> Sampler:
  """The ancestral sampler; `variance` is one of VARIANCES, else a ConfigError."""
  if variance not in VARIANCES:
    known = ", ".join(VARIANCES)
    raise ConfigError(f"config.sample.ancestral.variance is {variance!r}; it must be one of {known}.")
  variance_of = VARIANCES[variance]

  def step(denoiser, schedule, carry, t, s, keys):
    x0 = denoiser(carry.x, t).x0
    mean = posterior_mean(schedule, x0, carry.x, s, t)
    std = jnp.sqrt(variance_of(schedule, s, t))
    noise = draws.normal(keys, mean.shape[1:], mean.dtype)
    return Carry(mean + expand(std, mean) * noise)

  return Sampler(step, order=1, deterministic=False)
