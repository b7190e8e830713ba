"""The task "autoregressive": each number of an image given those before it (van den Oord et al. 2016a),

    p(x) = product over i of p(x_i | x_1 .. x_{i-1})                                                  (1)

in raster order, the channels of a pixel one after the other. One pass of the network says all factors of an image that
is there; to draw one takes a pass for each number.
"""

from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from diffjax import keys
from diffjax.conditions import Condition
from diffjax.data.augment import Augmentation
from diffjax.data.source import Field
from diffjax.gaussian import mean_dims
from diffjax.levels import ranks, values
from diffjax.spaces import Space
from diffjax.tasks.images import images
from diffjax.tasks.pixels import Pixels
from diffjax.tasks.task import Drawing, Loss, Task


def autoregressive(
  space: Callable[..., Space],
  conditions: Mapping[str, Callable[..., Condition]],
  augmentation: Callable[..., Augmentation],
  autoregressive: Callable[..., nn.Module],
  pixels: Callable[..., Pixels],
  dtype: str,
  temperature: float,
  fields: Mapping[str, Field],
) -> Task:
  """The task, of makers of its parts and the fields of the data.

  Args:
    space: of the images.
    conditions: what the network is told.
    augmentation: one that tells nothing.
    autoregressive: the network.
    pixels: what its numbers say of a pixel.
    dtype: of its computation.
    temperature: of the pixels' distribution where samples are drawn.
    fields: of the data.

  Raises:
    ConfigError: parts that do not go together.
  """
  of, pixels = images(space, conditions, fields, augmentation), pixels()
  network = autoregressive(outputs=pixels.outputs, conditions=of.embeds, dtype=dtype)
  size = of.blank()[0].size

  def init(key):
    return {"model": network.init(key, *of.blank())["params"]}

  def outputs(params, rank, cond, dropout_keys=None):
    return network.apply({"params": params["model"]}, values(rank, pixels.levels), cond, dropout_keys)

  def bits(params, x0, cond, dropout_keys=None):
    rank = ranks(x0, pixels.levels)
    return mean_dims(pixels.nll(outputs(params, rank, cond, dropout_keys), rank)) / jnp.log(2.0)

  def loss(params, frozen, data, draws, memory):
    return Loss(bits(params, *of.read(data, draws), draws.keys("dropout")))

  def held_out(params, frozen, data, case):
    return {"bits": bits(params, *of.read(data))}

  def likelihood(params, frozen, data, sample_keys):
    total = bits(params, *of.read(data))
    return {"bits": total, "nfe": jnp.ones(total.shape, jnp.int32)}

  def begin(params, frozen, plan, data, sample_keys):
    return jnp.full((len(data["index"]), *of.shape), pixels.levels // 2, jnp.int32)

  def advance(params, frozen, plan, data, sample_keys, rank, start, stop):
    cond = of.cond(data)

    def step(i, rank):
      numbers = outputs(params, rank, cond).reshape(len(rank), size, -1)[:, i]
      samples = pixels.draw(numbers, keys.fold(keys.purpose(sample_keys, "pixel"), i), temperature)
      return rank.reshape(len(rank), size).at[:, i].set(samples).reshape(rank.shape)

    rank = jax.lax.fori_loop(start, stop, step, rank)
    x0 = values(rank, pixels.levels)
    return rank, x0, x0

  return of.task(
    init=init,
    loss=loss,
    held_out=held_out,
    draw=Drawing((), size, begin, advance, of.space.decode, size),
    likelihoods={"exact": likelihood},
    can={"bits": likelihood},
  )
