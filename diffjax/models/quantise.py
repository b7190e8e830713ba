"""Vector quantisation (van den Oord et al. 2017), as functions of a codebook that the caller keeps.

A vector z becomes the nearest of K vectors e_k, and its gradient passes straight through (section 3.2):

  k(z) = argmin_k |z - e_k|^2,   q(z) = z + sg(e_k(z) - z)                                          (1), (2)

The codebook learns by a loss, and the encoder commits to it by another (eq. 3, where sg stops gradients):

  codebook = |sg(z) - e|^2,   commitment = |z - sg(e)|^2                                            (3)

or, in place of the first, by averages of the vectors that fell to each code (appendix A.1, eq. 6 to 8):

  N_k <- g N_k + (1 - g) n_k,   m_k <- g m_k + (1 - g) sum_(z at k) z,   e_k = m_k / N_k            (4)

with N_k smoothed by Laplace's rule, (N_k + a) / (N + K a) N, so that no code is divided by zero (their code). A code
whose N_k falls below a floor is dead: it starts anew at a random vector of the batch (Dhariwal et al. 2020,
section 3.1).

All of it is float32, and the products are at the highest precision: which code is nearest hangs on small
differences.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key

from diffjax.types import PerExample


class Codebook(NamedTuple):
  """The codes and the averages that they are made of.

  Attributes:
    vectors: [K, D], e of the equations.
    counts: [K], N.
    sums: [K, D], m.
  """

  vectors: Float[Array, "k d"]
  counts: Float[Array, " k"]
  sums: Float[Array, "k d"]


class Quantised(NamedTuple):
  """Vectors after equations (1) to (3).

  Attributes:
    vectors: [B, ..., D], q(z); its gradient is that of z.
    codes: [B, ...], k(z).
    codebook: [B], equation (3), a sum over D, as a mean over an example's vectors; it moves the codebook alone.
    commitment: [B], likewise; it moves z alone.
  """

  vectors: Float[Array, "b *n d"]
  codes: Int[Array, "b *n"]
  codebook: PerExample
  commitment: PerExample


def initial(vectors: Float[Array, "k d"]) -> Codebook:
  """A codebook of these vectors, each as if it had been chosen once."""
  vectors = vectors.astype(jnp.float32)
  return Codebook(vectors, jnp.ones(len(vectors)), vectors)


def random(key: Key[Array, ""], size: int, channels: int) -> Codebook:
  """`size` vectors uniform in [-1, 1] / size, as the authors' code starts."""
  numbers = jax.random.uniform(key, (size * channels,), jnp.float32, -1 / size, 1 / size)
  return initial(numbers.reshape(size, channels))


def nearest(z: Float[Array, "*n d"], vectors: Float[Array, "k d"]) -> Int[Array, "*n"]:
  """Equation (1): codes [...] of z [..., D]; the smaller of two that are as near."""
  z, vectors = z.astype(jnp.float32), vectors.astype(jnp.float32)
  # Distances do not change with the origin, but far from it their squares lose the digits that matter.
  origin = vectors.mean(0)
  z, vectors = z - origin, vectors - origin
  products = jnp.matmul(z, vectors.T, precision=lax.Precision.HIGHEST)
  return jnp.argmin(jnp.square(vectors).sum(-1) - 2 * products, axis=-1)


def quantise(z: Float[Array, "b *n d"], vectors: Float[Array, "k d"]) -> Quantised:
  """Equations (1) to (3) for z [B, ..., D] and the codes' vectors [K, D]."""
  codes = nearest(z, vectors)
  codewords = vectors[codes]

  def distance(a, b):
    return jnp.square(a - b).reshape(z.shape[0], -1).mean(-1) * z.shape[-1]

  straight = z + lax.stop_gradient(codewords - z)
  losses = distance(lax.stop_gradient(z), codewords), distance(z, lax.stop_gradient(codewords))
  return Quantised(straight, codes, *losses)


def averaged(
  codebook: Codebook,
  z: Float[Array, "b *n d"],
  codes: Int[Array, "b *n"],
  decay: float = 0.99,
  smoothing: float = 1e-5,
) -> Codebook:
  """Equation (4) after one batch.

  Args:
    codebook: before it.
    z: [B, ..., D], the whole batch's.
    codes: [B, ...], their nearest codes.
    decay: g, in [0, 1).
    smoothing: a, above 0.

  Returns:
    The codebook after it; no gradient passes.
  """
  size, channels = codebook.vectors.shape
  z = lax.stop_gradient(z).astype(jnp.float32).reshape(-1, channels)
  codes = codes.ravel()
  uses = jax.ops.segment_sum(jnp.ones(len(codes)), codes, size)
  counts = decay * codebook.counts + (1 - decay) * uses
  sums = decay * codebook.sums + (1 - decay) * jax.ops.segment_sum(z, codes, size)
  total = counts.sum()
  smooth = (counts + smoothing) / (total + size * smoothing) * total
  return Codebook(sums / smooth[:, None], counts, sums)


def revived(
  codebook: Codebook, z: Float[Array, "b *n d"], key: Key[Array, ""], least: Float[ArrayLike, ""] = 1.0
) -> Codebook:
  """Dead codes, those with N_k < least, at random vectors of z [B, ..., D], each as if it had been chosen once.

  A floor below 1 forgives codes that are seldom chosen; with fewer vectors in a batch than codes, 1 would take away
  most of them again and again.
  """
  size, channels = codebook.vectors.shape
  z = lax.stop_gradient(z).astype(jnp.float32).reshape(-1, channels)
  fresh = z[jax.random.randint(key, (size,), 0, len(z))]
  dead = codebook.counts < least
  vectors = jnp.where(dead[:, None], fresh, codebook.vectors)
  counts = jnp.where(dead, 1.0, codebook.counts)
  return Codebook(vectors, counts, jnp.where(dead[:, None], fresh, codebook.sums))


def perplexity(codes: Int[Array, "*n"], size: int) -> Float[Array, ""]:
  """exp of the entropy of codes: how many of the `size` are in use, between 1 and size."""
  return perplexity_of(jnp.bincount(codes.ravel(), length=size))


def perplexity_of(counts: Float[Array, " k"]) -> Float[Array, ""]:
  """The same of how often each was chosen; 1 where none was."""
  share = counts / jnp.maximum(counts.sum(), jnp.finfo(jnp.float32).tiny)
  return jnp.exp(-jnp.where(share > 0, share * jnp.log(jnp.where(share > 0, share, 1)), 0).sum())
