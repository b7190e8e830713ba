"""The task "diffusion": a denoiser of data in any space, under any conditions.

x0 = space(data),  cond = conditions(data),  (t, density) from times,
loss = objective(network(., cond), x0, t)
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from diffjax import conditions as conditioning
from diffjax import keys, objectives, predictions, schedules
from diffjax import times as when
from diffjax.conditions import Condition, Conditions
from diffjax.conditions.vector import located
from diffjax.data.augment import Augmentation
from diffjax.data.encoded import Encodings, completed, fields_of
from diffjax.data.source import Field, Source
from diffjax.denoisers import Denoiser, Estimate, gaussian_denoiser, network_denoiser, rescheduled
from diffjax.guidance import Guide, Scene, folded
from diffjax.models.prepared import prepared
from diffjax.objectives import Objective
from diffjax.predictions import Network, Prediction
from diffjax.samplers import base, beginning
from diffjax.samplers.base import Final, Sampler
from diffjax.schedules import Schedule
from diffjax.spaces import Space
from diffjax.tasks.bands import bands
from diffjax.tasks.patches import check_patches
from diffjax.tasks.task import Drawing, Loss, Task, bind
from diffjax.types import Batch, ConfigError, Data, Frozen, Params, PerExample, Unsuitable


@dataclasses.dataclass(frozen=True, eq=False)
class Diffusion:
  """The parts of the task.

  Attributes:
    space: where x0 lives.
    conditions: what the network is told.
    schedule: the noise schedule.
    times: how the times of a step are drawn.
    prediction: what the network answers.
    objective: how it is trained.
    model: the network.
    guides: of sampling.
    inside: what other runs make of a batch's fields in the step.
  """

  space: Space
  conditions: Conditions
  schedule: Schedule
  times: when.TimeDistribution
  prediction: Prediction
  objective: Objective
  model: nn.Module
  guides: tuple[Guide, ...]
  inside: Encodings

  def schedule_of(self, params: Params) -> Schedule:
    """The schedule; a learned one is rebuilt from the parameters."""
    return schedules.rebuilt(self.schedule, params.get("schedule"))

  def network(self, params: Params, cond: Mapping[str, Any]) -> Network:
    """The network with its parameters and conditions."""
    return lambda x, time, dropout_keys: self.model.apply(
      {"params": params["model"]}, x, time, cond, dropout_keys
    )

  def denoiser(self, params: Params, cond: Mapping[str, Any]) -> Denoiser:
    """The network's denoiser under these conditions, without guides."""
    network = self.network(params, cond)
    return network_denoiser(network, self.schedule_of(params), self.prediction, self.objective.outputs)

  def guided(self, params: Params, frozen: Frozen, data: Data, guides: tuple[Guide, ...]) -> Denoiser:
    """The denoiser of samples that ask for these fields, under guides."""
    cond = conditioning.values(self.conditions, completed(data, self.inside, frozen))
    conditional = functools.partial(self.denoiser, params)
    scene = Scene(
      self.schedule_of(params),
      conditional,
      cond,
      conditioning.nulls(self.conditions, cond),
      frozen,
      data,
      lambda fields: self.space.encode(fields, None),
    )
    return folded(guides, conditional(cond), scene)


