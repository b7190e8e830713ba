"""The distribution of a pixel, one of L levels, by an autoregressive network's outputs.

    softmax            a logit for each level                                                         (1)
    logistic_mixture   logits, means and log-scales of K logistics over [-1, 1], of which a level has what lies in its
                       bin, the outer ones to infinity (Salimans et al. 2017, eq. 2)                  (2)

(2) knows that levels are neighbours, and has 3 K numbers whatever L is.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from diffjax import keys
from diffjax.levels import Levels, ranks, values
from diffjax.ranges import Count, checked
from diffjax.types import Keys


@dataclasses.dataclass(frozen=True)
class Pixels:
  """What the numbers say.

  Attributes:
    levels: L.
    outputs: numbers for each pixel and channel.
    nll: (numbers [..., outputs], levels [...]) -> nats [...].
    draw: (numbers [B, outputs], keys [B], temperature) -> levels [B].
  """

  levels: int
  outputs: int
  nll: Callable[[Float[Array, "*dims o"], Int[Array, "*dims"]], Float[Array, "*dims"]]
  draw: Callable[[Float[Array, "b o"], Keys, float], Int[Array, "b"]]


def categorical(logits: Float[Array, "b n"], example_keys: Keys) -> Int[Array, "b"]:
  """A class of each row, by its own key."""
  return jax.vmap(jax.random.categorical)(example_keys, logits)


def softmax(levels: Levels = 256) -> Pixels:
  """Equation (1)."""

  def nll(numbers, rank):
    return -jnp.take_along_axis(jax.nn.log_softmax(numbers), rank[..., None], axis=-1)[..., 0]

  return Pixels(
    levels, levels, nll, lambda numbers, own, temperature: categorical(numbers / temperature, own)
  )


def logistic_mixture(levels: Levels = 256, components: Count = 5) -> Pixels:
  """Equation (2), K being `components`."""
  half, least = 1 / (levels - 1), -7.0

  def parts(numbers):
    logits, mean, logscale = jnp.split(numbers, 3, axis=-1)
    return jax.nn.log_softmax(logits), mean, jnp.maximum(logscale, least)

  def nll(numbers, rank):
    weights, mean, logscale = parts(numbers)
    rank, x = rank[..., None], values(rank, levels)[..., None]
    upper = jnp.where(rank == levels - 1, jnp.inf, (x + half - mean) * jnp.exp(-logscale))
    lower = jnp.where(rank == 0, -jnp.inf, (x - half - mean) * jnp.exp(-logscale))
    mirror = lower > 0  # in the upper tail both ends mirror, so that the difference keeps its digits
    upper, lower = jnp.where(mirror, -lower, upper), jnp.where(mirror, -upper, lower)
    high, low = jax.nn.log_sigmoid(upper), jax.nn.log_sigmoid(lower)
    gap = jnp.where(jnp.isneginf(lower), -jnp.inf, jnp.minimum(low - high, -1e-7))
    return -jax.nn.logsumexp(weights + high + jnp.log(-jnp.expm1(gap)), axis=-1)

  def draw(numbers, own, temperature):
    weights, mean, logscale = parts(numbers)
    one = categorical(weights / temperature, keys.purpose(own, "component"))[:, None]
    mean, logscale = (jnp.take_along_axis(x, one, axis=1)[:, 0] for x in (mean, logscale))
    u = jnp.clip(keys.uniform(keys.purpose(own, "place")), 1e-6, 1 - 1e-6)
    return ranks(mean + temperature * jnp.exp(logscale) * (jnp.log(u) - jnp.log1p(-u)), levels)

  return Pixels(levels, 3 * components, nll, draw)


PIXELS: dict[str, Callable[..., Pixels]] = checked({"softmax": softmax, "logistic_mixture": logistic_mixture})
