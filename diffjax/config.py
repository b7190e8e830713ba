"""Configs: every field with its default, the named choices with their options, and what is refused.

A choice is a field whose value names an entry of one of the library's dicts. The options of an entry are its
keyword parameters, their annotations say which numbers they may be (ranges.py), and they stand beside the choice
under the entry's name:

    config.schedule.name = "linear"
    config.schedule.linear.beta_end = 0.02

so a new entry brings its options with it. Only the options of the chosen entries belong to a run: they alone
are saved, compared and shown.
"""

import dataclasses
import difflib
import functools
import inspect
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from diffjax import ranges
from diffjax.data import SOURCES
from diffjax.data.augment import AUGMENTATIONS
from diffjax.likelihood import LIKELIHOODS
from diffjax.machine.optimization import DECAYS, OPTIMIZERS
from diffjax.machine.parallel import MODES, SMALL
from diffjax.machine.state import EMA_WARMUPS
from diffjax.metrics import METRICS
from diffjax.models import MODELS
from diffjax.models.layers import DTYPES
from diffjax.objectives import OBJECTIVES
from diffjax.predictions import INPUT_SCALES, ROWS, TIME_INPUTS
from diffjax.samplers import SAMPLERS
from diffjax.samplers.base import FINALS
from diffjax.samplers.grids import GRIDS
from diffjax.schedules import SCHEDULES
from diffjax.times import REMEMBERING, TIMES
from diffjax.types import ConfigError
from diffjax.weights import WEIGHTS


@dataclasses.dataclass(frozen=True)
class Choice:
  """A field that names an entry of a dict.

  Attributes:
    section: the config's section.
    field: the field in it.
    entries: the dict; options are an entry's keyword parameters with defaults.
    given: parameters that the run sets itself.
    many: whether the field is a tuple of names.
  """

  section: str
  field: str
  entries: Mapping[str, Any]
  given: tuple[str, ...] = ()
  many: bool = False

  def names(self, config: ConfigDict) -> tuple[str, ...]:
    """The names that a config chooses."""
    value = config[self.section][self.field]
    return value if self.many else (value,)

  def options(self, name: str) -> dict[str, Any]:
    """The options of one entry and their defaults."""
    entry = self.entries[name]
    parameters = inspect.signature(entry).parameters.values() if callable(entry) else ()
    return {p.name: _default(p) for p in parameters if p.default is not p.empty and p.name not in self.given}

  def check(self, config: ConfigDict) -> None:
    """Raises ConfigError at a name that is no entry, or at an option of one that is outside its range."""
    for name in self.names(config):
      if name not in self.entries:
        _refuse(self.section, self.field, name, self.entries)
      for option, value in _set(config, self, name).items():
        annotation = inspect.signature(self.entries[name]).parameters[option].annotation
        ranges.check(f"{self.section}.{name}.{option}", value, ranges.of(annotation))


def _default(parameter: inspect.Parameter) -> Any:
  """The default, or a placeholder of the annotated type where it is None."""
  if parameter.default is not None:
    return parameter.default
  kinds = [kind for kind in typing.get_args(parameter.annotation) if kind is not type(None)]
  return placeholder(kinds[0])


CHOICES = (
  Choice("data", "source", SOURCES),
  Choice("data", "augment", AUGMENTATIONS),
  Choice("schedule", "name", SCHEDULES),
  Choice("objective", "name", OBJECTIVES),
  Choice("objective", "predict", ROWS),
  Choice("objective", "times", TIMES | REMEMBERING),
  Choice("objective", "weight", WEIGHTS),
  Choice("objective", "input_scale", INPUT_SCALES),
  Choice("objective", "time_input", TIME_INPUTS),
  Choice(
    "model", "name", MODELS, ("parent", "name", "out_channels", "num_classes", "augment_labels", "dtype")
  ),
  Choice("model", "dtype", dict.fromkeys(DTYPES)),
  Choice("train", "optimizer", OPTIMIZERS),
  Choice("train", "decay", DECAYS),
  Choice("train", "ema_warmup", EMA_WARMUPS),
  Choice("sample", "sampler", SAMPLERS),
  Choice("sample", "grid", GRIDS),
  Choice("sample", "final", FINALS),
  Choice("eval", "metrics", METRICS, many=True),
  Choice("eval", "likelihood", LIKELIHOODS, many=True),
  Choice("parallel", "mode", dict.fromkeys(MODES)),
)


