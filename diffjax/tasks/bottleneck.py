"""What an image passes through between encoder and decoder.

    gaussian   z drawn from the encoder's Gaussian; it costs its divergence from N(0, 1)     Kingma & Welling 2014
    vq         the nearest of K vectors; it costs what models/quantise.py says      van den Oord et al. 2017

A codebook lies among the parameters, in a subtree of its own. Learnt by averages, no gradient moves it: the task's
memory keeps the counts and the sums, and after every step puts the new vectors in place. Learnt by a loss, it is a
parameter as others are, and the counts say which codes are dead. Before the first step none has been chosen, so that
all start at vectors of the first batch.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from diffjax import keys
from diffjax.models import quantise
from diffjax.models.autoencoder import Moments, draw, kl
from diffjax.ranges import Count, NotNegative, Positive, Rate, checked, one_of
from diffjax.types import Params, PerExample

LEARNING = ("ema", "loss")


class Passed(NamedTuple):
  """What came through.

  Attributes:
    z: what is decoded.
    costs: nats, or squares, [B] by name.
    seen: what the memory records, a pytree of [B, ...].
  """

  z: Array
  costs: Mapping[str, PerExample]
  seen: Any = ()


@dataclasses.dataclass(frozen=True)
class Bottleneck:
  """What an image passes through.

  Attributes:
    variational: whether the encoder answers with a variance.
    costs: names of what it costs.
    needs: the terms without which nothing trains its parameters.
    through: (its parameters, moments, noise like the mean or None for none) -> Passed.
    init: (key, channels of the latent) -> its parameters, {} for none.
    settled: (its parameters, any latent) -> one that can be decoded.
    start: channels -> what is remembered before the first step.
    record: (its parameters, memory, seen) -> both after a step, over the global batch.
    logs: memory -> named numbers.
  """

  variational: bool
  costs: tuple[str, ...]
  through: Callable[[Params, Moments, Array | None], Passed]
  init: Callable[[Key[Array, ""], int], Params] = lambda key, channels: {}
  settled: Callable[[Params, Array], Array] = lambda params, z: z
  start: Callable[[int], Any] = lambda channels: ()
  record: Callable[[Params, Any, Any], tuple[Params, Any]] = lambda params, memory, seen: (params, memory)
  logs: Callable[[Any], Mapping[str, Float[Array, ""]]] = lambda memory: {}
  needs: tuple[str, ...] = ()


def gaussian() -> Bottleneck:
  """The encoder's Gaussian."""

  def through(params, moments, eps):
    return Passed(moments.mean if eps is None else draw(moments, eps), {"kl": kl(moments)})

  return Bottleneck(True, ("kl",), through)


class Use(NamedTuple):
  """How codes were used of late.

  Attributes:
    counts: [K], N of quantise.py.
    sums: [K, D], m of it.
    step: steps recorded, of which draws for dead codes hang.
  """

  counts: Float[Array, " k"]
  sums: Float[Array, "k d"]
  step: Int[Array, ""]


def vq(
  codes: Count = 512,
  learning: Annotated[str, one_of(LEARNING)] = "ema",
  decay: Rate = 0.99,
  smoothing: Positive = 1e-5,
  least: NotNegative = 0.1,
) -> Bottleneck:
  """Vector quantisation.

  Args:
    codes: K.
    learning: "ema", by averages, or "loss", for which the term "codebook" of a weight above 0 is needed.
    decay: of the counts and the sums.
    smoothing: of the counts, for "ema".
    least: a code with fewer counts is dead, and starts anew at a vector of the batch; 0 for never, after the first.
  """

  def init(key, channels):
    return {"vectors": quantise.random(key, codes, channels).vectors}

  def through(params, moments, eps):
    code = quantise.quantise(moments.mean, params["vectors"])
    return Passed(
      code.vectors,
      {"codebook": code.codebook, "commitment": code.commitment},
      jax.lax.stop_gradient(moments.mean),
    )

  def settled(params, z):
    return params["vectors"][quantise.nearest(z, params["vectors"])]

  def start(channels):
    return Use(jnp.zeros(codes), jnp.zeros((codes, channels)), jnp.zeros((), jnp.int32))

  def record(params, memory, seen):
    old = quantise.Codebook(params["vectors"], memory.counts, memory.sums)
    new = quantise.averaged(old, seen, quantise.nearest(seen, old.vectors), decay, smoothing)
    if learning == "loss":
      new = new._replace(vectors=old.vectors)
    floor = jnp.where(memory.step == 0, jnp.inf, least)
    key = jax.random.fold_in(keys.seed(0), memory.step)
    new = quantise.revived(new, seen, key, floor)
    return {"vectors": new.vectors}, Use(new.counts, new.sums, memory.step + 1)

  def logs(memory):
    return {"perplexity": quantise.perplexity_of(memory.counts)}

  needs = ("codebook",) if learning == "loss" else ()
  return Bottleneck(False, ("codebook", "commitment"), through, init, settled, start, record, logs, needs)


BOTTLENECKS: dict[str, Callable[..., Bottleneck]] = checked({"gaussian": gaussian, "vq": vq})
