"""Terms of an autoencoder's loss, by name: each a number [B] of an example.

    l1    sum |x0 - x|                      l2   sum (x0 - x)^2 / 2
    kl    KL(N(mean, variance) || N(0, 1)), summed over the latent

l2 with weight 1 is a Gaussian decoder of unit variance but for its constant, l1 a Laplacian one of unit scale, so that
with the KL of weight 1 either is minus an evidence lower bound. All sum over an example's numbers, as in Rombach et
al. 2022's code, and are not divided by their count.
"""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp

from diffjax.gaussian import sum_dims
from diffjax.models.autoencoder import Moments
from diffjax.models.autoencoder import kl as kl_of
from diffjax.ranges import NotNegative, checked
from diffjax.types import Batch, PerExample


@dataclasses.dataclass(frozen=True)
class Term:
  """A term.

  Attributes:
    name: under which it is logged.
    weight: its factor in the loss.
    of: (x0, reconstruction, moments) -> [B].
  """

  name: str
  weight: float
  of: Callable[[Batch, Batch, Moments], PerExample]


def l1(weight: NotNegative = 1.0) -> Term:
  """The sum of the absolute errors."""
  return Term("l1", weight, lambda x0, x, moments: sum_dims(jnp.abs(x0 - x)))


def l2(weight: NotNegative = 1.0) -> Term:
  """Half the sum of the squared errors."""
  return Term("l2", weight, lambda x0, x, moments: sum_dims((x0 - x) ** 2) / 2)


def kl(weight: NotNegative = 1e-6) -> Term:
  """The divergence from the unit Gaussian, in nats."""
  return Term("kl", weight, lambda x0, x, moments: kl_of(moments))


TERMS: dict[str, Callable[..., Term]] = checked({"l1": l1, "l2": l2, "kl": kl})
