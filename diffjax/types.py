"""Array aliases and the two errors whose text is all that a user needs to see."""

from typing import Any

from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key, UInt8

Batch = Float[Array, "b *dims"]  # images or other data, one example per row
PerExample = Float[Array, "b"]  # one number per example
Times = Float[ArrayLike, "..."]  # times in [0, 1], log-SNRs or coefficients: a scalar or [B]
Labels = Int[Array, "b"]
Keys = Key[Array, "b"]  # one PRNG key per example
Pixels = UInt8[Array, "b h w c"]
Params = Any  # a pytree of arrays


class ConfigError(ValueError):
  """A mistake in what the user asked for; its text is the whole message that they see."""


class RunError(RuntimeError):
  """A run that cannot go on, through no mistake in the config; its text is the whole message."""