def diffusion(
  space: Callable[..., Space],
  conditions: Mapping[str, Callable[..., Condition]],
  augmentation: Callable[..., Augmentation],
  schedule: Callable[..., Schedule],
  shift: float,
  objective: Callable[..., Objective],
  weight: Callable,
  times: Callable[..., when.TimeDistribution],
  row: Callable,
  input_scale: Callable,
  time_input: Callable,
  model: Callable[..., nn.Module],
  dtype: str,
  sampler: Callable[..., Sampler],
  grid: Callable[..., np.ndarray],
  sampling_steps: int,
  final: Final,
  guides: Mapping[str, Callable[..., Guide]],
  likelihoods: Mapping[str, Callable],
  fields: Mapping[str, Field],
) -> Task:
  """The task, of makers of its parts, and of the fields of the data.

  Raises:
    ConfigError: parts that do not go together.
  """
  space, change = space(fields=fields), augmentation()
  conditions = {name: make(fields=fields) for name, make in conditions.items()}
  if change.changes and space.encodings:
    raise Unsuitable(
      "augmentation",
      "which changes pixels, but here x0 is what another run made of them; choose 'none', and for mirrored images "
      "config.space.latent.mirrored",
    )
  if change.labels:
    conditions["augment"] = located(space.shape) if change.planes else conditioning.augment(change.labels)
  inside = {name: each for condition in conditions.values() for name, each in condition.encodings.items()}
  fields = {**fields, **fields_of(fields, {**space.encodings, **inside})}
  needed = tuple(dict.fromkeys((*space.fields, *(f for c in conditions.values() for f in c.fields))))
  outside = {name: each for name, each in inside.items() if {*fields_of(fields, {name: each})} & {*needed}}
  encodings = {**space.encodings, **outside}
  schedule = schedules.shifted(schedule(), shift)
  schedules.check(schedule)
  times, weight = times(), bind(weight, sigma_data=space.std)()
  objective = objective(weight=weight)
  objectives.check(schedule, objective, times, weight)
  of_data = functools.partial(bind, sigma_data=space.std)
  prediction = Prediction(of_data(row), of_data(input_scale), time_input)
  predictions.check(schedule, prediction)
  network = model(
    out_channels=space.shape[-1] * objective.outputs,
    conditions=tuple((name, condition.embed) for name, condition in conditions.items()),
    dtype=dtype,
  )
  if change.planes:
    check_patches(change, space.shape, network, conditions, fields)
  parts = Diffusion(
    space,
    conditions,
    schedule,
    times,
    prediction,
    objective,
    network,
    tuple(bind(make, fields=fields)() for make in guides.values()),
    inside,
  )
  check_guides(parts)
  sampler = sampler()
  check_sampler(sampler, parts)
  for measure in likelihoods.values():
    check_likelihood(measure, parts, fields)
  grid, spread = grid(schedule, sampling_steps), 1.0 if space.bounded else space.std
  warnings = beginning.check(schedule, sampler, grid, weight, prediction.row, spread)
  grid = truncated(parts, grid)

  def init(key):
    data = {name: jnp.zeros((1, *field.shape), field.dtype) for name, field in fields.items()}
    cond = conditioning.values(conditions, data | {"index": jnp.zeros(1, int)})
    curve = schedules.parameters(schedule)
    extra = {} if curve is None else {"schedule": jax.tree.map(jnp.asarray, curve)}
    return {"model": network.init(key, jnp.zeros((1, *space.shape)), jnp.zeros(1), cond)["params"], **extra}

  def loss(params, frozen, data, draws, memory):
    x0, labels = change.apply(space.encode(data, draws), draws)
    data = completed(data, inside, frozen)
    if change.changes:  # conditions see what the network is to make
      data = data | space.decode(frozen, x0)
    cond = conditioning.values(conditions, data if labels is None else data | {"augment": labels}, draws)
    now = parts.schedule_of(params)
    drawn = times.draw(now, draws, memory)
    each = objective.loss(parts.network(params, cond), now, prediction, x0, drawn, draws)
    return Loss(each, (drawn.t, each * drawn.density))

  def fed(frozen, data, draws):
    return space.decode(frozen, change.apply(space.encode(data, draws), draws)[0])

  def held_out(params, frozen, data, t):
    draws = keys.Draws(keys.seed(0), data["index"], len(data["index"]))
    network = parts.network(params, conditioning.values(conditions, completed(data, inside, frozen)))
    quiet = lambda x, time, dropout_keys: network(x, time, None)
    x0 = space.encode(data, None)
    return {"": objective.loss(quiet, parts.schedule_of(params), prediction, x0, when.at(t), draws)}

  return Task(
    init=init,
    loss=loss,
    held_out=held_out,
    fields=needed,
    encodings=encodings,
    cases=functools.partial(bands, schedule),
    request=functools.partial(requests, parts),
    leads=any(condition.leads for condition in conditions.values()),
    fed=fed,
    draw=drawing(parts, sampler, grid, final),
    likelihoods={name: functools.partial(bits, parts, measure) for name, measure in likelihoods.items()},
    can={"denoise": functools.partial(denoise, parts), "estimate": functools.partial(estimate, parts)},
    start=lambda: times.start(schedule),
    record=lambda params, memory, seen: (params, times.record(memory, *seen)),
    warnings=warnings,
  )


