"""Which numbers or names an option may be: the ranges by their definition, and every entry of every dict by them."""

import inspect
import math
import re
from typing import Annotated

import pytest

from diffjax import config as configs
from diffjax import experiment, ranges
from diffjax.choices import CHOICES
from diffjax.data.source import Field
from diffjax.machine.optimization import OPTIMIZERS
from diffjax.predictions import INPUT_SCALES, ROWS
from diffjax.times import TIMES
from diffjax.types import ConfigError
from diffjax.weights import WEIGHTS

CASES = [
  (ranges.FINITE, (-1e9, 0.0, 3.5), (math.inf, -math.inf)),
  (ranges.at_least(2), (2, 2.5, 1e30), (1.999, -2, math.inf)),
  (ranges.above(0), (1e-30, 4), (0, -1e-30, math.inf)),
  (ranges.closed(0, 1), (0, 0.5, 1), (-1e-9, 1 + 1e-9)),
  (ranges.half_open(0, 1), (0, 1 - 1e-9), (-1e-9, 1)),
  (ranges.up_to(0, 1), (1e-9, 1), (0, 1 + 1e-9)),
  (ranges.inside(0, 1), (1e-9, 1 - 1e-9), (0, 1)),
  (ranges.one_of(("a", "bc")), ("a", "bc", 3.0), ("", "b", "abc")),
  (ranges.or_infinite(ranges.at_least(0)), (0, 7.0, math.inf), (-1, -math.inf)),
]


@pytest.mark.parametrize("allowed, good, bad", CASES, ids=[case[0].text for case in CASES])
def test_a_range_holds_what_it_says_and_never_nan(allowed, good, bad):
  for number in good:
    ranges.check("config.a.b", number, allowed)
  for number in (*bad, *([math.nan] if isinstance(bad[0], int | float) else [])):
    with pytest.raises(ConfigError, match=r"^config\.a\.b is .*; it must be ") as error:
      ranges.check("config.a.b", number, allowed)
    assert str(error.value) == f"config.a.b is {number!r}; it must be {allowed.text}."


def test_the_annotation_says_the_range_and_what_is_no_number_passes():
  assert ranges.of(Annotated[float, "a note", ranges.above(3)]).text == "greater than 3"
  assert ranges.of(tuple[ranges.Count, ...]).text == "at least 1"
  assert ranges.of(Annotated[tuple[ranges.Count, ...], ranges.FREE]).text == "at least 1"
  assert ranges.of(float) is ranges.of(tuple[float, ...]) is ranges.of(str) is ranges.FINITE
  for value in (True, "nan", None, (), ("inf",)):
    ranges.check("a.b", value, ranges.above(5))
  with pytest.raises(ConfigError, match=r"config.a.b is \(1, 0\); every element must be at least 1."):
    ranges.check("config.a.b", (1, 0), ranges.of(tuple[ranges.Count, ...]))


FIELDS = {"image": Field((8, 8, 1), "uint8"), "label": Field((), "int32", 10)}
OPTIONS = [
  (choice, name, option, parameter.default)
  for choice in CHOICES
  for name in choice.entries
  for option, parameter in choice.options(name).items()
]


def with_option(choice, name, option, value):
  config = configs.base()
  section = config[choice.section]
  section[choice.field] = (name,) if choice.many else name
  section[name][option] = value
  return config


@pytest.mark.parametrize(
  "choice, name, option, default", OPTIONS, ids=[f"{c.section}.{n}.{o}" for c, n, o, _ in OPTIONS]
)
def test_every_default_is_in_its_range_and_nan_in_none(choice, name, option, default):
  choice.check(with_option(choice, name, option, default))
  several = isinstance(default, tuple) and bool(default) and isinstance(default[0], float)
  if isinstance(default, float) or several:
    with pytest.raises(ConfigError, match=rf"^config\.{choice.section}\.{name}\.{option} is .*nan"):
      choice.check(with_option(choice, name, option, (math.nan,) if several else math.nan))


