"""What a network is told besides x: the time and its conditions, each embedded, summed over all of them.

    time    sines and cosines, plus what conditions add to them, through two dense layers with swish between
    vector  the sum of that and of the conditions' vectors
    tokens  the conditions' tokens one after the other, which attention may look at
    planes  the conditions' planes side by side, which join the input
    together whether a video's frames belong together, which they do if no condition denies it

A condition's value passes the module that its `embed` makes for this network; it says itself how it enters.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from diffjax.models.layers import Dense, initialiser, sinusoids
from diffjax.types import ConfigError, PerExample


class Widths(NamedTuple):
  """What a network takes in.

  Attributes:
    time: channels of the sines and cosines of the time.
    vector: channels of the embedding.
    tokens: channels of its tokens.
    rows: standard deviation of a new table's rows.
  """

  time: int
  vector: int
  tokens: int
  rows: float


class Embedded(NamedTuple):
  """What a condition says, in the ways in which it enters a network.

  Attributes:
    time: [B, time], added to the sines and cosines of the time, before the dense layers (EDM's augmentation labels).
    vector: [B, vector], added to the embedding.
    tokens: [B, L, tokens] and a mask [B, L], which is True where there is a token.
    planes: [B, ..., C], of the input's sizes.
    together: [B], whether the frames of a video may see each other.
  """

  time: Array | None = None
  vector: Array | None = None
  tokens: tuple[Float[Array, "b l d"], Bool[Array, "b l"]] | None = None
  planes: Array | None = None
  together: Bool[Array, "b"] | None = None


Embed = Callable[[Widths], nn.Module]
Embeds = tuple[tuple[str, Embed], ...]  # of a network's conditions, by their names


class Table(nn.Module):
  """A row of a table for each class; a class beyond the table gives NaN.

  Attributes:
    classes: rows.
    widths: of the network.
  """

  classes: int
  widths: Widths

  @nn.compact
  def __call__(self, value: Array) -> Embedded:
    """Classes [B] to vectors."""
    shape = (self.classes, self.widths.vector)
    table = self.param("embedding", nn.initializers.normal(self.widths.rows), shape, jnp.float32)
    return Embedded(vector=jnp.take(table, value, axis=0))


class OnTime(nn.Module):
  """Numbers [B, n] added to the time through a dense layer without bias (Karras et al. 2022, appendix F.2)."""

  widths: Widths

  @nn.compact
  def __call__(self, value: Float[Array, "b n"]) -> Embedded:
    kernel = self.param("kernel", initialiser(), (value.shape[-1], self.widths.time), jnp.float32)
    return Embedded(time=value @ kernel)


class Projected(nn.Module):
  """Vectors [B, n] through a dense layer to the embedding, and to `tokens` tokens where there are any."""

  widths: Widths
  tokens: int = 0

  @nn.compact
  def __call__(self, value: Float[Array, "b n"]) -> Embedded:
    vector = Dense(self.widths.vector, name="vector")(value)
    if not self.tokens:
      return Embedded(vector=vector)
    several = Dense(self.tokens * self.widths.tokens, name="tokens")(value)
    several = several.reshape(len(value), self.tokens, self.widths.tokens)
    return Embedded(vector=vector, tokens=(several, jnp.ones(several.shape[:2], bool)))


class Together(nn.Module):
  """Whether the frames of a video belong together: integers [B], 0 for no; it has no parameters."""

  @nn.compact
  def __call__(self, value: Int[Array, "b"]) -> Embedded:
    return Embedded(together=value != 0)


class Planes(nn.Module):
  """Planes [B, ..., C] as they are."""

  @nn.compact
  def __call__(self, value: Float[Array, "b *dims c"]) -> Embedded:
    return Embedded(planes=value)


class Low(NamedTuple):
  """A small image at the size of the large one, and how much noise was put on it.

  Attributes:
    planes: [B, H, W, C].
    level: [B], the noise's standard deviation; 1 says that there is no image in it.
  """

  planes: Array
  level: PerExample


class Leveled(nn.Module):
  """A Low: its planes as they are, and its level by sines and cosines through a dense layer to the embedding."""

  widths: Widths

  @nn.compact
  def __call__(self, value: Low) -> Embedded:
    waves = sinusoids(1000 * value.level, self.widths.time)
    return Embedded(vector=Dense(self.widths.vector, name="level")(waves), planes=value.planes)


def with_planes(x: Float[Array, "b *dims c"], planes: Array | None) -> Float[Array, "b *dims d"]:
  """A network's input with the conditions' planes beside it; ConfigError where they are of other sizes."""
  if planes is None:
    return x
  if planes.shape[:-1] != x.shape[:-1]:
    raise ConfigError(
      f"a condition's planes are of {planes.shape[1:-1]} places, but what the network is given of {x.shape[1:-1]}."
    )
  return jnp.concatenate([x, planes], axis=-1)


def check(embeds: Embeds, cond: Mapping[str, Any]) -> None:
  """Raises ConfigError unless exactly the network's conditions are given."""
  names = [name for name, _ in embeds]
  if set(names) != set(cond):
    raise ConfigError(
      f"the network was made for the conditions {', '.join(names) or 'none'}, but is given "
      f"{', '.join(sorted(cond)) or 'none'}."
    )


class Conditioning(nn.Module):
  """Time and conditions, embedded.

  Attributes:
    widths: of the network.
    time_scale: factor on the time.
    embeds: the conditions.
    shift: of the frequencies; see `sinusoids`.
    cosines_first: whether the cosines stand before the sines.
  """

  widths: Widths
  time_scale: float
  embeds: Embeds = ()
  shift: int = 1
  cosines_first: bool = False

  @nn.compact
  def __call__(self, time: PerExample, cond: Mapping[str, Any]) -> Embedded:
    """Times [B] and conditions to the embedding as `vector`, and the conditions' tokens and planes."""
    check(self.embeds, cond)
    each = [embed(self.widths)(cond[name]) for name, embed in self.embeds]

    def those(way):
      return [value for embedded in each if (value := getattr(embedded, way)) is not None]

    time = time.astype(jnp.float32) * self.time_scale
    emb = sinusoids(time, self.widths.time, self.shift, self.cosines_first)
    emb = Dense(self.widths.vector, name="dense_0")(sum(those("time"), emb))
    emb = Dense(self.widths.vector, name="dense_1")(nn.swish(emb))
    tokens, planes, together = those("tokens"), those("planes"), those("together")
    return Embedded(
      vector=sum(those("vector"), emb),
      tokens=tuple(jnp.concatenate(part, axis=1) for part in zip(*tokens, strict=True)) if tokens else None,
      planes=jnp.concatenate(planes, axis=-1) if planes else None,
      together=jnp.all(jnp.stack(together), axis=0) if together else None,
    )


class Vectors(nn.Module):
  """The sum of the conditions' vectors, for networks that know no time.

  Attributes:
    width: of the sum.
    embeds: the conditions.
    rows: standard deviation of a new table's rows.
  """

  width: int
  embeds: Embeds = ()
  rows: float = 1.0

  @nn.compact
  def __call__(self, cond: Mapping[str, Any], count: int) -> Float[Array, "b d"]:
    """Conditions of `count` examples to [count, width], zeros where there are none.

    Raises:
      ConfigError: a condition that does not enter as a vector.
    """
    check(self.embeds, cond)
    total = jnp.zeros((count, self.width), jnp.float32)
    for name, embed in self.embeds:
      vector = embed(Widths(self.width, self.width, self.width, self.rows))(cond[name]).vector
      if vector is None:
        raise ConfigError(
          f"the condition {name!r} is no vector, and this network takes no other; leave it out."
        )
      total += vector
    return total
