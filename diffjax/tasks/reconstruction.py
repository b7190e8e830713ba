"""Terms of an autoencoder's loss, by name: each a number [B] of an example.

    l1    sum |x0 - x|                      l2   sum (x0 - x)^2 / 2
    nll   minus the log-likelihood of x0 under what the decoder says of it (decoders.py)
    kl    KL(N(mean, variance) || N(0, 1)), summed over the latent
    codebook, commitment                    of vector quantisation (models/quantise.py)
    lpips the perceptual distance (metrics/lpips.py)
    adversarial, r1                         of a discriminator (adversarial.py)

l2 with weight 1 is a Gaussian decoder of unit variance but for its constant, l1 a Laplacian one of unit scale, so that
with the KL of weight 1 either is minus an evidence lower bound, as nll and kl are. All but those of a codebook sum
over an example's numbers, as in Rombach et al. 2022's code, and are not divided by their count.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from diffjax.gaussian import sum_dims
from diffjax.metrics import lpips
from diffjax.ranges import NotNegative, one_of
from diffjax.types import Batch, Frozen, PerExample


class Reconstruction(NamedTuple):
  """What the terms see.

  Attributes:
    x0: the images.
    x: what became of them.
    costs: numbers [B] that bottleneck and decoder have computed, by name.
    frozen: weights that no step changes, by name.
    judge: images -> logits of the discriminator, whose weights are held.
    judge_learning: the same of weights that learn.
  """

  x0: Batch
  x: Batch
  costs: Mapping[str, PerExample]
  frozen: Frozen
  judge: Callable[[Batch], Array] | None = None
  judge_learning: Callable[..., Array] | None = None


@dataclasses.dataclass(frozen=True)
class Term:
  """A term.

  Attributes:
    name: under which it is logged.
    weight: its factor in the loss.
    of: what it is.
    needs: the cost that must be known for it, or the player; "" for none.
    start: steps before it counts.
    adaptive: whether its weight follows the other terms' gradients (adversarial.py).
    frozen: weights that it uses, by name.
  """

  name: str
  weight: float
  of: Callable[[Reconstruction], PerExample]
  needs: str = ""
  start: int = 0
  adaptive: bool = False
  frozen: Frozen = dataclasses.field(default_factory=dict)


Terms = tuple[Term, ...]


def l1(weight: NotNegative = 1.0) -> Terms:
  """The sum of the absolute errors."""
  return (Term("l1", weight, lambda pair: sum_dims(jnp.abs(pair.x0 - pair.x))),)


def l2(weight: NotNegative = 1.0) -> Terms:
  """Half the sum of the squared errors."""
  return (Term("l2", weight, lambda pair: sum_dims((pair.x0 - pair.x) ** 2) / 2),)


def _cost(name: str, weight: float) -> Terms:
  return (Term(name, weight, lambda pair: pair.costs[name], name),)


def nll(weight: NotNegative = 1.0) -> Terms:
  """Minus the log-likelihood, in nats, of a decoder that has one."""
  return _cost("nll", weight)


def kl(weight: NotNegative = 1e-6) -> Terms:
  """The divergence from the unit Gaussian, in nats."""
  return _cost("kl", weight)


def codebook(weight: NotNegative = 1.0) -> Terms:
  """How far the codes are from the vectors that fall to them; moves the codes, where no averages do."""
  return _cost("codebook", weight)


def commitment(weight: NotNegative = 0.25) -> Terms:
  """The same; moves the vectors."""
  return _cost("commitment", weight)


def perceptual(
  weight: NotNegative = 1.0, network: Annotated[str, one_of(lpips.NETWORKS)] = "vgg16", weights_file: str = ""
) -> Terms:
  """LPIPS.

  Args:
    weight: of the distance, which is a mean over pixels, not a sum as l1 is; Rombach et al.'s code counts it once
      for every number of an image, which is a weight of height times width times channels.
    network: one of lpips.NETWORKS.
    weights_file: an npz; see metrics/lpips.py for where it is found by default.
  """
  weights, name = lpips.load(network, weights_file), f"lpips {network}"

  def of(pair):
    return lpips.distance(lpips.Weights(network, pair.frozen[name]), pair.x0, pair.x)

  return (Term("lpips", weight, of, frozen={name: weights.tensors}),)
