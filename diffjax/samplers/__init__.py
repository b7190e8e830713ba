"""Samplers by name. A solver family is one file and its entries here."""

from collections.abc import Callable

from diffjax.samplers import ancestral, ddim
from diffjax.samplers.base import Sampler

SAMPLERS: dict[str, Callable[..., Sampler]] = {
  "ancestral": ancestral.ancestral,
  "ddim": ddim.ddim,
}
