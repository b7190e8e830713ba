"""Conditions of videos: frames that are given, and whether all frames are of one clip."""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from diffjax.conditions.condition import Condition
from diffjax.data.source import Field
from diffjax.models.conditioning import Planes, Together
from diffjax.ranges import Count, Rate
from diffjax.spaces import field_of, of_pixels
from diffjax.types import ConfigError


def frames(
  fields: Mapping[str, Field], field: str = "video", given: Count = 1, dropout: Rate = 0.0
) -> Condition:
  """The first frames of a video, as planes beside all frames: their pixels in [-1, 1], and 1 where there are any.

  Samples ask for rows of the training data, of which they see the first frames. The guide "frames" makes them those of
  the samples.

  Args:
    fields: of the data.
    field: a uint8 one of videos [T, H, W, C].
    given: frames.
    dropout: share of the training examples that are given none.
  """
  shape = field_of(fields, field, "uint8").shape
  if len(shape) != 4 or given >= shape[0]:
    raise ConfigError(
      f"given is {given} and field {field!r} of shape {shape}; it needs videos of more frames."
    )

  def value(data, draws):
    video = of_pixels(data[field])
    mask = (jnp.arange(shape[0]) < given).astype(video.dtype).reshape(-1, 1, 1, 1)
    return jnp.concatenate([video * mask, jnp.broadcast_to(mask, (*video.shape[:-1], 1))], axis=-1)

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