WRONG = [
  ("schedule.name", "linear.beta_end", 1.5, "greater than 0 and less than 1"),
  ("schedule.name", "linear.steps", 1, "between 2 and 1000000"),
  ("schedule.name", "cosine.s", -0.1, "at least 0"),
  ("schedule.name", "sigmoid.tau", 0.0, "greater than 0"),
  ("schedule.name", "edm.rho", 0.001, "between 0.1 and 1000"),
  ("schedule.name", "flow.scale", "vq", "one of vp, ve, fm, subvp"),
  ("schedule.name", "learned.width", 0, "between 1 and 4096"),
  ("schedule.name", "learned.logsnr_max", math.inf, "finite"),
  ("objective.times", "log_normal.std", 0.0, "greater than 0"),
  ("objective.times", "logit_normal.mean", math.inf, "finite"),
  ("objective.times", "importance.last", 0, "between 1 and 1000"),
  ("objective.times", "importance.uniform", 0.0, "greater than 0 and at most 1"),
  ("objective.times", "importance.uniform", 1.5, "greater than 0 and at most 1"),
  ("objective.weight", "min_snr.gamma", -1.0, "greater than 0"),
  ("objective.weight", "soft_min_snr.gamma", 0.0, "greater than 0"),
  ("objective.weight", "p2.gamma", -0.5, "at least 0"),
  ("objective.weight", "p2.k", 0.0, "greater than 0"),
  ("objective.name", "hybrid.vlb_weight", -0.001, "at least 0"),
  ("objective.name", "vdm.levels", 1, "between 2 and 256"),
  ("space.name", "pixels.std", -0.5, "greater than 0"),
  ("space.name", "vector.scale", 0.0, "greater than 0"),
  ("condition.names", "label.dropout", 1.0, "at least 0 and less than 1"),
  ("model.name", "unet.time_scale", -1.0, "greater than 0"),
  ("model.name", "unet.attention", (4, 0), "at least 1"),
  ("model.name", "dit.mlp_ratio", 0.0, "greater than 0"),
  ("model.name", "dit.dropout", 1.0, "at least 0 and less than 1"),
  ("train.optimizer", "adam.b1", 2.0, "at least 0 and less than 1"),
  ("train.optimizer", "adam.b2", 1.0, "at least 0 and less than 1"),
  ("train.optimizer", "adam.eps", 0.0, "greater than 0"),
  ("train.optimizer", "adamw.weight_decay", -0.1, "at least 0"),
  ("train.decay", "cosine.final", -0.5, "between 0 and 1"),
  ("train.decay", "rsqrt.timescale", 0, "at least 1"),
  ("sample.sampler", "heun.churn", -0.1, "at least 0"),
  ("sample.sampler", "euler.sigma_max", -1.0, "at least 0, or inf"),
  ("sample.sampler", "predictor_corrector.snr", 0.0, "greater than 0"),
  ("sample.sampler", "annealed_langevin.corrections", 0, "at least 1"),
  ("sample.sampler", "adaptive_ode.rtol", -1e-5, "at least 0"),
  ("sample.guides", "threshold.percentile", 1.5, "between 0 and 1"),
  ("sample.guides", "classifier_free.sigma_min", -1.0, "at least 0"),
  ("sample.guides", "classifier_free.rescale", 2.0, "between 0 and 1"),
  ("sample.guides", "classifier_free.w", math.inf, "between -1 and 1000"),
  ("sample.guides", "classifier_free.w", 1e9, "between -1 and 1000"),
  ("sample.guides", "autoguidance.w", -1.5, "between -1 and 1000"),
  ("train.averages", "constant.rates", (0.9, 1.0), "at least 0 and less than 1"),
  ("sample.grid", "karras.sigma_min", -1.0, "at least 0"),
  ("sample.grid", "custom.sigmas", (1.0, -1.0), "greater than 0"),
  ("sample.sampler", "ancestral.variance", "fixed", "one of fixed_small, fixed_large, learned, fixed_medium"),
  ("eval.likelihood", "ode.probes", 0, "at least 1"),
  ("eval.likelihood", "ode.trace", "foo", "one of hutchinson, exact"),
  ("eval.likelihood", "ode.dequantise", "foo", "one of auto, uniform, variational"),
  (
    "eval.likelihood",
    "discrete_vlb.variance",
    "foo",
    "one of fixed_small, fixed_large, learned, fixed_medium",
  ),
  ("eval.metrics", "inception.bootstrap_draws", -1, "at least 0"),
]


@pytest.mark.parametrize("field, option, value, message", WRONG, ids=[f"{f}={o}={v}" for f, o, v, _ in WRONG])
def test_a_value_that_cannot_be_right_is_refused_by_its_full_name(field, option, value, message):
  section, field = field.split(".")
  (choice,) = (choice for choice in CHOICES if (choice.section, choice.field) == (section, field))
  config = with_option(choice, *option.split("."), value)
  with pytest.raises(ConfigError) as error:
    experiment.create(config, FIELDS)
  every = "every element" if isinstance(value, tuple) else "it"
  assert str(error.value) == f"config.{section}.{option} is {value!r}; {every} must be {message}."


@pytest.mark.parametrize(
  "changes, message",
  [
    (
      {"train.averages": ("constant",), "train.constant.rates": (0.9, 0.9)},
      "config.train.constant.rates is (0.9, 0.9)",
    ),
    (
      {"train.averages": ("power",), "train.power.widths": (0.1, 0.1)},
      "config.train.power.widths is (0.1, 0.1)",
    ),
    ({"train.averages": ("ramp", "ramp")}, "config.train.averages is ('ramp', 'ramp')"),
    ({"eval.metrics": ("inception", "inception")}, "config.eval.metrics is ('inception', 'inception')"),
    ({"sample.guides": ("clip", "clip")}, "config.sample.guides is ('clip', 'clip')"),
  ],
)
def test_what_stands_twice_is_refused(changes, message):
  config = configs.base()
  config.update_from_flattened_dict(changes)
  with pytest.raises(ConfigError, match=f"^{re.escape(message)}.*; none may stand there twice"):
    experiment.create(config, FIELDS)


