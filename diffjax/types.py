"""Array aliases, what was trained, and the errors whose text is all that a user needs to see."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key, UInt8

Batch = Float[Array, "b *dims"]  # images or other data, one example per row
PerExample = Float[Array, "b"]  # one number per example
Times = Float[ArrayLike, "..."]  # times in [0, 1], log-SNRs or coefficients: a scalar or [B]
Labels = Int[Array, "b"]
Keys = Key[Array, "b"]  # one PRNG key per example
Pixels = UInt8[Array, "b h w c"]
Params = Any  # a pytree of arrays
Data = dict[str, Array]  # fields of a batch, each [B, ...]
Frozen = Mapping[str, Params]  # the parameters of other runs, by their place


class Trained(NamedTuple):
  """A run that another one uses.

  Attributes:
    place: its workdir, with checkpoint and average where they were named; the key of its parameters in Frozen.
    can: what may be asked of it, by name; every function takes its parameters first.
    params: its parameters.
    fingerprint: of the parameters and the config.
  """

  place: str
  can: Mapping[str, Callable]
  params: Params
  fingerprint: str


class ConfigError(ValueError):
  """A mistake in the user's config or command; its text is the whole message that they see."""


class Unsuitable(ConfigError):
  """A choice that does not go with the others.

  Attributes:
    field: which choice it is.
    which: what is wrong with it, a clause that begins with "which" or "whose".
  """

  def __init__(self, field: str, which: str):
    super().__init__(f"{field} is one {which}.")
    self.field, self.which = field, which


class RunError(RuntimeError):
  """A run that cannot go on, through no mistake in the config; its text is the whole message."""


def words(error: BaseException) -> str:
  """What another library says of an error, in one line that is not long and has no full stop."""
  text = " ".join(str(error).split()) or type(error).__name__
  return (f"{text[:160]} ..." if len(text) > 160 else text).rstrip(".")
