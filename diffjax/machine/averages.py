"""Moving averages of the parameters:  average <- rate(step) average + (1 - rate(step)) params.

    constant    the rate from step 0 on                                        Ho et al. 2020
    ramp        min(rate, (1 + step) / (10 + step)), short at first            TensorFlow's num_updates
    half_life   min(rate, 2^(-1 / (share step))), never longer than a share    EDM's code
    power       (1 - 1 / (step + 1))^(gamma + 1), as wide as sigma_rel says    Karras et al. 2024b, eq. 127, 129

An entry makes one average for each of its rates (or widths), by name.
"""

from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from diffjax.ranges import Positive, checked, each_once, half_open, inside

RateOf = Callable[[Int[Array, ""]], Array | float]
Averages = dict[str, RateOf]


Rates = tuple[Annotated[float, each_once(half_open(0, 1))], ...]
Widths = tuple[Annotated[float, each_once(inside(0, 0.28))], ...]


def constant(rates: Rates = (0.9999,)) -> Averages:
  """No warm-up."""
  return {f"ema_{rate}": lambda step, rate=rate: rate for rate in rates}


def ramp(rates: Rates = (0.9999,)) -> Averages:
  """Short averages early in training."""
  return {
    f"ramp_{rate}": lambda step, rate=rate: jnp.minimum(rate, (1 + step) / (10 + step)) for rate in rates
  }


def half_life(rates: Rates = (0.9999,), share: Positive = 0.05) -> Averages:
  """A half-life of at most `share` of the steps so far."""
  early = lambda step: jnp.exp2(-1 / (share * jnp.maximum(step, 1e-9)))
  return {f"half_life_{rate}": lambda step, rate=rate: jnp.minimum(rate, early(step)) for rate in rates}


def power(widths: Widths = (0.05, 0.1)) -> Averages:
  """Averages whose width is a share of training, from which others can be made afterwards."""

  def average(width):
    gamma = gamma_of(width)
    return lambda step: (1 - 1 / (step + 1)) ** (gamma + 1)

  return {f"power_{width}": average(width) for width in widths}


def initial_share(rate: RateOf, step: int) -> float:
  """The share of an average that is still the weights of before the first step: the product of its rates."""
  rates = jnp.broadcast_to(jax.vmap(rate)(jnp.arange(step)), (step,))
  return float(np.prod(np.asarray(rates, np.float64)))


def gamma_of(width: float) -> float:
  """The exponent of a profile whose standard deviation is `width` of the time: the positive root of

  (gamma + 1) / ((gamma + 2)^2 (gamma + 3)) = width^2   (Karras et al. 2024b, eq. 123).
  """
  cubic = [1, 7, 16 - width**-2, 12 - width**-2]
  return float(np.max(np.roots(cubic).real))


AVERAGES: dict[str, Callable[..., Averages]] = checked(
  {"constant": constant, "ramp": ramp, "half_life": half_life, "power": power}
)
