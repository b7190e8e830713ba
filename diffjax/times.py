"""How the times of a step are drawn: makers of a TimeDistribution.

The density is that of t on [t_min, 1], or on a table the probability of the row. It divides a loss only where
a weight asks for it. Draws that spread out fall on the rows of a table and on [t_min, 1] otherwise.

Importance sampling of the bound (Nichol & Dhariwal 2021, section 3.3) has a memory, the last losses of every
row. A pure step carries it beside its parameters, and from the losses [B] that it divided by the density

    t, density = times.draw(schedule, draws, memory)
    memory = times.record(memory, t, loss * density)           # over the global batch
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from diffjax import keys
from diffjax.ranges import Positive, checked, closed, up_to
from diffjax.schedules import Schedule
from diffjax.types import ConfigError, PerExample, Times


class Drawn(NamedTuple):
  """Times and their density, both [B]."""

  t: PerExample
  density: PerExample


@dataclasses.dataclass(frozen=True)
class TimeDistribution:
  """How the times of a step are drawn.

  Attributes:
    draw: (schedule, draws, memory) -> Drawn.
    rows: whether it draws the rows of a table, where there is one.
    table: whether it needs a table.
    follows: whether the density depends on the schedule's curve.
    divides: whether a loss that is not divided by the density would be another with every draw.
    refuses: schedule -> why it cannot be drawn from there, or None.
    start: schedule -> what is remembered before the first step; () for nothing.
    record: (memory, t [B], losses [B]) -> the memory after a step, over the global batch in its order.
  """

  draw: Callable[[Schedule, keys.Draws, Any], Drawn]
  rows: bool = False
  table: bool = False
  follows: bool = False
  divides: bool = False
  refuses: Callable[[Schedule], str | None] = lambda schedule: None
  start: Callable[[Schedule], Any] = lambda schedule: ()
  record: Callable[[Any, PerExample, PerExample], Any] = lambda memory, t, losses: memory


def at(t: PerExample) -> Drawn:
  """The times t [B] as they are, not drawn."""
  return Drawn(t, jnp.ones_like(t))


def _spread(schedule: Schedule, u: PerExample) -> Drawn:
  """Maps uniform numbers to [t_min, 1]."""
  length = 1 - schedule.t_min
  return Drawn(schedule.t_min + length * u, jnp.full_like(u, 1 / length))


def _rows(schedule: Schedule, u: PerExample) -> Drawn:
  """Maps uniform numbers to the rows of a table."""
  row = jnp.minimum(jnp.floor(u * schedule.steps), schedule.steps - 1)
  return Drawn((row + 1) / schedule.steps, jnp.full_like(u, 1 / schedule.steps))


def _either(schedule: Schedule, u: PerExample) -> Drawn:
  return _spread(schedule, u) if schedule.steps is None else _rows(schedule, u)


def uniform() -> TimeDistribution:
  """t uniform on [t_min, 1]."""
  return TimeDistribution(lambda schedule, draws, memory: _spread(schedule, keys.uniform(draws.keys("t"))))


def discrete() -> TimeDistribution:
  """A row of the table, uniformly."""
  draw = lambda schedule, draws, memory: _rows(schedule, keys.uniform(draws.keys("t")))
  return TimeDistribution(draw, rows=True, table=True)


def stratified() -> TimeDistribution:
  """One uniform offset a step and an even spread over the global batch (Kingma et al. 2021, I.1).

  Of all the draws this one alone depends on the batch size, by its nature.
  """

  def draw(schedule, draws, memory):
    u = jax.random.uniform(draws.shared("t"))
    return _either(schedule, (u + draws.index / draws.size) % 1)

  return TimeDistribution(draw, rows=True)


def antithetic() -> TimeDistribution:
  """Examples 2k and 2k + 1 of the global batch draw u and 1 - u (Song et al. 2021a's code, in halves)."""

  def draw(schedule, draws, memory):
    pair = keys.purpose(keys.of_examples(draws.key, draws.index // 2), "t")
    u = keys.uniform(pair)
    return _either(schedule, jnp.where(draws.index % 2 == 0, u, 1 - u))

  return TimeDistribution(draw, rows=True)


def log_normal(mean: float = -1.2, std: Positive = 1.2) -> TimeDistribution:
  """log(sigma / alpha) ~ N(mean, std^2) (Karras et al. 2022, table 1), cut to the schedule's ends."""
  ends = lambda schedule: (-schedule.logsnr(schedule.t_min) / 2, -schedule.logsnr(1.0) / 2)

  def draw(schedule, draws, memory):
    log_ratio, density = _cut_normal(draws, mean, std, *ends(schedule))
    t = schedule.t_of(-2 * log_ratio)
    return Drawn(t, density * -schedule.slope(t) / 2)

  return TimeDistribution(draw, follows=True, refuses=_reaching("log(sigma / alpha)", ends, mean, std))


def logit_normal(mean: float = 0.0, std: Positive = 1.0) -> TimeDistribution:
  """log(t / (1 - t)) ~ N(mean, std^2) (Esser et al. 2024, eq. 19), cut at t_min."""
  ends = lambda schedule: (jax.scipy.special.logit(jnp.asarray(schedule.t_min)), jnp.inf)

  def draw(schedule, draws, memory):
    logit, density = _cut_normal(draws, mean, std, *ends(schedule))
    t = jnp.maximum(jax.nn.sigmoid(logit), schedule.t_min)
    return Drawn(t, density / (jax.nn.sigmoid(logit) * jax.nn.sigmoid(-logit)))

  return TimeDistribution(draw, refuses=_reaching("log(t / (1 - t))", ends, mean, std))


def _cut_normal(draws: keys.Draws, mean: float, std: float, low: Times, high: Times) -> Drawn:
  """Draws of N(mean, std^2) given that they lie between low and high, and their density there."""
  low, high = (low - mean) / std, (high - mean) / std
  z = jax.vmap(lambda key: jax.random.truncated_normal(key, low, high))(draws.keys("t"))
  cdf, pdf = jax.scipy.stats.norm.cdf, jax.scipy.stats.norm.pdf
  return Drawn(mean + std * z, pdf(z) / (std * (cdf(high) - cdf(low))))


def _reaching(what: str, ends: Callable, mean: float, std: float) -> Callable[[Schedule], str | None]:
  """Refuses a normal distribution that hardly reaches a schedule, where float32 has no digits for its draws."""

  def refuses(schedule):
    low, high = map(float, ends(schedule))
    below = [(1 + math.erf((end - mean) / std / math.sqrt(2))) / 2 for end in (low, high)]
    if below[1] - below[0] >= 1e-5:
      return None
    return (
      f"mean is {mean} and std {std}, a normal distribution of {what} with hardly any mass between the schedule's "
      f"ends, {low:.4g} and {high:.4g}; choose a mean between them and a smaller std"
    )

  return refuses


class History(NamedTuple):
  """The last losses of every row of a table, the newest last, and how many have been recorded."""

  losses: Float[Array, "rows last"]
  counts: Int[Array, "rows"]


def no_history(steps: int, last: int = 10) -> History:
  """An empty history of `last` losses for each of `steps` rows."""
  return History(jnp.zeros((steps, last)), jnp.zeros(steps, jnp.int32))


def probabilities(history: History, uniform: float = 0.001) -> Float[Array, "rows"]:
  """sqrt of the mean squared loss, normalised, and a little uniform; uniform until every row is full."""
  steps, last = history.losses.shape
  root = jnp.sqrt(jnp.mean(history.losses**2, axis=1))
  informed = (1 - uniform) * root / jnp.sum(root) + uniform / steps
  return jnp.where(jnp.all(history.counts >= last), informed, 1 / steps)


def recorded(history: History, t: PerExample, losses: PerExample) -> History:
  """The history with these losses of the rows at t, the batch's order the order of time; no gradient."""
  steps, last = history.losses.shape
  row = jnp.round(t * steps).astype(int) - 1
  new = jnp.zeros(steps, jnp.int32).at[row].add(1)
  before = jnp.tril(row[:, None] == row, -1).sum(1)  # how many of the batch were recorded earlier in the row
  place = jnp.arange(last) + new[:, None]
  table = jnp.take_along_axis(history.losses, place, axis=1, mode="fill", fill_value=0)
  place = last - new[row] + before
  place = jnp.where(place < 0, last, place)  # pushed out already; an index beyond the end is dropped
  table = table.at[row, place].set(jax.lax.stop_gradient(losses).astype(table.dtype), mode="drop")
  return History(table, history.counts + new)


def importance(
  last: Annotated[int, closed(1, 1000)] = 10, uniform: Annotated[float, up_to(0, 1)] = 0.001
) -> TimeDistribution:
  """Rows of the table by the root mean square of their `last` losses (Nichol & Dhariwal 2021, eq. 18).

  Args:
    last: losses that a row keeps; until all rows have so many, rows are drawn uniformly.
    uniform: share of the draws that stays uniform, so that no row is forgotten (their code has 0.001).
  """

  def draw(schedule, draws, history):
    if schedule.steps != len(history.counts):
      raise ConfigError(
        f"the history has {len(history.counts)} rows and the schedule {schedule.steps or 'none'}; they must agree."
      )
    each = probabilities(history, uniform)
    row = jnp.searchsorted(jnp.cumsum(each), keys.uniform(draws.keys("t")), side="right")
    row = jnp.minimum(row, schedule.steps - 1)
    return Drawn((row + 1) / schedule.steps, each[row])

  return TimeDistribution(
    draw,
    rows=True,
    table=True,
    divides=True,
    start=lambda schedule: no_history(schedule.steps, last),
    record=recorded,
  )


TIMES: dict[str, Callable[..., TimeDistribution]] = checked(
  {
    "uniform": uniform,
    "discrete": discrete,
    "stratified": stratified,
    "antithetic": antithetic,
    "log_normal": log_normal,
    "logit_normal": logit_normal,
    "importance": importance,
  }
)
