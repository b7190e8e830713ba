"""The part that tasks of images share: the images and the conditions of their networks."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from diffjax import conditions as conditioning
from diffjax.conditions import Condition, Conditions
from diffjax.data.augment import Augmentation
from diffjax.data.encoded import Encodings, fields_of
from diffjax.data.source import Field
from diffjax.keys import Draws
from diffjax.models.conditioning import Embeds
from diffjax.spaces import Space
from diffjax.tasks.task import Drawing, Task
from diffjax.types import Batch, Data, Labels, Params, Unsuitable


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
  """Images in [-1, 1] and the conditions on them.

  Attributes:
    space: of the images.
    conditions: what a network is told.
    encodings: the fields that other runs make of the data's own.
    fields: the fields of the data, with those.
    augmentation: of training.
  """

  space: Space
  conditions: Conditions
  encodings: Encodings
  fields: Mapping[str, Field]
  augmentation: Augmentation | None = None

  @property
  def shape(self) -> tuple[int, ...]:
    """[H, W, C]."""
    return self.space.shape

  @property
  def embeds(self) -> Embeds:
    """The conditions as a network takes them."""
    return tuple((name, condition.embed) for name, condition in self.conditions.items())

  def read(self, data: Data, draws: Draws | None = None) -> tuple[Batch, dict[str, Any]]:
    """x0 and the values of the conditions; of training, where there are draws."""
    x0 = self.space.encode(data, draws)
    if draws is not None and self.augmentation:
      x0, _ = self.augmentation.apply(x0, draws)
      if self.augmentation.changes:
        data = {**data, **self.space.decode({}, x0)}
    return x0, self.cond(data, draws)

  def cond(self, data: Data, draws: Draws | None = None) -> dict[str, Any]:
    """The values of the conditions."""
    return conditioning.values(self.conditions, data, draws)

  @property
  def classes(self) -> int:
    """Of the one condition that there may be; 0 without.

    Raises:
      ConfigError: a condition that is no class, or several.
    """
    counts = [condition.classes for condition in self.conditions.values()]
    if len(counts) > 1 or 0 in counts:
      raise Unsuitable("conditions", "which this task cannot be told; choose ('label',) or ()")
    return counts[0] if counts else 0

  def label(self, cond: Mapping[str, Any], count: int) -> Labels:
    """The class of each of `count` examples; 0 where there are none, and `classes` where it is left out."""
    return next(iter(cond.values())) if cond else jnp.zeros(count, jnp.int32)

  def blank(self) -> tuple[Batch, dict[str, Any]]:
    """One example of zeros, to make parameters from."""
    data = {name: jnp.zeros((1, *field.shape), field.dtype) for name, field in self.fields.items()}
    return jnp.zeros((1, *self.shape)), self.cond(data | {"index": jnp.zeros(1, int)})

  def task(self, **parts: Any) -> Task:
    """The task of these parts, whose samples ask for what the conditions say."""
    fields = (*self.space.fields, *(f for c in self.conditions.values() for f in c.fields))
    return Task(
      fields=tuple(dict.fromkeys(fields)),
      encodings=self.encodings,
      request=lambda index, source: conditioning.requests(self.conditions, index, source),
      leads=any(condition.leads for condition in self.conditions.values()),
      **parts,
    )

  def at_once(self, sample: Callable[[Params, Data, Array], Batch]) -> Drawing:
    """Drawn in one go: (params, data, sample keys) -> x0."""

    def advance(params, frozen, plan, data, sample_keys, carry, start, stop):
      x0 = sample(params, data, sample_keys)
      return carry, x0, x0

    begin = lambda params, frozen, plan, data, sample_keys: jnp.zeros(len(data["index"]))
    return Drawing((), 1, begin, advance, self.space.decode, 1)


def require_images(space: Space) -> None:
  """Raises ConfigError at a space of anything but images in [-1, 1]."""
  if len(space.shape) != 3:
    raise Unsuitable("space", f"which is of shape {space.shape}; this task is of images, choose 'pixels'")
  if not space.bounded:
    raise Unsuitable(
      "space", "which leaves [-1, 1], where this task's images lie; choose 'pixels' with scale 1 and shift 0"
    )


def images(
  space: Callable[..., Space],
  conditions: Mapping[str, Callable[..., Condition]],
  fields: Mapping[str, Field],
  augmentation: Callable[..., Augmentation] | None = None,
) -> Images:
  """Of makers.

  Raises:
    ConfigError: the space is not one of images, or the augmentation one that tells what it did.
  """
  space, change = space(fields=fields), augmentation() if augmentation else None
  if change and change.labels:
    raise Unsuitable("augmentation", "which tells a network what was done; choose 'flip' or 'none'")
  require_images(space)
  conditions = {name: make(fields=fields) for name, make in conditions.items()}
  encodings = dict(space.encodings)
  for condition in conditions.values():
    encodings |= condition.encodings
  return Images(space, conditions, encodings, {**fields, **fields_of(fields, encodings)}, change)