def base() -> ConfigDict:
  """Every field with its default, locked; a config changes what differs."""
  config = ConfigDict()
  config.seed = 0
  config.data = ConfigDict({"source": "digits", "flip": False, "augment": "none"})
  config.schedule = ConfigDict(
    {
      "name": "linear",
      "shift": 0.0,  # of the log-SNR, for images of another size: 2 log(64 / side); SD3's s is -2 log(s)
    }
  )
  config.objective = ConfigDict(
    {
      "name": "regular",
      "predict": "eps",
      "times": "discrete",
      "weight": "simple",
      "input_scale": "none",
      "time_input": "index",
      "label_dropout": 0.0,  # share of the labels replaced by the null class, for guidance
    }
  )
  config.model = ConfigDict({"name": "unet", "conditional": False, "dtype": "float32"})
  config.train = ConfigDict(
    {
      "steps": 10_000,
      "batch_size": 128,  # global
      "accumulate": 1,  # parts that a batch is computed in, one after the other
      "optimizer": "adam",
      "learning_rate": 2e-4,
      "warmup": 0,  # steps of linear warm-up
      "decay": "constant",
      "clip": 1.0,  # of the gradient's global norm; 0 for none
      "ema": (0.9999,),
      "ema_warmup": "none",
      "steps_per_call": 0,  # steps in one compiled call; 0: 1 on a CPU, 10 on an accelerator
    }
  )
  config.log = ConfigDict(
    {
      "every": 100,  # steps between lines of metrics
      "sample_every": 0,  # between grids of samples and held-out losses; 0 for at the end only
      "samples": 64,  # in a grid
      "held_out": 256,  # images of the held-out loss; 0 for none
      "wandb": "",  # a Weights & Biases project
    }
  )
  config.checkpoint = ConfigDict(
    {
      "every": 1000,  # steps
      "keep": 2,  # the newest so many
      "keep_every": 0,  # and every one at a multiple of so many steps; 0 for none
    }
  )
  config.sample = ConfigDict(
    {
      "weights": "ema",  # "ema" (the first rate), one of the rates, or "raw"
      "sampler": "ancestral",
      "grid": "leading",
      "steps": 1000,
      "final": "denoise",
      "clip": True,  # the estimated x0 to [-1, 1]
      "guidance": 0.0,  # w; 0 is the conditional model
      "guidance_interval": (0.0, 1e9),  # of sigma / alpha, where there is guidance
      "guidance_rescale": 0.0,  # phi of Lin et al. 2024
      "label": placeholder(int),  # of every sample; by default they take turns
      "count": 64,
      "batch_size": 64,  # global; rounded up to a multiple of the devices; 0 for what fits
      "seed": 0,
    }
  )
  config.eval = ConfigDict(
    {
      "metrics": ("classifier",),
      "count": 0,  # samples of each seed; 0 for as many, of the same classes, as the training split has
      "seeds": 3,
      "checkpoints": "latest",  # or "all", or steps such as "1000,2000"
      "likelihood": (),  # of held-out images, in bits/dim
      "likelihood_images": 256,
      "shard": 1024,  # samples that are kept on disk together, so that a killed evaluation goes on
    }
  )
  config.parallel = ConfigDict(
    {
      "mode": "jit",
      "data": 0,  # devices that hold copies of the state; 0 for as many as are left
      "fsdp": 1,  # devices that share the state and cut the batch
      "model": 1,  # devices that share the state and cut the activations' channels
      "small": SMALL,  # arrays with fewer numbers are copied to every device
      "check_every": 1000,  # steps after which all copies of the state are compared; 0 for never
    }
  )
  config.deterministic = False  # bit-exact on a GPU too, slower
  config.compile_cache = True  # compiled functions are kept between runs
  for choice in CHOICES:
    section = config[choice.section]
    for name in choice.entries:
      if options := choice.options(name):
        section[name] = {**section.get(name, {}), **options}
  return config.lock()


