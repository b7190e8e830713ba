"""The terms of an autoencoder's loss, by the name that a config gives them."""

from collections.abc import Callable

from diffjax.ranges import checked
from diffjax.tasks import adversarial, reconstruction
from diffjax.tasks.reconstruction import Terms

TERMS: dict[str, Callable[..., Terms]] = checked(
  {
    "l1": reconstruction.l1,
    "l2": reconstruction.l2,
    "nll": reconstruction.nll,
    "kl": reconstruction.kl,
    "codebook": reconstruction.codebook,
    "commitment": reconstruction.commitment,
    "lpips": reconstruction.perceptual,
    "adversarial": adversarial.adversarial,
    "r1": adversarial.r1,
  }
)
