"""What a decoder's numbers say of an image x0 in [-1, 1], n numbers: its mean, and how likely the image is under it.

    mean              the image itself; no likelihood
    bernoulli         logits of u = (x0 + 1) / 2, a share of n trials, p their chance of one:
                      -log p(x0) = -sum(log C(n, n u) + n u log p + n (1 - u) log(1 - p))             (1)
    gaussian          the mean, with a variance s^2 that is given
    gaussian_learned  the mean, and the logarithm of the variance of every number
    logistics         a mixture of logistics over the grey levels, as pixels.py has it, whose mean is that over levels

(Kingma & Welling 2014, appendix C.) With n trials (1) speaks of n + 1 grey levels, to the nearest of which a pixel is
moved. With one, as in the paper, grey values are not moved but taken as shares: its nats are those of a likelihood
only if the image is black and white, and otherwise of use between models of the same data.

Pixels are one of 256 values, whose bins are w = 2 / 255 wide. A density p speaks of them through x = x0 + w u with u
uniform in [-1/2, 1/2], by the bound of Theis et al. 2016, eq. 6, whose expectation a Gaussian has in closed form:

    -log P(x0) <= -E log(w p(x)) = sum 1/2 log(2 pi s^2) + ((x0 - mean)^2 + w^2 / 12) / (2 s^2) - log w   (2)

so that no variance can shrink to nothing.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from jaxtyping import Array

from diffjax.gaussian import sum_dims
from diffjax.levels import Levels, ranks, values
from diffjax.ranges import Count, Positive, checked
from diffjax.tasks.pixels import logistic_mixture
from diffjax.types import Batch, PerExample

WIDTH = 2 / 255
LOGVAR = (-16.0, 6.0)  # a learned one is kept there


@dataclasses.dataclass(frozen=True)
class Decoder:
  """What a decoder's numbers say.

  Attributes:
    outputs: numbers that the network gives for each of the image's.
    mean: what it gives -> the image.
    nll: (x0, what it gives) -> nats [B]; None: there is no likelihood.
  """

  outputs: int
  mean: Callable[[Array], Batch]
  nll: Callable[[Batch, Array], PerExample] | None = None


def mean() -> Decoder:
  """The image itself."""
  return Decoder(1, lambda out: out)


def bernoulli(trials: Count = 1) -> Decoder:
  """Equation (1), `trials` being n."""

  def nll(x0, out):
    ones = trials * (x0 + 1) / 2
    ones = jnp.round(ones) if trials > 1 else ones
    ways = sum(gammaln(1.0 + n) * sign for n, sign in ((trials, 1), (ones, -1), (trials - ones, -1)))
    loss = trials * jax.nn.softplus(out) - ones * out
    return sum_dims(loss - ways if trials > 1 else loss)

  return Decoder(1, lambda out: 2 * jax.nn.sigmoid(out) - 1, nll)


def gaussian(std: Positive = 0.1) -> Decoder:
  """Equation (2), `std` being s, of pixels in [-1, 1]."""
  return Decoder(1, lambda out: out, lambda x0, out: gaussian_nll(x0, out, 2 * math.log(std)))


def gaussian_learned() -> Decoder:
  """Equation (2) with the variance of every number from the network."""

  def halves(out):
    mean, logvar = jnp.split(out, 2, axis=-1)
    return mean, jnp.clip(logvar, *LOGVAR)

  return Decoder(2, lambda out: halves(out)[0], lambda x0, out: gaussian_nll(x0, *halves(out)))


def logistics(levels: Levels = 256, components: Count = 5) -> Decoder:
  """Logistics for every number of an image, each on its own."""
  pixels = logistic_mixture(levels, components)
  numbers = lambda out: out.reshape(*out.shape[:-1], -1, pixels.outputs)

  def mean(out):
    rank = jnp.arange(levels)
    chances = jnp.exp(-pixels.nll(numbers(out)[..., None, :], rank))
    return jnp.sum(chances * values(rank, levels), axis=-1)

  return Decoder(pixels.outputs, mean, lambda x0, out: sum_dims(pixels.nll(numbers(out), ranks(x0, levels))))


def gaussian_nll(x0: Batch, mean: Batch, logvar: Array | float) -> PerExample:
  """Equation (2)."""
  square = jnp.square(x0 - mean) + WIDTH**2 / 12
  return 0.5 * sum_dims(math.log(2 * math.pi) + logvar + square * jnp.exp(-logvar)) - x0[0].size * math.log(
    WIDTH
  )


DECODERS: dict[str, Callable[..., Decoder]] = checked(
  {
    "mean": mean,
    "bernoulli": bernoulli,
    "gaussian": gaussian,
    "gaussian_learned": gaussian_learned,
    "logistics": logistics,
  }
)
