"""The task "classifier": p(y | x_t) at every noise level, the classifier of classifier guidance.

    loss = cross-entropy of y given x_t and t,  x_t from the schedule,  t from its distribution

(Dhariwal & Nichol 2021, section 4 and algorithm 2.)
"""

import functools
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax.numpy as jnp
import optax

from diffjax import keys, schedules
from diffjax.conditions import label
from diffjax.data.augment import Augmentation
from diffjax.data.source import Field
from diffjax.denoisers import moved_to
from diffjax.gaussian import diffuse, expand
from diffjax.predictions import Prediction
from diffjax.spaces import Space
from diffjax.tasks.bands import bands
from diffjax.tasks.task import Loss, Task, bind
from diffjax.types import Unsuitable


def classifier(
  space: Callable[..., Space],
  augmentation: Callable[..., Augmentation],
  schedule: Callable[..., schedules.Schedule],
  shift: float,
  times: Callable,
  input_scale: Callable,
  time_input: Callable,
  encoder: Callable[..., nn.Module],
  dtype: str,
  fields: Mapping[str, Field],
  field: str = "label",
  request: int | None = None,
) -> Task:
  """The task, of makers of its parts, and of the fields of the data.

  Args:
    space: where x0 lives.
    augmentation: one that tells nothing.
    schedule, shift, times: how x_t is drawn.
    input_scale, time_input: what the network is told.
    encoder: the network.
    dtype: of its computation.
    fields: of the data.
    field: the one that holds the class.
    request: the class that guided samples ask for; by default all in turn.

  Raises:
    ConfigError: parts that do not go together, or data without classes.
  """
  space, change, condition = (
    space(fields=fields),
    augmentation(),
    label(fields=fields, field=field, request=request),
  )
  if change.labels:
    raise Unsuitable("augment", "which tells the network what was done; choose 'flip' or 'none'")
  schedule = schedules.shifted(schedule(), shift)
  schedules.check(schedule)
  times = times()
  if times.table and schedule.steps is None:
    raise Unsuitable("times", "which draws rows of a table, but the schedule is continuous; choose 'uniform'")
  if times.divides:
    raise Unsuitable("times", "which changes with the losses, and these are not divided by its density")
  prediction = Prediction(None, bind(input_scale, sigma_data=space.std), time_input)
  network = encoder(outputs=condition.classes, dtype=dtype)

  def logits(params, xt, t, dropout_keys=None):
    return network.apply({"params": params["model"]}, *prediction.inputs(schedule, xt, t), {}, dropout_keys)

  def init(key):
    return {"model": network.init(key, jnp.zeros((1, *space.shape)), jnp.zeros(1))["params"]}

  def noisy(x0, t, draws):
    return diffuse(schedule, x0, keys.normal(draws.keys("eps"), x0.shape[1:], x0.dtype), t)

  def scores(logits, labels):
    return {
      "loss": optax.softmax_cross_entropy_with_integer_labels(logits, labels),
      "accuracy": (logits.argmax(-1) == labels).astype(jnp.float32),
    }

  def loss(params, frozen, data, draws, memory):
    x0, _ = change.apply(space.encode(data, draws), draws)
    t, _ = times.draw(schedule, draws, memory)
    values = scores(logits(params, noisy(x0, t, draws), t, draws.keys("dropout")), data[field])
    return Loss(values["loss"], logs={"accuracy": values["accuracy"]})

  def held_out(params, frozen, data, t):
    draws = keys.Draws(keys.seed(0), data["index"], len(data["index"]))
    return scores(logits(params, noisy(space.encode(data, None), t, draws), t), data[field])

  def log_prob(params, data):
    """(x_t, t, schedule) -> log p(y | x_t) of the classes that the samples ask for, [B]; x_t of any schedule."""

    def at(xt, t, of):
      own, scale = moved_to(schedule, of, t)
      rows = logits(params, expand(scale, xt) * xt, own)
      return -optax.softmax_cross_entropy_with_integer_labels(rows, data[field])

    return at

  return Task(
    init=init,
    loss=loss,
    held_out=held_out,
    fields=(*space.fields, field),
    cases=functools.partial(bands, schedule),
    can={"log_prob": log_prob, "request": lambda params, index, source: condition.request(index, source)},
  )