def chosen(config: ConfigDict, section: str, field: str) -> list[Callable]:
  """What config.<section>.<field> names (one entry, or several), with its options bound.

  Raises:
    ConfigError: no entry has that name, or an option is outside its range.
  """
  choice = next(c for c in CHOICES if (c.section, c.field) == (section, field))
  choice.check(config)
  return [
    functools.partial(choice.entries[name], **_set(config, choice, name)) for name in choice.names(config)
  ]


def _set(config: ConfigDict, choice: Choice, name: str) -> dict[str, Any]:
  return {option: config[choice.section][name][option] for option in choice.options(name)}


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
  """(dotted path, value) of every field."""
  for name, value in tree.items():
    if isinstance(value, Mapping | ConfigDict):
      yield from leaves(value, f"{prefix}{name}.")
    else:
      yield f"{prefix}{name}", value


def resolved(config: ConfigDict) -> dict[str, Any]:
  """What belongs to the run, as plain data: every field, but only the chosen entries' options."""
  plain = config.to_dict()
  for choice in CHOICES:
    for name in choice.entries:
      plain[choice.section].pop(name, None)
  for choice in CHOICES:
    for name in choice.names(config):
      if options := _set(config, choice, name):
        plain[choice.section].setdefault(name, {}).update(options)
  return plain


def from_resolved(plain: Mapping[str, Any]) -> ConfigDict:
  """The config that `resolved` was made from, options that were not chosen at their defaults.

  Raises:
    ConfigError: a field that no longer exists.
  """
  config = base()
  for path, value in leaves(plain):
    require_path(config, path)
    *sections, field = path.split(".")
    section = config
    for name in sections:
      section = section[name]
    section[field] = tuple(value) if isinstance(value, list) else value
  return config


def require_path(config: ConfigDict, path: str) -> None:
  """Raises ConfigError, naming the nearest field, if config.<path> does not exist."""
  node = config
  for name in path.split("."):
    if not isinstance(node, ConfigDict) or name not in node:
      known = [known for known, _ in leaves(config)]
      same_name = [place for place in known if place.split(".")[-1] == path.split(".")[-1]]
      near = difflib.get_close_matches(path, same_name or known, n=1, cutoff=0.0 if same_name else 0.5)
      hint = f"; did you mean config.{near[0]}?" if near else "."
      raise ConfigError(f"config.{path} does not exist{hint}")
    node = node[name]


def require_field(config: ConfigDict, path: str) -> None:
  """Raises ConfigError if config.<path> does not exist, or is a whole section."""
  require_path(config, path)
  inside = [name for name, _ in leaves(config) if name.startswith(f"{path}.")]
  if inside:
    raise ConfigError(f"config.{path} is a section; set its fields one by one, such as config.{inside[0]}.")


