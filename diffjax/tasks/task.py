"""What is trained: a Task, made from a config's parts by a maker of TASKS.

A maker's parameters name the parts that it takes (PARTS in choices.py); it is called with a maker of each, its
options bound, and so decides itself what is made of what.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxtyping import Array, Key

from diffjax.data.encoded import Encodings
from diffjax.keys import Draws
from diffjax.types import ConfigError, Data, Frozen, Keys, Params, PerExample

# The tasks whose runs can do what options ask of a run, for messages.
ABLE = {
  "denoise": ("diffusion",),
  "estimate": ("diffusion",),
  "log_prob": ("classifier",),
  "encode": ("autoencoder", "clip"),
  "encode_text": ("clip",),
}


class Loss(NamedTuple):
  """The losses of a batch.

  Attributes:
    each: [B].
    seen: what the task's memory records of them, a pytree of [B, ...].
    logs: named numbers [B], logged as their means.
  """

  each: PerExample
  seen: Any = ()
  logs: Mapping[str, PerExample] = {}


@dataclasses.dataclass(frozen=True)
class Drawing:
  """How samples are made, in pieces, so that what is on the way can be shown.

  Attributes:
    plan: arrays that the walk follows, an argument of it: one compile serves every plan of these shapes.
    stops: places at which it can be stopped; the last is its end.
    begin: (params, frozen, plan, data, sample keys [B]) -> carry.
    advance: (params, frozen, plan, data, sample keys, carry, start, stop) -> (carry, what is there at `stop`, the
      sample that it would be); all with examples on axis 0.
    show: (frozen, samples) -> fields.
    evaluations: of the network for a sample; None where they depend on a tolerance.
    view: (params, what is there at a place, place) -> the same scaled to be looked at.
    name: place -> what a picture calls it.
  """

  plan: Any
  stops: int
  begin: Callable[[Params, Frozen, Any, Data, Keys], Any]
  advance: Callable[..., tuple[Any, Array, Array]]
  show: Callable[[Frozen, Array], Data]
  evaluations: int | None
  view: Callable[[Params, Array, Any], Array] = lambda params, x, place: x
  name: Callable[[int], str] = str


@dataclasses.dataclass(frozen=True)
class Task:
  """What is trained, and what it can do.

  Attributes:
    init: key -> parameters: {"model": ...}, or a subtree for each player.
    loss: (params, frozen, data, draws, memory) -> Loss.
    held_out: (params, frozen, data, case) -> numbers [B] by name, without dropout, drawn from fixed keys.
    fields: of the data that training needs.
    encodings: the fields among them that trained runs make of the data's own.
    cases: number of examples -> named settings under which held-out data are measured, each a pytree [B].
    request: (numbers [n] of samples, the training data or None) -> the fields that they ask for.
    leads: whether what samples ask for hangs together, so that no part of it may be replaced by rows of the data.
    draw: how samples are made; None: none are.
    fed: (frozen, data, draws) -> the fields that a training step sees, augmented; None: the data as they are.
    likelihoods: (params, frozen, data, sample keys [B]) -> {"bits": [B], "nfe": [B]}, by name: bits per dimension of
      held-out data, and where it is of use "nats" of an example.
    can: what others may ask of a trained one, by name; every function takes the parameters first.
    start: -> what is remembered before the first step.
    record: (params, memory, seen) -> both after a step, over the global batch in its order.
    couples: whether an example's loss depends on the others of its batch, so that it cannot be computed in parts.
    rates: factors on the learning rate, by player.
    frozen: weights of no run that the task uses, by name; they stand beside the runs' parameters.
    warnings: what may not be meant.
    whole: why every batch must be all of the data, "option is value, ..."; empty where it need not.
  """

  init: Callable[[Key[Array, ""]], Params]
  loss: Callable[[Params, Frozen, Data, Draws, Any], Loss]
  held_out: Callable[[Params, Frozen, Data, Any], dict[str, PerExample]]
  fields: tuple[str, ...]
  encodings: Encodings = dataclasses.field(default_factory=dict)
  cases: Callable[[int], Mapping[str, Any]] = lambda count: {"": ()}
  request: Callable[..., dict] = lambda index, source: {}
  leads: bool = False
  draw: Drawing | None = None
  fed: Callable[[Frozen, Data, Draws], Data] | None = None
  likelihoods: Mapping[str, Callable] = dataclasses.field(default_factory=dict)
  can: Mapping[str, Callable] = dataclasses.field(default_factory=dict)
  start: Callable[[], Any] = tuple
  record: Callable[[Params, Any, Any], tuple[Params, Any]] = lambda params, memory, seen: (params, memory)
  couples: bool = False
  rates: Mapping[str, float] = dataclasses.field(default_factory=dict)
  frozen: Frozen = dataclasses.field(default_factory=dict)
  warnings: tuple[str, ...] = ()
  whole: str = ""


def bind(make: Callable, **values) -> Callable:
  """The maker, or function, with values for those of its parameters that are named here."""
  parameters = inspect.signature(make).parameters
  return functools.partial(make, **{name: value for name, value in values.items() if name in parameters})


def require(can: Mapping[str, Callable], what: str, place: str) -> None:
  """Raises ConfigError if the run of a place lacks a capability."""
  if what not in can:
    able = f" A run of config.task.name={' or '.join(ABLE[what])} can." if what in ABLE else ""
    raise ConfigError(
      f"{place} cannot {what}; it can {', '.join(can) or 'nothing that others may ask for'}.{able}"
    )
