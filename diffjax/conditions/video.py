"""Conditions of videos: frames that are given, and whether all frames are of one clip."""

from collections.abc import Mapping
from typing import Annotated

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from diffjax import keys
from diffjax.conditions.condition import Condition
from diffjax.data.source import Field
from diffjax.guidance import Frames, require_frames
from diffjax.keys import Draws
from diffjax.models.conditioning import Planes, Together
from diffjax.ranges import FREE, Rate, Share
from diffjax.spaces import field_of, of_pixels
from diffjax.types import ConfigError


def frames(
  fields: Mapping[str, Field],
  field: str = "video",
  given: Annotated[Frames, FREE] = (0,),
  drawn: Share = 0.0,
  dropout: Rate = 0.0,
) -> Condition:
  """Some frames of a video, as planes beside all of them: their pixels in [-1, 1], and 1 where there are any.

  Samples ask for rows of the training data, of which they see these frames. The guide "frames" makes them those of the
  samples. A network that learns with frames `drawn` at random (Hoppe et al. 2022, RaMViD) may be given any: the first,
  and a clip goes on; every other one, and it is filled in; or none.

  Args:
    fields: of the data.
    field: a uint8 one of videos [T, H, W, C].
    given: numbers of the frames.
    drawn: share of the training examples that are given others: 0 to T - 1 of them, any number as often, anywhere.
    dropout: share of the training examples that are given none.
  """
  shape = field_of(fields, field, "uint8").shape
  require_frames(shape, given)

  def value(data, draws):
    video = of_pixels(data[field])
    mask = jnp.isin(jnp.arange(shape[0]), np.asarray(given, int))[None]
    if draws is not None and drawn:
      some = keys.uniform(draws.keys("drawn")) < drawn
      mask = jnp.where(some[:, None], anywhere(draws, shape[0]), mask)
    mask = jnp.broadcast_to(mask[..., None, None, None], (*video.shape[:-1], 1)).astype(video.dtype)
    return jnp.concatenate([video * mask, mask], axis=-1)

  def requests(index, source):
    if source is None:
      raise ConfigError(f"the samples need rows of the data's field {field!r}, and there are no data.")
    return source.read(index % len(source), (field,))

  return Condition(
    value=value,
    null=jnp.zeros_like,
    embed=lambda widths: Planes(name="frames"),
    request=requests,
    fields=(field,),
    dropout=dropout,
  )


def anywhere(draws: Draws, frames: int) -> Bool[Array, "b t"]:
  """For each example which of its frames are given: 0 to T - 1, any number as often, at places drawn alike."""
  count = jnp.floor(keys.uniform(draws.keys("given")) * frames).clip(max=frames - 1)
  rank = keys.normal(draws.keys("places"), (frames,)).argsort(1).argsort(1)
  return rank < count[:, None]


def moving(fields: Mapping[str, Field], field: str = "moving") -> Condition:
  """Whether the frames of a video may see each other: 0 in the field, and each is an image by itself; samples are 1.

  Where nothing is said, the null, they may.
  """
  if field_of(fields, field, "int32").shape:
    raise ConfigError(f"field is {field!r} of shape {fields[field].shape}; it must be one number.")
  return Condition(
    value=lambda data, draws: data[field],
    null=lambda value: jnp.full_like(value, 2),
    embed=lambda widths: Together(name="moving"),
    request=lambda index, source: {field: np.ones(len(index), np.int32)},
    fields=(field,),
    often_null=True,
  )
