"""Bounds of the likelihood of a latent variable model, in nats, by draws from its encoder.

With w(z) = p(x0 | z) p(z) / q(z | x0) and z_1 .. z_k drawn from q

    elbo   E log w = -nll - KL(q || p), the mean over the draws                  (Kingma & Welling 2014, eq. 3)   (1)
    iwae   log 1/k sum w(z_i), which rises to log p(x0) with k                   (Burda et al. 2016, eq. 8)       (2)

Each is called with makers of (1) and of log w, which draw from keys [B], and the keys; and answers with minus the
bound, [B].
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from diffjax import keys
from diffjax.ranges import Count, checked
from diffjax.types import Keys, PerExample


class Bounded(NamedTuple):
  """What a model says of a batch; each of keys [B], nats [B].

  Attributes:
    bound: one draw of (1).
    log_weight: log w of one draw.
  """

  bound: Callable[[Keys], PerExample]
  log_weight: Callable[[Keys], PerExample]


class Bound(NamedTuple):
  """Minus a bound.

  Attributes:
    nats: [B].
    nfe: decodings of each example.
  """

  nats: PerExample
  nfe: int


def elbo(of: Bounded, sample_keys: Keys, samples: Count = 1) -> Bound:
  """Equation (1)."""
  body = lambda i, total: total + of.bound(keys.fold(sample_keys, i))
  return Bound(-jax.lax.fori_loop(0, samples, body, jnp.zeros(len(sample_keys))) / samples, samples)


def iwae(of: Bounded, sample_keys: Keys, samples: Count = 100) -> Bound:
  """Equation (2)."""
  body = lambda i, total: jnp.logaddexp(total, of.log_weight(keys.fold(sample_keys, i)))
  total = jax.lax.fori_loop(0, samples, body, jnp.full(len(sample_keys), -jnp.inf))
  return Bound(jnp.log(samples) - total, samples)


BOUNDS: dict[str, Callable[..., Bound]] = checked({"elbo": elbo, "iwae": iwae})
