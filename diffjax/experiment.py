"""From a config to the objects of a run: the only file that knows what is called by which name."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Key
from ml_collections import ConfigDict, FrozenConfigDict

from diffjax import likelihood, objectives, predictions, schedules, times
from diffjax.config import check, chosen, leaves, resolved
from diffjax.data.augment import Augmentation
from diffjax.data.source import Source
from diffjax.denoisers import Denoiser, classifier_free, clipped, guidance_interval, network_denoiser
from diffjax.machine.optimization import learning_rate, optimizer
from diffjax.machine.state import TrainState
from diffjax.objectives import Apply, Objective
from diffjax.samplers.base import Sampler
from diffjax.schedules import Schedule
from diffjax.times import REMEMBERING, Memory, TimesOf, forgetful
from diffjax.types import ConfigError, Params, PerExample


@dataclasses.dataclass(frozen=True, eq=False)
class Experiment:
  """The objects of a run.

  Attributes:
    config: the config.
    image_shape: (H, W, C) of the data.
    num_classes: of a conditional model, else 0; it is also the null class's label.
    augmentation: what is done to training images.
    schedule: the noise schedule.
    memory: how its times are drawn.
    model: the network.
    row, input_scale, time_input: what the network answers and is told.
    learning_rate: step -> learning rate.
    optimizer: the gradient transformation.
    ema_rate: (step, rate) -> the rate of the moving averages at that step.
    sampler: the sampler.
    grid: [S] its decreasing times, float64.
  """

  config: FrozenConfigDict
  image_shape: tuple[int, int, int]
  num_classes: int
  augmentation: Augmentation
  schedule: Schedule
  memory: Memory
  model: nn.Module
  row: Callable
  input_scale: Callable
  time_input: Callable
  learning_rate: optax.Schedule
  optimizer: optax.GradientTransformation
  ema_rate: Callable
  sampler: Sampler
  grid: np.ndarray

  def init(self, key: Key[Array, ""]) -> Params:
    """The parameters before training: {"model": the network's}, and "schedule": a learned one's."""
    images = jnp.zeros((1, *self.image_shape))
    cond = jnp.zeros(1, jnp.int32) if self.num_classes else None
    curve = schedules.parameters(self.schedule)
    learned = {} if curve is None else {"schedule": jax.tree.map(jnp.asarray, curve)}
    return {"model": self.model.init(key, images, jnp.zeros(1), cond)["params"], **learned}

  @property
  def evaluations(self) -> int | None:
    """Calls of the denoiser for a sample, the last one included; None where they depend on a tolerance."""
    if self.sampler.evaluations is None:
      return None
    final = self.config.sample.final == "denoise"
    return self.sampler.evaluations * (len(self.grid) - 1) + final

  def schedule_of(self, params: Params) -> Schedule:
    """The schedule; a learned one is rebuilt from the parameters here."""
    return schedules.rebuilt(self.schedule, params.get("schedule"))

  def apply(self, params: Params, augment: Array | None = None) -> Apply:
    """The network: (scaled x_t [B, ...], time [B], cond, dropout keys) -> output.

    Args:
      params: its parameters.
      augment: [B, labels] what was done to the images; None for nothing.
    """
    told = {} if augment is None else {"augment": augment}
    return lambda *inputs: self.model.apply({"params": params["model"]}, *inputs, **told)

  def denoiser(self, params: Params, cond: Array | None) -> Denoiser:
    """The network's denoiser without guidance or clipping, for labels [B] or None."""
    apply = self.apply(params)
    bound = lambda x, time: apply(x, time, cond, None)
    return network_denoiser(
      bound,
      self.schedule_of(params),
      self.row,
      self.input_scale,
      self.time_input,
      learned_variance=self.config.objective.name in objectives.LEARNS_VARIANCE,
    )

  def sampling_denoiser(self, params: Params, cond: Array, guided: bool = True) -> Denoiser:
    """The same as config.sample has it: clipped, and if it may be guided; `cond` counts for conditional models."""
    settings = self.config.sample
    cond = cond if self.num_classes else None
    if guided and self.num_classes and settings.guidance:
      w = guidance_interval(self.schedule_of(params), settings.guidance, *settings.guidance_interval)
      null = jnp.full_like(cond, self.num_classes)
      conditional = functools.partial(self.denoiser, params)
      denoiser = classifier_free(conditional, cond, null, w, settings.guidance_rescale)
    else:
      denoiser = self.denoiser(params, cond)
    return clipped(denoiser) if settings.clip else denoiser

  def sampling_weights(self, state: TrainState) -> tuple[str, Params]:
    """The weights that config.sample names, and what they are called in reports."""
    name = self.config.sample.weights
    if name == "raw":
      return "raw", state.params
    rate = str(self.config.train.ema[0]) if name == "ema" else name
    return f"ema {rate}", state.ema[rate]

  def start_memory(self) -> Any:
    """What the drawing of times remembers before the first step."""
    return self.memory.start(self.schedule)

  def objective(self, times: TimesOf) -> Objective:
    """How the network is trained, with times drawn so."""
    (make,), (weight,) = (chosen(self.config, "objective", field) for field in ("name", "weight"))
    return make(times, weight(), self.row, self.input_scale, self.time_input)

  def objective_at(self, t: PerExample) -> Objective:
    """The objective with its weight and kind, at the times t [B] in place of drawn ones."""
    return self.objective(lambda schedule, draws: (t, jnp.ones_like(t)))


def _make(config, section: str, field: str, *arguments, **given):
  """Calls the entry that a field names; whatever its options make it raise is a ConfigError."""
  (make,) = chosen(config, section, field)
  try:
    return make(*arguments, **given)
  except ConfigError:
    raise
  except (ValueError, TypeError, ArithmeticError, IndexError) as error:
    name = config[section][field]
    raise ConfigError(f"config.{section}.{name} cannot be used with these options: {error}.") from None


def _check_options(config) -> None:
  """Refuses options of chosen entries that contradict each other."""
  options, objective = dict(leaves(resolved(config))), config.objective.name
  for path, value in options.items():
    if path.endswith(".variance") and value == "learned" and objective not in objectives.LEARNS_VARIANCE:
      raise ConfigError(
        f"config.{path} is 'learned', but the objective {objective!r} learns no variance; choose 'fixed_small' or "
        f"'fixed_large', or train with one of {', '.join(objectives.LEARNS_VARIANCE)}."
      )
  deviations = {path: value for path, value in options.items() if path.endswith(".sigma_data")}
  if len(set(deviations.values())) > 1:
    said = " but ".join(f"config.{path} is {value}" for path, value in deviations.items())
    raise ConfigError(f"{said}; both are the standard deviation of the data and must be equal.")


def source(config: ConfigDict, split: str) -> Source:
  """The data of a split, "train" or "test"."""
  (make,) = chosen(config, "data", "source")
  return make(split=split)


def create(config: ConfigDict, image_shape: tuple[int, int, int], num_classes: int) -> Experiment:
  """All objects of a config.

  Args:
    config: the config.
    image_shape: (H, W, C) of the data.
    num_classes: of the data's labels, 0 for none.

  Raises:
    ConfigError: a field that cannot be right, by itself, beside another or with these data.
  """
  check(config)
  config = FrozenConfigDict(config)
  conditional = config.model.conditional
  if conditional and not num_classes:
    raise ConfigError("config.model.conditional is True, but the data carry no labels; set it to False.")
  label = config.sample.label
  if conditional and label is not None and not 0 <= label < num_classes:
    raise ConfigError(f"config.sample.label is {label}; the data's classes are 0 to {num_classes - 1}.")
  classes = num_classes if conditional else 0
  fields = ("predict", "times", "input_scale", "time_input")
  _check_options(config)
  (row,), (draw,), (input_scale,), (time_input,) = (chosen(config, "objective", field) for field in fields)
  augmentation = _make(config, "data", "augment")
  memory = draw() if config.objective.times in REMEMBERING else forgetful(draw)
  schedule = schedules.shifted(_make(config, "schedule", "name"), config.schedule.shift)
  objective = config.objective
  schedules.check(schedule, config.schedule.name)
  likelihood.check(schedule, config.eval.likelihood)
  times.check(schedule, objective.times, draw.keywords)
  objectives.check(schedule, objective.name, objective.times, objective.weight)
  predictions.check(schedule, objective.predict, objective.time_input)
  channels = image_shape[-1] * (2 if objective.name in objectives.LEARNS_VARIANCE else 1)
  given = {"out_channels": channels, "num_classes": classes, "dtype": config.model.dtype}
  if augmentation.labels:  # which a model need not know of otherwise
    given["augment_labels"] = augmentation.labels
  model = _make(config, "model", "name", **given)
  train = config.train
  decay = _make(config, "train", "decay", warmup=train.warmup, steps=train.steps)
  rate = learning_rate(train.learning_rate, train.warmup, decay)
  (ema_rate,) = chosen(config, "train", "ema_warmup")
  experiment = Experiment(
    config=config,
    image_shape=image_shape,
    num_classes=classes,
    augmentation=augmentation,
    schedule=schedule,
    memory=memory,
    model=model,
    row=row,
    input_scale=input_scale,
    time_input=time_input,
    learning_rate=rate,
    optimizer=optimizer(_make(config, "train", "optimizer"), rate, train.clip),
    ema_rate=ema_rate,
    sampler=_make(config, "sample", "sampler"),
    grid=_make(config, "sample", "grid", schedule, config.sample.steps),
  )
  try:
    jax.eval_shape(experiment.init, jax.random.key(0))  # the model's own checks, before anything is compiled
  except ConfigError as error:
    raise ConfigError(f"config.model.{config.model.name}: {error}") from None
  return experiment
