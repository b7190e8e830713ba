"""A small image, of which a large one is drawn (Ho et al. 2022, Cascaded Diffusion Models)."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import jax.numpy as jnp
import numpy as np

from diffjax import keys
from diffjax.conditions.condition import ROWS, STAGE, Condition
from diffjax.conditions.stages import require_stage, rows, stage
from diffjax.data.folder import images_of
from diffjax.data.source import Field
from diffjax.degradations import DEGRADATIONS, UPSAMPLINGS, require_factor, upsampled
from diffjax.models.conditioning import Leveled, Low
from diffjax.ranges import FREE, LOCAL, Count, Rate, Run, Share, one_of, up_to
from diffjax.spaces import field_of, of_pixels, own_keys, small
from diffjax.types import ConfigError


def low(
  fields: Mapping[str, Field],
  field: str = "image",
  factor: Count = 2,
  degradation: Annotated[str, one_of(DEGRADATIONS)] = "area",
  upsampling: Annotated[str, one_of(UPSAMPLINGS)] = "bicubic",
  target: Count = 1,
  noise: Share = 0.0,
  level: Annotated[Share, FREE] = 0.0,
  dropout: Rate = 0.0,
  run: Run("sample", optional=True) = "",
  request: Annotated[str, FREE] = "",
  images: Annotated[str, LOCAL, FREE] = "",
  begin: Annotated[float, FREE, up_to(0.0, 1.0)] = 1.0,
) -> Condition:
  """A small image, which in training is made of the large one, and noise on it (Ho et al. 2021, section 4):

      z = sqrt(1 - s^2) low + s eps,   s uniform in [0, noise] in training and `level` at sampling

  The network is told s. At sampling eps is that of the sample's number.

  Args:
    fields: of the data.
    field: the large images.
    factor: how many times smaller than `field` each side of the small one is.
    degradation: how it is made small; see degradations.py.
    upsampling: how it is brought to the size of x0.
    target: how many times smaller than `field` x0 itself is: space.reduced's factor, in the middle of a cascade.
    noise: the highest level of training.
    level: of sampling.
    dropout: share of the training examples that are given no image.
    run: whose samples are the small images, sample i's that of its sample i: the stage before.
    request: the texts that `run` is told, as condition.text.request; "": as it says itself.
    images: a folder whose pictures are the small images, in turn. By default they are made of rows of the data, and the
      other conditions are told those rows' too, unless they have a request.
    begin: the time at which sampling begins, from alpha low + sigma eps of the small image at x0's size: the first of
      the grid that is not later. 1: all of the grid, from noise.

  Raises:
    ConfigError: sizes that do not fit, or small images of another size or of other channels.
  """
  shape = field_of(fields, field, "uint8").shape
  size, shape = require_factor(factor, shape), require_factor(target, shape)
  require_stage(run, field, size, fields)
  if level > noise:
    raise ConfigError(f"level is {level}, of which training told nothing: noise is {noise}.")

  def lowered(image, own):  # of what an augmentation made of it at x0's size, or of the field
    return small(image, image.shape[1] // size[0], degradation, own)

  def view(data, draws=None):
    return data["low"] if "low" in data else lowered(data[field], own_keys(data, draws, "degradation"))

  def value(data, draws):
    z = of_pixels(view(data, draws))
    s = jnp.zeros(len(z))
    if noise:
      s = jnp.full(len(z), level) if draws is None else noise * keys.uniform(draws.keys("level"))
      wide = s.reshape(-1, 1, 1, 1)
      z = jnp.sqrt(1 - wide**2) * z + wide * keys.normal(own_keys(data, draws, "low"), size)
    return Low(upsampled(z, shape, upsampling), s)

  def requests(index, source):
    if run:
      stage_request = stage(run, field, fields, index, source, request)
      return stage_request | {"low": stage_request.pop(field)}
    if images:
      there, _, _ = images_of(Path(images).expanduser(), size[-1], "{1}x{0}, the small size".format(*size))
      if there.shape[1:] != size:
        raise ConfigError(
          f"images is {images!r}, whose pictures are of shape {there.shape[1:]}; it must be {size}."
        )
      return {"low": there[index % len(there)]}
    data = rows(field, fields, index, source)
    own = own_keys({"index": jnp.asarray(index)}, None, "degradation")
    return data | {"low": np.asarray(lowered(jnp.asarray(data[field]), own))}

  return Condition(
    value=value,
    null=lambda value: Low(jnp.zeros_like(value.planes), jnp.ones_like(value.level)),
    embed=functools.partial(Leveled, name="low"),
    request=requests,
    fields=(field,),
    dropout=dropout,
    word=STAGE if run else ROWS,
    guess=(lambda data: upsampled(of_pixels(view(data)), shape, upsampling)) if begin < 1 else None,
    begin=begin,
  )