def requests(parts: Diffusion, index: np.ndarray, source: Source | None) -> dict[str, np.ndarray]:
  """What samples ask for, by field: for their guides, and for their conditions."""
  request = {}
  for guide in parts.guides:
    request |= guide.request(index, source)
  return request | conditioning.requests(parts.conditions, index, source)


def truncated(parts: Diffusion, grid: np.ndarray) -> np.ndarray:
  """The grid from where a condition has sampling begin; ConfigError where it ends before."""
  for name, condition in parts.conditions.items():
    if condition.guess is None:
      continue
    if not parts.space.bounded:
      raise ConfigError(
        f"config.condition.{name}.begin is {condition.begin}, but x0 is no picture here; it must be 1."
      )
    rest = grid[grid <= condition.begin]
    if len(rest) < 2:
      raise ConfigError(
        f"config.condition.{name}.begin is {condition.begin}, but sampling's times fall to {grid[-2]:.3g} before the "
        "last; give it more, or more steps."
      )
    return rest
  return grid


def drawing(parts: Diffusion, sampler: Sampler, grid: np.ndarray, final: Final) -> Drawing:
  """The walk along a grid."""
  plan, _ = base.padded(grid)

  guess = next((condition.guess for condition in parts.conditions.values() if condition.guess), None)

  def begin(params, frozen, plan, data, sample_keys):
    schedule = parts.schedule_of(params)
    noise = base.prior(schedule, sample_keys, parts.space.shape, grid[0])
    if guess is None:
      return sampler.start(noise)
    alpha, sigma = schedule.alpha_sigma(grid[0])
    return sampler.start(alpha * guess(data) + sigma / schedule.prior_std(grid[0]) * noise)

  def advance(params, frozen, plan, data, sample_keys, carry, start, stop):
    at = lambda params: parts.guided(params, frozen, data, parts.guides)(carry.x, plan[start])
    params = prepared(at, params)
    denoiser = parts.guided(params, frozen, data, parts.guides)
    schedule = parts.schedule_of(params)
    carry = base.walk(denoiser, schedule, sampler, carry, plan, start, stop, sample_keys)
    return carry, carry.x, final.sample(denoiser, carry.x, plan[stop])

  evaluations = sampler.evaluations
  if evaluations is not None:
    evaluations = evaluations * (len(grid) - 1) + (sampler.first if len(grid) > 1 else 0) + final.evaluations

  def view(params, x, place):
    alpha, sigma = parts.schedule_of(params).alpha_sigma(plan[place])
    std = parts.space.std
    return x * (std / jnp.sqrt((alpha * std) ** 2 + sigma**2))

  return Drawing(
    plan,
    len(grid) - 1,
    begin,
    advance,
    parts.space.decode,
    evaluations,
    view=view,
    name=lambda place: f"t = {grid[place]:.3g}",
  )


def denoise(parts: Diffusion, params: Params, cond: Mapping[str, Any]) -> Callable[..., Estimate]:
  """(x_t, t, schedule) -> Estimate, for x_t and t of any schedule."""

  def at(xt, t, schedule):
    return rescheduled(parts.denoiser(params, cond), parts.schedule_of(params), schedule)(xt, t)

  return at


