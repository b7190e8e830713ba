"""The task "texture": images grown pixel by pixel out of training images (Efros & Leung 1999), with no model at all.

In raster order each pixel is one of a training image of the class, at the same place, whose neighbourhood, the pixels
before it in a window, is like that of the pixel to be drawn: with Gaussian weights w over the window,

    d_i = sum over the window of w (x - x_i)^2,   i uniform among those with d_i <= (1 + tolerance) min d     (1)

(their section 2.1, where pixels come from any place of one texture.) To train is to look: each step keeps its batch
among the exemplars, which are all the parameters that there are, so `record` alone moves them. The loss is the mean
squared distance to the nearest exemplar.
"""

from collections.abc import Callable, Mapping
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from diffjax import keys
from diffjax.conditions import Condition
from diffjax.data.source import Field
from diffjax.ranges import Count, NotNegative, Range
from diffjax.spaces import Space
from diffjax.tasks.images import images
from diffjax.tasks.task import Drawing, Loss, Task
from diffjax.types import Batch

ODD = Range(lambda value: value > 1 and value % 2 == 1, "odd and at least 3", (int,))


def neighbourhood(window: int) -> list[tuple[int, int, float]]:
  """(row, column, w) of the pixels before the middle of a window."""
  reach, spread = window // 2, window / 6.4
  offsets = [(i, j) for i in range(-reach, 1) for j in range(-reach, reach + 1) if i < 0 or j < 0]
  return [(i, j, float(np.exp(-(i**2 + j**2) / (2 * spread**2)))) for i, j in offsets]


def distances(x: Batch, others: Batch, place: tuple[Array, Array], window: int) -> Float[Array, "b n"]:
  """d of equation (1), of all pairs of images at one place; what lies outside the image counts as equal."""
  reach, total = window // 2, 0.0
  padding = ((0, 0), (reach, reach), (reach, reach), (0, 0))
  x, others = jnp.pad(x, padding), jnp.pad(others, padding)
  for i, j, weight in neighbourhood(window):
    one, other = (a[:, place[0] + reach + i, place[1] + reach + j] for a in (x, others))
    total += weight * jnp.sum((one[:, None] - other) ** 2, axis=-1)
  return total


def choice(distance: Float[Array, "b n"], allowed: Bool[Array, "b n"], tolerance: float, pixel_keys) -> Array:
  """The exemplar [B] of each pixel by equation (1)."""
  distance = jnp.where(allowed, distance, jnp.inf)
  near = allowed & (distance <= (1 + tolerance) * distance.min(axis=1, keepdims=True))
  return jax.vmap(jax.random.categorical)(pixel_keys, jnp.where(near, 0.0, -jnp.inf))


def texture(
  space: Callable[..., Space],
  conditions: Mapping[str, Callable[..., Condition]],
  fields: Mapping[str, Field],
  exemplars: Count = 1024,
  window: Annotated[int, ODD] = 5,
  tolerance: NotNegative = 0.1,
) -> Task:
  """The task, of makers of its parts and the fields of the data.

  Args:
    space: of the images.
    conditions: ("label",) or none.
    fields: of the data.
    exemplars: training images that are kept, the last seen.
    window: side of the neighbourhood, in pixels.
    tolerance: of equation (1).

  Raises:
    ConfigError: parts that do not go together.
  """
  of = images(space, conditions, fields)
  classes, (_, width, _) = of.classes, of.shape
  places = of.shape[0] * width

  def init(key):
    return {"model": {"images": jnp.zeros((exemplars, *of.shape)), "label": jnp.full(exemplars, -1.0)}}

  def nearest(params, x0):
    x, images = (a.reshape(len(a), -1) for a in (x0, jax.lax.stop_gradient(params["model"]["images"])))
    squares = jnp.sum(x**2, 1)[:, None] - 2 * x @ images.T + jnp.sum(images**2, 1)
    return jnp.maximum(squares.min(1), 0) / x.shape[1]

  def loss(params, frozen, data, draws, memory):
    x0, cond = of.read(data)
    label = of.label(cond, len(x0)).astype(jnp.float32)
    return Loss(nearest(params, x0), {"images": x0, "label": label})

  def record(params, seen_before, seen):
    seen = jax.tree.map(lambda values: values[:exemplars], seen)
    count = len(seen["label"])
    rows = (seen_before + jnp.arange(count)) % exemplars
    new = {name: params["model"][name].at[rows].set(values) for name, values in seen.items()}
    return {"model": new}, (seen_before + count) % exemplars

  def held_out(params, frozen, data, case):
    return {"nearest": nearest(params, of.read(data)[0])}

  def begin(params, frozen, plan, data, sample_keys):
    return jnp.zeros((len(data["index"]), *of.shape))

  def advance(params, frozen, plan, data, sample_keys, x, start, stop):
    images, label = params["model"]["images"], params["model"]["label"]
    target = of.label(of.cond(data), len(x))[:, None]
    allowed = (label >= 0) & ((label == target) | (target == classes) | (classes == 0))

    def step(i, x):
      place = i // width, i % width
      pixel_keys = keys.fold(keys.purpose(sample_keys, "pixel"), i)
      one = choice(distances(x, images, place, window), allowed, tolerance, pixel_keys)
      return x.at[:, place[0], place[1]].set(images[one, place[0], place[1]])

    x = jax.lax.fori_loop(start, stop, step, x)
    return x, x, x

  return of.task(
    init=init,
    loss=loss,
    held_out=held_out,
    draw=Drawing((), places, begin, advance, of.space.decode, places),
    start=lambda: jnp.zeros((), jnp.int32),
    record=record,
  )