RANGES = {
  "seed": ranges.closed(0, 2**32 - 1),
  "schedule.shift": ranges.FINITE,
  "objective.label_dropout": ranges.closed(0.0, 1.0),
  "train.steps": ranges.at_least(1),
  "train.batch_size": ranges.at_least(1),
  "train.accumulate": ranges.at_least(1),
  "train.learning_rate": ranges.above(0),
  "train.warmup": ranges.at_least(0),
  "train.clip": ranges.at_least(0),
  "train.steps_per_call": ranges.at_least(0),
  "log.every": ranges.at_least(1),
  "log.sample_every": ranges.at_least(0),
  "log.samples": ranges.closed(1, 4096),
  "log.held_out": ranges.at_least(0),
  "checkpoint.every": ranges.at_least(1),
  "checkpoint.keep": ranges.at_least(1),
  "checkpoint.keep_every": ranges.at_least(0),
  "sample.guidance": ranges.FINITE,
  "sample.steps": ranges.at_least(1),
  "sample.count": ranges.at_least(1),
  "sample.batch_size": ranges.at_least(0),
  "sample.seed": ranges.closed(0, 2**32 - 1),
  "eval.count": ranges.at_least(0),
  "eval.seeds": ranges.at_least(1),
  "eval.shard": ranges.at_least(1),
  "eval.likelihood_images": ranges.at_least(2),
  "sample.guidance_rescale": ranges.closed(0.0, 1.0),
  "parallel.small": ranges.at_least(0),
  "parallel.check_every": ranges.at_least(0),
}


def check(config: ConfigDict) -> None:
  """Raises ConfigError at the first field whose value cannot be right, whatever the data are."""
  _check_tuples(config)
  for choice in CHOICES:
    choice.check(config)
  for path, allowed in RANGES.items():
    ranges.check(path, dict(leaves(config))[path], allowed)
  for rate in config.train.ema:
    if not 0 <= rate < 1:
      raise ConfigError(f"config.train.ema is {config.train.ema}; every rate must be at least 0 and below 1.")
  if config.train.batch_size % config.train.accumulate:
    raise ConfigError(
      f"config.train.batch_size is {config.train.batch_size}, which config.train.accumulate = "
      f"{config.train.accumulate} does not divide."
    )
  low_high = config.sample.guidance_interval
  if len(low_high) != 2 or not 0 <= low_high[0] < low_high[1]:
    raise ConfigError(
      f"config.sample.guidance_interval is {low_high}; it must be two values of sigma / alpha, the lower first."
    )
  weights = ("ema", "raw", *map(str, config.train.ema))
  if config.sample.weights not in weights or (config.sample.weights == "ema" and not config.train.ema):
    known = weights if config.train.ema else weights[1:]
    _refuse("sample", "weights", config.sample.weights, known)
  if not config.sample.batch_size and config.eval.likelihood:
    raise ConfigError(
      "config.sample.batch_size is 0, which sizes batches to the memory that sampling takes, but "
      f"config.eval.likelihood is {config.eval.likelihood}, which takes more; set a number of images, 64 say."
    )
  if not re.fullmatch(r"latest|all|\d+(,\d+)*", config.eval.checkpoints):
    raise ConfigError(
      f"config.eval.checkpoints is {config.eval.checkpoints!r}; it must be latest, all, or steps such as "
      "1000,2000."
    )
  _check_condition(config)


def _refuse(section: str, field: str, value: Any, known) -> typing.NoReturn:
  near = difflib.get_close_matches(str(value), list(known), n=1)
  hint = f" Did you mean {near[0]!r}?" if near else ""
  raise ConfigError(f"config.{section}.{field} is {value!r}; it must be one of {', '.join(known)}.{hint}")


def _check_tuples(config: ConfigDict) -> None:
  """The command line does not check what a tuple holds."""
  values = dict(leaves(config))
  for path, default in leaves(base()):
    if isinstance(default, tuple) and default:
      kind = type(default[0])
      if not all(type(value) is kind for value in values[path]):
        raise ConfigError(f"config.{path} is {values[path]}; every element must be of type {kind.__name__}.")


def _check_condition(config: ConfigDict) -> None:
  if config.model.conditional:
    if config.sample.guidance and not config.objective.label_dropout:
      raise ConfigError(
        f"config.sample.guidance is {config.sample.guidance}, but config.objective.label_dropout is 0: the "
        "model never learns the null class that guidance needs; set it to 0.1, say."
      )
    return
  for path in ("objective.label_dropout", "sample.guidance", "sample.label"):
    value = dict(leaves(config))[path]
    if value:
      raise ConfigError(f"config.{path} is {value}, but config.model.conditional is False; set it to True.")
