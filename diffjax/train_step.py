"""The training step, a pure function.

    g = grad of mean over the batch of the objective                                                  (1)
    params <- params + update(g),   ema <- rate ema + (1 - rate) params                               (2)

The step's key is fold_in(state.key, step) and every draw hangs on an example's place in the global batch, so
that a step can be repeated alone, on any number of devices, in any number of accumulated parts. So does what
is remembered of the losses (times.py): every part puts its own into their places in the global batch.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from diffjax import keys
from diffjax.experiment import Experiment
from diffjax.optimization import global_norm, packed, unpacked
from diffjax.state import TrainState
from diffjax.times import TimesOf
from diffjax.types import Batch, Labels, Params, PerExample, Pixels

Mean = Callable[[Any], Any]  # averages a pytree over whatever parts the batch is cut into


def to_x0(images: Pixels, draws: keys.Draws, flip: bool) -> Batch:
  """uint8 [B, H, W, C] to float32 in [-1, 1], each flipped left to right with probability 1/2 if asked."""
  x0 = images.astype(jnp.float32) / 127.5 - 1
  if not flip:
    return x0
  mirrored = keys.uniform(draws.keys("flip")) < 0.5
  return jnp.where(mirrored[:, None, None, None], x0[:, :, ::-1], x0)


def to_cond(labels: Labels, draws: keys.Draws, null: int, dropout: float) -> Labels:
  """Labels [B], each replaced by the null class with probability `dropout`."""
  dropped = keys.uniform(draws.keys("label")) < dropout
  return jnp.where(dropped, null, labels)


def losses(
  experiment: Experiment, params: Params, times: TimesOf, batch: dict, draws: keys.Draws
) -> PerExample:
  """The loss of every example, [B]."""
  config = experiment.config
  x0 = to_x0(batch["image"], draws, config.data.flip)
  x0, augment = experiment.augmentation.apply(x0, draws)
  cond = None
  if experiment.num_classes:
    cond = to_cond(batch["label"], draws, experiment.num_classes, config.objective.label_dropout)
  schedule = experiment.schedule_of(params)
  return experiment.objective(times)(experiment.apply(params, augment), schedule, x0, cond, draws)


def placed(values: PerExample, draws: keys.Draws) -> PerExample:
  """A part's values [b] at their places in the global batch [B]: the mean over the parts is the whole."""
  parts = draws.size // len(draws.index)
  return jnp.zeros(draws.size, values.dtype).at[draws.index].set(parts * values)


def _in_parts(batch: dict, parts: int) -> dict:
  """[B, ...] to [parts, B / parts, ...]: every parts-th example, so that no device's share moves."""
  return jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch)


def make_step(experiment: Experiment) -> Callable[[TrainState, dict, Mean], tuple[TrainState, dict]]:
  """The pure step (state, batch, mean) -> (state, metrics), equations (1) and (2).

  `batch` holds image uint8 [B, H, W, C], label int32 [B] and index int32 [B], the places in the global batch.
  Metrics are float32 scalars: loss, grad_norm (before clipping), update_norm
  and learning_rate.
  """
  config, memory = experiment.config.train, experiment.memory

  def step(state, batch, mean):
    key, times = jax.random.fold_in(state.key, state.step), memory.times(state.memory)
    remembers = bool(jax.tree.leaves(state.memory))

    def loss(params, part):
      draws = keys.Draws(key, part["index"], config.batch_size)
      each = losses(experiment, params, times, part, draws)
      if not remembers:
        return jnp.mean(each), ()
      t, density = times(experiment.schedule_of(params), draws)
      return jnp.mean(each), (placed(t, draws), placed(each * density, draws))

    evaluate = jax.value_and_grad(loss, has_aux=True)

    def accumulate(total, part):
      return jax.tree.map(jnp.add, total, evaluate(state.params, part)), None

    if config.accumulate == 1:
      found = evaluate(state.params, batch)
    else:
      parts = _in_parts(batch, config.accumulate)
      shapes = jax.eval_shape(evaluate, state.params, jax.tree.map(lambda x: x[0], parts))
      found, _ = jax.lax.scan(accumulate, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes), parts)
      found = jax.tree.map(lambda x: x / config.accumulate, found)
    (value, seen), gradient = mean(found)
    old = (gradient, state.params, state.opt_state, state.ema)
    gradient, params, opt_state, ema = packed(old, state.params)
    updates, opt_state = experiment.optimizer.update(gradient, opt_state, params)
    params = optax.apply_updates(params, updates)

    def averaged(old, rate):
      rate = experiment.ema_rate(state.step, rate)
      return jax.tree.map(lambda o, p: o + (1 - rate) * (p - o), old, params)

    ema = {name: averaged(old, float(name)) for name, old in ema.items()}
    metrics = {
      "loss": value,
      "grad_norm": global_norm(gradient),
      "update_norm": global_norm(updates),
      "learning_rate": experiment.learning_rate(state.step),
    }
    remembered = memory.recorded(state.memory, *seen) if remembers else state.memory
    params, ema, opt_state = unpacked((params, ema, opt_state), state.params)
    return TrainState(state.step + 1, params, ema, opt_state, state.key, remembered), metrics

  return step


def make_chunk(step: Callable) -> Callable[[TrainState, dict, Mean], tuple[TrainState, dict]]:
  """Several steps as one: batches [K, B, ...] and metrics [K]."""

  def chunk(state, batches, mean):
    if jax.tree.leaves(batches)[0].shape[0] == 1:  # no loop: XLA's CPU convolutions are slow inside one
      state, metrics = step(state, jax.tree.map(lambda x: x[0], batches), mean)
      return state, jax.tree.map(lambda x: x[None], metrics)
    like = state.params

    def body(state, batch):  # between the steps all stays packed: XLA leaves out what is undone
      state, metrics = step(unpacked(state, like), batch, mean)
      return packed(state, like), metrics

    state, metrics = jax.lax.scan(body, packed(state, like), batches)
    return unpacked(state, like), metrics

  return chunk
