"""The training step, a pure function.

    g = grad of mean over the batch of the task's loss                                                (1)
    params <- params + update(g),   average <- rate average + (1 - rate) params                       (2)

The step's key is fold_in(state.key, step) and every draw hangs on an example's place in the global batch, so
that a step can be repeated alone, on any number of devices, in any number of accumulated parts. So does what
a task remembers of its losses: every part puts its own into their places in the global batch.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from diffjax import keys
from diffjax.experiment import Experiment
from diffjax.machine.optimization import global_norm, packed, unpacked
from diffjax.machine.state import TrainState
from diffjax.types import Batch, Params

Mean = Callable[[Any], Any]  # averages a pytree over whatever parts the batch is cut into
Gathered = Callable[[Params], Params]  # the parameters to compute with, of those of the state


def placed(values: Batch, draws: keys.Draws) -> Batch:
  """A part's values [b, ...] at their places in the global batch [B, ...]: the mean over the parts is the whole."""
  parts = draws.size // len(draws.index)
  return jnp.zeros((draws.size, *values.shape[1:]), values.dtype).at[draws.index].set(parts * values)


def _in_parts(batch: dict, parts: int) -> dict:
  """[B, ...] to [parts, B / parts, ...]: every parts-th example, so that no device's share moves."""
  return jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch)


def make_step(experiment: Experiment) -> Callable[..., tuple[TrainState, dict]]:
  """The pure step (state, frozen, batch, mean, gathered) -> (state, metrics), equations (1) and (2).

  `frozen` holds the parameters of other runs and `batch` the data's fields [B, ...] with "index" int32 [B], the places
  in the global batch. Metrics are float32 scalars: loss, grad_norm (before clipping), update_norm, learning_rate, and
  the means of what the task logs.
  """
  config, task = experiment.config.train, experiment.task

  def step(state, frozen, batch, mean: Mean, gathered: Gathered = lambda params: params):
    key = jax.random.fold_in(state.key, state.step)
    remembers = bool(jax.tree.leaves(state.memory))

    def loss(params, part):
      draws = keys.Draws(key, part["index"], config.batch_size, state.step)
      result = task.loss(gathered(params), gathered(frozen), part, draws, state.memory)
      seen = jax.tree.map(lambda values: placed(values, draws), result.seen) if remembers else ()
      return jnp.mean(result.each), (seen, jax.tree.map(jnp.mean, dict(result.logs)))

    evaluate = jax.value_and_grad(loss, has_aux=True)

    def accumulate(total, part):
      return jax.tree.map(jnp.add, total, evaluate(state.params, part)), None

    if config.accumulate == 1:
      totals = evaluate(state.params, batch)
    else:
      parts = _in_parts(batch, config.accumulate)
      shapes = jax.eval_shape(evaluate, state.params, jax.tree.map(lambda x: x[0], parts))
      totals, _ = jax.lax.scan(accumulate, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes), parts)
      totals = jax.tree.map(lambda x: x / config.accumulate, totals)
    (value, (seen, logs)), gradient = mean(totals)
    old, whole = (gradient, state.params, state.opt_state, state.ema), bool(task.rates) or remembers
    gradient, params, opt_state, ema = old if whole else packed(old, state.params)
    updates, opt_state = experiment.optimizer.update(gradient, opt_state, params)
    for player, rate in task.rates.items():
      updates |= {player: jax.tree.map(lambda update, rate=rate: rate * update, updates[player])}
    params = optax.apply_updates(params, updates)
    params, memory = task.record(params, state.memory, seen) if remembers else (params, state.memory)

    def averaged(old, rate):
      return jax.tree.map(lambda o, p: o + (1 - rate) * (p - o), old, params)

    ema = {name: averaged(ema[name], rate(state.step)) for name, rate in experiment.averages.items()}
    metrics = {
      "loss": value,
      "grad_norm": global_norm(gradient),
      "update_norm": global_norm(updates),
      "learning_rate": experiment.learning_rate(state.step),
      **logs,
    }
    if not whole:
      params, ema, opt_state = unpacked((params, ema, opt_state), state.params)
    return TrainState(state.step + 1, params, ema, opt_state, state.key, memory), metrics

  return step


def make_chunk(step: Callable) -> Callable[..., tuple[TrainState, dict]]:
  """Several steps as one: batches [K, B, ...] and metrics [K]."""

  def chunk(state, frozen, batches, mean: Mean, gathered: Gathered = lambda params: params):
    if jax.tree.leaves(batches)[0].shape[0] == 1:  # no loop: XLA's CPU convolutions are slow inside one
      state, metrics = step(state, frozen, jax.tree.map(lambda x: x[0], batches), mean, gathered)
      return state, jax.tree.map(lambda x: x[None], metrics)
    like = state.params

    def body(state, batch):  # between the steps all stays packed: XLA leaves out what is undone
      state, metrics = step(unpacked(state, like), frozen, batch, mean, gathered)
      return packed(state, like), metrics

    state, metrics = jax.lax.scan(body, packed(state, like), batches)
    return unpacked(state, like), metrics

  return chunk
