"""Scale rules: how a log-SNR is split into alpha and sigma.

With r = exp(-logsnr / 2) = sigma / alpha:

    vp      alpha^2 + sigma^2 = 1      alpha = sigmoid(logsnr)^(1/2)                                  (1)
    ve      alpha = 1                  sigma = r                                                      (2)
    fm      alpha + sigma = 1          alpha = sigmoid(logsnr / 2) = 1 / (1 + r)                      (3)
    subvp   alpha^2 + sigma = 1        sigma = 2 / (1 + sqrt(1 + 4 / r^2))                            (4)

No formula subtracts alpha_bar from 1, which loses three digits near the data in float32.
"""

from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp

from diffjax.ranges import one_of
from diffjax.types import Times


def _vp(logsnr):
  # Half the logarithm, since sigmoid itself is 0 long before its root is.
  return jnp.exp(jax.nn.log_sigmoid(logsnr) / 2), jnp.exp(jax.nn.log_sigmoid(-logsnr) / 2)


def _ve(logsnr):
  return jnp.ones_like(logsnr), jnp.exp(-logsnr / 2)


def _fm(logsnr):
  # Not jax.nn.sigmoid, whose derivative s (1 - s) has no digits left where s is nearly 1.
  return jnp.exp(jax.nn.log_sigmoid(logsnr / 2)), jnp.exp(jax.nn.log_sigmoid(-logsnr / 2))


def _subvp(logsnr):
  # alpha = e^-a and sigma = 1 - e^-2a, so that r = 2 sinh(a); the derivatives keep their digits too.
  a = jnp.arcsinh(jnp.exp(-logsnr / 2) / 2)
  return jnp.exp(-a), -jnp.expm1(-2 * a)


SCALES: dict[str, Callable[[Times], tuple[Times, Times]]] = {
  "vp": _vp,
  "ve": _ve,
  "fm": _fm,
  "subvp": _subvp,
}
Scale = Annotated[str, one_of(SCALES)]