def estimate(parts: Diffusion, params: Params, frozen: Frozen, data: Data, xt: Batch, t: PerExample) -> Batch:
  """The x0 that a walk sees, at times of its own schedule, where samples ask for `data`: under the guides."""
  return parts.guided(params, frozen, data, parts.guides)(xt, t).x0


def bits(
  parts: Diffusion, measure: Callable, params: Params, frozen: Frozen, data: Data, sample_keys
) -> dict:
  """Bits per dimension of held-out examples, the evaluations that they took, and a solver's tolerance, all [B]."""
  guides = tuple(guide for guide in parts.guides if guide.likelihood)
  denoiser = parts.guided(params, frozen, data, guides)
  result = measure(denoiser, parts.schedule_of(params), parts.space.observed(data), sample_keys)
  others = {"nfe": result.nfe, "tolerance": getattr(result, "tolerance", 0.0)}
  return {"bits": result.total} | {
    name: jnp.broadcast_to(v, result.total.shape) for name, v in others.items()
  }


def check_guides(parts: Diffusion) -> None:
  """Raises ConfigError where a guide lacks something, or comes too late."""
  for place, guide in enumerate(parts.guides):
    if guide.first and place:
      raise Unsuitable(
        "guides", "which names one that begins from the network itself after another; put it first"
      )
    if guide.needs_bounds and not parts.space.bounded:
      raise Unsuitable(
        "guides", "which names one that speaks of the range of the data, of which the space leaves none"
      )
    if guide.needs_null:
      _check_null(parts.conditions)


def _check_null(conditions: Conditions) -> None:
  if not conditions:
    raise Unsuitable(
      "guides", "which needs a condition to leave out; name one by config.condition.names, ('label',) say"
    )
  for name, condition in conditions.items():
    if condition.null is None:
      raise Unsuitable("guides", f"which needs to leave out every condition, and {name!r} never is")
    if not condition.dropout and not condition.often_null:
      raise Unsuitable(
        "guides",
        f"which needs nulls that were trained, but {name!r} is never dropped; set config.condition.{name}.dropout to "
        "0.1, say",
      )


def stand_in(parts: Diffusion) -> Denoiser:
  """A denoiser that needs no network, for checks; it says of its variance what the objective teaches."""
  of_noise = gaussian_denoiser(parts.schedule, 0.0, 1.0)
  if parts.objective.outputs == 1:
    return of_noise
  return lambda xt, t: of_noise(xt, t)._replace(var_frac=jnp.zeros_like(xt))


def check_sampler(sampler: Sampler, parts: Diffusion) -> None:
  """Raises ConfigError if it needs what the model does not learn."""
  if sampler.evaluations is None:  # an adaptive solver takes any denoiser
    return

  def step(key):
    own, (t, s) = keys.of_examples(key, jnp.zeros(1, int)), jnp.asarray([1.0, 0.5])
    return sampler.step(
      stand_in(parts), parts.schedule, sampler.start(jnp.zeros((1, *parts.space.shape))), t, s, own
    )

  try:
    jax.eval_shape(step, keys.seed(0))
  except ConfigError as error:
    raise Unsuitable("sampler", f"whose {str(error).rstrip('.')}") from None


def check_likelihood(measure: Callable, parts: Diffusion, fields: Mapping[str, Field]) -> None:
  """Raises ConfigError if it is no likelihood of this schedule or space."""
  if parts.space.observed is None:
    raise Unsuitable(
      "likelihoods",
      "which measures data, but the model is of latents or of scaled pixels, whose density is not that of the data; "
      "leave it empty",
    )
  data = {
    name: jax.ShapeDtypeStruct((1, *fields[name].shape), fields[name].dtype) for name in parts.space.fields
  }
  key = jax.eval_shape(lambda: keys.of_examples(keys.seed(0), jnp.zeros(1, int)))
  denoiser = stand_in(parts)
  jax.eval_shape(lambda x, k: measure(denoiser, parts.schedule, parts.space.observed(x), k).total, data, key)
