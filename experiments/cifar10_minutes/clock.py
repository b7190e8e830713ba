"""A learning rate that follows the clock, so that its decay ends when the time does, however fast the steps are.

    rate(share) = peak * min(1, share / warmup) * min(1, (1 - share) / decay),    share of the time in [0, 1]      (1)

It is a number in the optimizer's state, which the loop sets before every call: one compiled program for every length
of run and every machine.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from diffjax.experiment import Experiment
from diffjax.machine import optimization
from diffjax.machine.state import TrainState

WARMUP, DECAY = 0.04, 0.9  # shares of the time


def rate(share: float, peak: float, warmup: float = WARMUP, decay: float = DECAY) -> float:
  """Equation (1)."""
  share = min(max(share, 0.0), 1.0)
  return peak * min(1.0, share / warmup) * min(1.0, (1 - share) / decay)


class Timed(NamedTuple):
  """The optimizer's state.

  Attributes:
    rate: the learning rate of the next steps.
    inner: of what scales the gradient.
  """

  rate: Array
  inner: optax.OptState


def timed(inner: optax.GradientTransformation) -> optax.GradientTransformation:
  """`inner`, times minus the rate in the state."""

  def update(gradient, state, params=None):
    updates, after = inner.update(gradient, state.inner, params)
    return jax.tree.map(lambda u: -state.rate * u, updates), Timed(state.rate, after)

  return optax.GradientTransformation(lambda params: Timed(jnp.zeros(()), inner.init(params)), update)


def by_the_clock(experiment: Experiment, scale: optax.GradientTransformation) -> Experiment:
  """The experiment with its gradient clipped, scaled, and multiplied by the rate that `with_rate` puts in."""
  clip = experiment.config.train.clip
  inner = optax.chain(optimization.clipped(clip), scale) if clip else scale
  return dataclasses.replace(experiment, optimizer=timed(inner))


def with_rate(state: TrainState, value: Array) -> TrainState:
  """The state whose next steps have this rate."""
  return dataclasses.replace(state, opt_state=state.opt_state._replace(rate=value))
