"""The task "flow": an invertible network f from images to Gaussian noise, and so an exact density (Dinh et al. 2017).

Pixels of L levels are dequantised to y in [0, 1] (levels.py), moved away from the ends and stretched by the logit,

    v = logit(a + (1 - 2 a) y),  z = f(v),  log p(y) = log N(z; 0, 1) + log |det dz/dv| + log |det dv/dy|   (1)

The loss is the bits per dimension of equation (3) there. Samples are f^-1(temperature z).
"""

from collections.abc import Callable, Mapping
from typing import Annotated

import flax.linen as nn
import jax
import jax.numpy as jnp

from diffjax import keys
from diffjax.conditions import Condition
from diffjax.data.augment import Augmentation
from diffjax.data.source import Field
from diffjax.gaussian import sum_dims
from diffjax.levels import Levels, dequantised, quantised
from diffjax.ranges import half_open
from diffjax.spaces import Space
from diffjax.tasks.images import images
from diffjax.tasks.task import Loss, Task


def flow(
  space: Callable[..., Space],
  conditions: Mapping[str, Callable[..., Condition]],
  augmentation: Callable[..., Augmentation],
  flow: Callable[..., nn.Module],
  dtype: str,
  temperature: float,
  fields: Mapping[str, Field],
  levels: Levels = 256,
  margin: Annotated[float, half_open(0, 0.5)] = 0.05,
) -> Task:
  """The task, of makers of its parts and the fields of the data.

  Args:
    space: of the images.
    conditions: what the network is told.
    augmentation: one that tells nothing.
    flow: the network.
    dtype: of its computation.
    temperature: standard deviation of z where samples are drawn.
    fields: of the data.
    levels: of the pixels.
    margin: a of equation (1).

  Raises:
    ConfigError: parts that do not go together.
  """
  of = images(space, conditions, fields, augmentation)
  network = flow(shape=of.shape, conditions=of.embeds, dtype=dtype)
  size = of.blank()[0].size

  def init(key):
    return {"model": network.init(key, *of.blank())["params"]}

  def bits(params, x0, cond, noise_keys, dropout_keys=None):
    y = margin + (1 - 2 * margin) * dequantised(x0, levels, noise_keys)
    z, logdet = network.apply({"params": params["model"]}, jnp.log(y / (1 - y)), cond, dropout_keys)
    stretched = jnp.log1p(-2 * margin) - jnp.log(y) - jnp.log1p(-y)
    nats = sum_dims(0.5 * (z**2 + jnp.log(2 * jnp.pi))) - logdet - sum_dims(stretched)
    return nats / size / jnp.log(2.0) + jnp.log2(levels)

  def loss(params, frozen, data, draws, memory):
    return Loss(bits(params, *of.read(data, draws), draws.keys("dequantise"), draws.keys("dropout")))

  def held_out(params, frozen, data, case):
    return {"bits": bits(params, *of.read(data), keys.of_examples(keys.seed(0), data["index"]))}

  def likelihood(params, frozen, data, sample_keys):
    total = bits(params, *of.read(data), sample_keys)
    return {"bits": total, "nfe": jnp.ones(total.shape, jnp.int32)}

  def sample(params, data, sample_keys):
    shape = jax.eval_shape(lambda: network.apply({"params": params["model"]}, *of.blank())[0]).shape[1:]
    z = temperature * keys.normal(keys.purpose(sample_keys, "prior"), shape)
    v = network.apply({"params": params["model"]}, z, of.cond(data), method="inverse")
    return quantised((jax.nn.sigmoid(v) - margin) / (1 - 2 * margin), levels)

  return of.task(
    init=init,
    loss=loss,
    held_out=held_out,
    draw=of.at_once(sample),
    likelihoods={"dequantised": likelihood},
    can={"bits": likelihood},
  )