@pytest.mark.parametrize(
  "changes, message",
  [
    (
      {"sample.seed": 2**32 - 2, "eval.seeds": 3},
      "so that the last seed would be 4294967296; it must be at most 429",
    ),
    (
      {"schedule.linear.beta_start": 0.03},
      "config.schedule.linear.beta_start is 0.03 and beta_end 0.02; beta_st",
    ),
    (
      {"train.ramp.rates": ()},
      "config.sample.weights is 'average', but config.train.averages is ('ramp',), in which nothing is averaged; set",
    ),
  ],
)
def test_fields_that_do_not_go_together_are_refused(changes, message):
  config = configs.base()
  config.model.unet.attention = ()
  config.update_from_flattened_dict(changes)
  with pytest.raises(ConfigError, match=re.escape(message)):
    experiment.create(config, FIELDS)


def called(entry, **options):
  """Calls an entry with these options, and with nothing for what it must be given."""
  needed = [p for p in inspect.signature(entry).parameters.values() if p.default is p.empty]
  return entry(
    **{p.name: None for p in needed if p.name not in options and p.kind is not p.VAR_KEYWORD}, **options
  )


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: f"{choice.section}.{choice.field}")
def test_ranges_hold_wherever_an_entry_is_called(choice):
  """Without a config, which calls a parameter that a run sets itself, such as sigma_data, by no name at all."""
  for entry in (entry for entry in choice.entries.values() if callable(entry)):
    for option, parameter in inspect.signature(entry).parameters.items():
      if isinstance(parameter.default, float):
        with pytest.raises(ConfigError, match=f"^{option} is nan; it must be "):
          called(entry, **{option: math.nan})


DIRECTLY = [
  (TIMES["log_normal"], {"std": 0.0}, "greater than 0"),
  (TIMES["logit_normal"], {"std": -1.0}, "greater than 0"),
  (TIMES["importance"], {"last": 0}, "between 1 and 1000"),
  (TIMES["importance"], {"uniform": 1.5}, "greater than 0 and at most 1"),
  (ROWS["edm"], {"sigma_data": 0.0}, "greater than 0"),
  (INPUT_SCALES["unit"], {"sigma_data": -0.5}, "greater than 0"),
  (WEIGHTS["edm"], {"sigma_data": 0.0}, "greater than 0"),
  (WEIGHTS["min_snr"], {"gamma": 0.0}, "greater than 0"),
  (WEIGHTS["p2"], {"gamma": -0.5}, "at least 0"),
]


@pytest.mark.parametrize(
  "entry, options, message", DIRECTLY, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_an_entry_that_is_called_directly_names_the_option_alone(entry, options, message):
  ((option, value),) = options.items()
  with pytest.raises(ConfigError) as error:
    called(entry, **options)
  assert str(error.value) == f"{option} is {value!r}; it must be {message}."


def test_options_given_by_their_place_are_held_too():
  with pytest.raises(ConfigError, match="^std is 0.0; it must be greater than 0.$"):
    TIMES["log_normal"](-1.2, 0.0)


def test_an_entry_keeps_its_name_and_its_signature():
  assert TIMES["log_normal"].__name__ == "log_normal" and TIMES["log_normal"].__doc__
  assert list(inspect.signature(TIMES["log_normal"]).parameters) == ["mean", "std"]
  entries = ranges.checked({"one": TIMES["log_normal"], "two": None, "three": 3})
  assert entries["two"] is None and entries["three"] == 3  # only what is called has arguments


def test_options_of_entries_that_are_not_chosen_are_not_looked_at():
  config = configs.base()
  config.model.unet.attention, config.train.adamw.b1 = (), 2.0
  assert config.train.optimizer == "adam" and experiment.create(config, FIELDS)


def test_data_are_checked_before_they_are_read():
  config = configs.base()
  config.data.source, config.data.image_folder.size = "image_folder", 0
  with pytest.raises(ConfigError, match="config.data.image_folder.size is 0; it must be at least 1."):
    experiment.source(config, "train")
  config.data.source = "digts"
  with pytest.raises(ConfigError, match="config.data.source is 'digts'.*Did you mean 'digits'?"):
    experiment.source(config, "train")


def test_a_new_entry_brings_its_ranges(monkeypatch):
  def sgd(momentum: ranges.Rate = 0.0, floor: float = 0.1):
    raise AssertionError("never made")

  monkeypatch.setitem(OPTIMIZERS, "sgd", sgd)
  for option, value in (("momentum", 1.0), ("floor", -math.inf)):
    config = configs.base()
    config.train.optimizer, config.train.sgd[option] = "sgd", value
    with pytest.raises(ConfigError, match=rf"config.train.sgd.{option} is {value}; it must be"):
      experiment.create(config, FIELDS)
