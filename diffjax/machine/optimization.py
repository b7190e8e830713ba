"""Optimizers and learning rates, from optax, and the many small arrays of a network as one.

learning rate(step) = peak * min(1, (step + 1) / warmup) * decay(step)                            (1)
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from diffjax.ranges import Count, NotNegative, Positive, Rate, Share, checked


def adam(b1: Rate = 0.9, b2: Rate = 0.999, eps: Positive = 1e-8) -> optax.GradientTransformation:
  """Adam (Kingma & Ba 2015), without the learning rate, in the order of the end of their section 2.

  Both corrections of the bias are one scalar a step. optax's own scale_by_adam, whose state this is, divides
  both moments instead, and XLA writes the quotients to memory.
  """
  init = optax.scale_by_adam(b1, b2, eps).init

  def update(gradient, state, params=None):
    count = optax.safe_increment(state.count)
    mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, gradient)
    nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * jnp.square(g), state.nu, gradient)
    root = jnp.sqrt(1 - b2**count)
    scale, floor = root / (1 - b1**count), eps * root
    updates = jax.tree.map(lambda m, v: scale * m / (jnp.sqrt(v) + floor), mu, nu)
    return updates, optax.ScaleByAdamState(count, mu, nu)

  return optax.GradientTransformation(init, update)


def adamw(
  b1: Rate = 0.9, b2: Rate = 0.999, eps: Positive = 1e-8, weight_decay: NotNegative = 0.01
) -> optax.GradientTransformation:
  """Adam with decoupled weight decay (Loshchilov & Hutter 2019), on matrices and kernels only."""
  matrices = lambda params: jax.tree.map(lambda p: p.ndim > 1, params)
  return optax.chain(adam(b1, b2, eps), optax.add_decayed_weights(weight_decay, matrices))


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = checked({"adam": adam, "adamw": adamw})


def constant(warmup: int, steps: int) -> optax.Schedule:
  """1."""
  return lambda step: jnp.ones(())


def cosine(warmup: int, steps: int, final: Share = 0.0) -> optax.Schedule:
  """Half a cosine from 1 after the warm-up to `final` at the last step (Loshchilov & Hutter 2017, eq. 5)."""

  def decay(step):
    progress = jnp.clip((step - float(warmup)) / float(max(steps - warmup, 1)), 0, 1)
    return final + (1 - final) * (1 + jnp.cos(jnp.pi * progress)) / 2

  return decay


def rsqrt(warmup: int, steps: int, timescale: Count = 10_000) -> optax.Schedule:
  """1 / sqrt(step / timescale) from step `timescale` on (Vaswani et al. 2017, eq. 3, for its tail)."""
  return lambda step: jnp.sqrt(float(timescale) / jnp.maximum(step, float(timescale)))


DECAYS: dict[str, Callable[..., optax.Schedule]] = checked(
  {"constant": constant, "cosine": cosine, "rsqrt": rsqrt}
)


def learning_rate(peak: float, warmup: int, decay: optax.Schedule) -> optax.Schedule:
  """Equation (1)."""

  def rate(step):
    share = (step + 1) / float(warmup) if warmup else 1.0
    return peak * jnp.minimum(share, 1.0) * decay(step)

  return rate


def optimizer(
  scale: optax.GradientTransformation, rate: optax.Schedule, clip: float
) -> optax.GradientTransformation:
  """Clips the gradient's global norm (0: not), scales it, and steps against it."""
  first = (clipped(clip),) if clip else ()
  return optax.chain(*first, scale, optax.scale_by_learning_rate(rate))


def global_norm(tree: Any) -> Float[Array, ""]:
  """The Euclidean norm of all numbers of a tree, each array summed along its last axis and these sums together."""
  sums = [jnp.sum(jnp.square(jnp.atleast_1d(leaf)), axis=-1).ravel() for leaf in jax.tree.leaves(tree)]
  # Without the barrier XLA sums every part by itself again.
  return jnp.sqrt(jnp.sum(jax.lax.optimization_barrier(jnp.concatenate(sums))))


def clipped(most: float) -> optax.GradientTransformation:
  """optax.clip_by_global_norm with `global_norm`: optax's own takes a GPU two sums more for every array."""

  def update(gradient, state, params=None):
    norm = global_norm(gradient)
    return jax.tree.map(lambda g: jnp.where(norm < most, g, g / norm * most), gradient), state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


class Packed(NamedTuple):
  """The arrays of a tree with all its float32 vectors and scalars joined to one vector.

  Two of three arrays of a U-Net are vectors, which hold a thousandth of its numbers: what is done to every number
  alike takes a third of the operations on this, and gives the same numbers.
  """

  vector: Float[Array, "n"]
  others: list[Array]


def _small(leaf) -> bool:
  return leaf.ndim < 2 and leaf.dtype == jnp.float32


def packed(state: Any, like: Any) -> Any:
  """`state` with every part of it that has the structure of the tree `like` as a Packed."""

  def pack(tree):
    leaves = jax.tree.leaves(tree)
    vectors = [leaf.ravel() for leaf in leaves if _small(leaf)]
    return Packed(jnp.concatenate([jnp.zeros(0), *vectors]), [leaf for leaf in leaves if not _small(leaf)])

  return _replaced(state, jax.tree.structure(like), pack)


def unpacked(state: Any, like: Any) -> Any:
  """The inverse of `packed`."""
  leaves, structure = jax.tree.flatten(like)
  sizes = [leaf.size if _small(leaf) else 0 for leaf in leaves]
  ends = list(itertools.accumulate(sizes))

  def unpack(tree):
    others = iter(tree.others)
    slices = (tree.vector[end - size : end] for end, size in zip(ends, sizes, strict=True))
    arrays = [
      v.reshape(leaf.shape) if _small(leaf) else next(others) for v, leaf in zip(slices, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, arrays)

  return _replaced(state, jax.tree.structure(packed(like, like)), unpack)


def _replaced(state, structure, change):
  here = lambda tree: jax.tree.structure(tree) == structure
  return jax.tree.map(lambda tree: change(tree) if here(tree) else tree, state, is_leaf=here)
