"""How the times of a step are drawn: functions (schedule, draws, **options) -> (t, density), both [B].

The density is that of t on [t_min, 1], or on a table the probability of the row. It divides a loss only where
a weight asks for it. Draws that spread out fall on the rows of a table and on [t_min, 1] otherwise.

Importance sampling of the bound (Nichol & Dhariwal 2021, section 3.3) has a memory, the last losses of every
row. A pure step carries it beside its parameters, makes its times with `memory.times(history)`, and from the
loss [B] that the objective returns, already divided by the density,

    t, density = times(schedule, draws)                        # the same draws, so the same times
    history = memory.recorded(history, t, loss * density)      # over the global batch
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from diffjax import keys
from diffjax.ranges import Count, Positive, up_to
from diffjax.schedules import Schedule
from diffjax.types import ConfigError, PerExample, Times

Drawn = tuple[PerExample, PerExample]
TimesOf = Callable[[Schedule, keys.Draws], Drawn]


def _spread(schedule: Schedule, u: PerExample) -> Drawn:
  """Maps uniform numbers to [t_min, 1]."""
  length = 1 - schedule.t_min
  return schedule.t_min + length * u, jnp.full_like(u, 1 / length)


def _rows(schedule: Schedule, u: PerExample) -> Drawn:
  """Maps uniform numbers to the rows of a table."""
  row = jnp.minimum(jnp.floor(u * schedule.steps), schedule.steps - 1)
  return (row + 1) / schedule.steps, jnp.full_like(u, 1 / schedule.steps)


def _either(schedule: Schedule, u: PerExample) -> Drawn:
  return _spread(schedule, u) if schedule.steps is None else _rows(schedule, u)


def uniform(schedule: Schedule, draws: keys.Draws) -> Drawn:
  """t uniform on [t_min, 1]."""
  return _spread(schedule, keys.uniform(draws.keys("t")))


def discrete(schedule: Schedule, draws: keys.Draws) -> Drawn:
  """A row of the table, uniformly."""
  return _rows(schedule, keys.uniform(draws.keys("t")))


def stratified(schedule: Schedule, draws: keys.Draws) -> Drawn:
  """One uniform offset a step and an even spread over the global batch (Kingma et al. 2021, I.1).

  Of all the draws this one alone depends on the batch size, by its nature.
  """
  u = jax.random.uniform(draws.shared("t"))
  return _either(schedule, (u + draws.index / draws.size) % 1)


def antithetic(schedule: Schedule, draws: keys.Draws) -> Drawn:
  """Examples 2k and 2k + 1 of the global batch draw u and 1 - u (Song et al. 2021a's code, in halves)."""
  pair = keys.purpose(keys.of_examples(draws.key, draws.index // 2), "t")
  u = keys.uniform(pair)
  return _either(schedule, jnp.where(draws.index % 2 == 0, u, 1 - u))


def log_normal(schedule: Schedule, draws: keys.Draws, mean: float = -1.2, std: Positive = 1.2) -> Drawn:
  """log(sigma / alpha) ~ N(mean, std^2) (Karras et al. 2022, table 1), cut to the schedule's ends."""
  log_ratio, density = _cut_normal(draws, mean, std, *_log_ratios(schedule))
  t = schedule.t_of(-2 * log_ratio)
  return t, density * -schedule.slope(t) / 2


def logit_normal(schedule: Schedule, draws: keys.Draws, mean: float = 0.0, std: Positive = 1.0) -> Drawn:
  """log(t / (1 - t)) ~ N(mean, std^2) (Esser et al. 2024, eq. 19), cut at t_min."""
  logit, density = _cut_normal(draws, mean, std, *_logits(schedule))
  t = jnp.maximum(jax.nn.sigmoid(logit), schedule.t_min)
  return t, density / (jax.nn.sigmoid(logit) * jax.nn.sigmoid(-logit))


def _log_ratios(schedule: Schedule) -> tuple[Times, Times]:
  return -schedule.logsnr(schedule.t_min) / 2, -schedule.logsnr(1.0) / 2


def _logits(schedule: Schedule) -> tuple[Times, float]:
  return jax.scipy.special.logit(jnp.asarray(schedule.t_min)), jnp.inf


def _cut_normal(draws: keys.Draws, mean: float, std: float, low: Times, high: Times) -> Drawn:
  """Draws of N(mean, std^2) given that they lie between low and high, and their density there."""
  low, high = (low - mean) / std, (high - mean) / std
  z = jax.vmap(lambda key: jax.random.truncated_normal(key, low, high))(draws.keys("t"))
  cdf, pdf = jax.scipy.stats.norm.cdf, jax.scipy.stats.norm.pdf
  return mean + std * z, pdf(z) / (std * (cdf(high) - cdf(low)))


TIMES: dict[str, Callable[..., Drawn]] = {
  "uniform": uniform,
  "discrete": discrete,
  "stratified": stratified,
  "antithetic": antithetic,
  "log_normal": log_normal,
  "logit_normal": logit_normal,
}

NORMAL = {"log_normal": ("log(sigma / alpha)", _log_ratios), "logit_normal": ("log(t / (1 - t))", _logits)}


def check(schedule: Schedule, times: str, options: Mapping[str, Any]) -> None:
  """Refuses a normal distribution that hardly reaches the schedule, where float32 has no digits for its draws.

  Args:
    schedule: the schedule.
    times: a key of TIMES or of REMEMBERING.
    options: its options.

  Raises:
    ConfigError: less than 1e-5 of the normal distribution lies between the schedule's ends.
  """
  if times not in NORMAL:
    return
  (what, ends), (mean, std) = NORMAL[times], (options["mean"], options["std"])
  low, high = map(float, ends(schedule))
  below = [(1 + math.erf((end - mean) / std / math.sqrt(2))) / 2 for end in (low, high)]
  if below[1] - below[0] < 1e-5:
    raise ConfigError(
      f"config.objective.{times}.mean is {mean} and std {std}, a normal distribution of {what} with hardly any mass "
      f"between the schedule's ends, {low:.4g} and {high:.4g}; choose a mean between them and a smaller std."
    )


ON_ROWS = ("discrete", "stratified", "antithetic")  # those that draw rows where there is a table


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


def by_importance(history: History, uniform: float = 0.001) -> TimesOf:
  """Rows of the table with `probabilities(history)`; a function (schedule, draws) as those of TIMES."""

  def times(schedule, draws):
    if schedule.steps != len(history.counts):
      raise ConfigError(
        f"config.objective.times is 'importance' with a history of {len(history.counts)} rows, but the schedule has "
        f"{schedule.steps or 'no'} rows; they must agree."
      )
    each = probabilities(history, uniform)
    row = jnp.searchsorted(jnp.cumsum(each), keys.uniform(draws.keys("t")), side="right")
    row = jnp.minimum(row, schedule.steps - 1)
    return (row + 1) / schedule.steps, each[row]

  return times


def recorded(history: History, t: PerExample, losses: PerExample) -> History:
  """The history with these losses of the rows at t, the batch's order the order of time; no gradient."""
  steps, last = history.losses.shape
  row = jnp.round(t * steps).astype(int) - 1
  new = jnp.zeros(steps, jnp.int32).at[row].add(1)
  before = jnp.tril(row[:, None] == row, -1).sum(1)  # how many of the batch were recorded earlier in the row
  place = jnp.arange(last) + new[:, None]
  kept = jnp.take_along_axis(history.losses, place, axis=1, mode="fill", fill_value=0)
  place = last - new[row] + before
  place = jnp.where(place < 0, last, place)  # pushed out already; an index beyond the end is dropped
  kept = kept.at[row, place].set(jax.lax.stop_gradient(losses).astype(kept.dtype), mode="drop")
  return History(kept, history.counts + new)


@dataclasses.dataclass(frozen=True)
class Memory:
  """Times that depend on what training has seen, which is a pytree in its state.

  Attributes:
    start: schedule -> the pytree before the first step; () where nothing is remembered.
    times: the pytree -> a function (schedule, draws) as those of TIMES.
    recorded: (the pytree, t [B], losses [B]) -> the pytree after a step, over the global batch in its order.
  """

  start: Callable[[Schedule], Any]
  times: Callable[[Any], TimesOf]
  recorded: Callable[[Any, PerExample, PerExample], Any]


def forgetful(times: TimesOf) -> Memory:
  """Times that depend on nothing."""
  return Memory(lambda schedule: (), lambda memory: times, lambda memory, t, losses: memory)


def importance(last: Count = 10, uniform: Annotated[float, up_to(0, 1)] = 0.001) -> Memory:
  """Rows by the root mean square of their `last` losses (Nichol & Dhariwal 2021, eq. 18).

  Args:
    last: losses that a row keeps; until all rows have so many, rows are drawn uniformly.
    uniform: share of the draws that stays uniform, so that no row is forgotten (their code has 0.001).
  """
  start = lambda schedule: no_history(schedule.steps, last)
  return Memory(start, lambda history: by_importance(history, uniform), recorded)


REMEMBERING: dict[str, Callable[..., Memory]] = {"importance": importance}
