"""Sweeps: their names, their products, and what is refused before anything starts."""

import importlib
import re
import sys

import pytest
from absl import flags
from ml_collections import config_flags

from diffjax.config import leaves
from diffjax.types import ConfigError
from experiments.tools import jobs, sweeps
from experiments.tools.sweeps import Run, Sweep, product

BASE = "configs/digits.py"


def names(sweep):
  return [run.name for run in sweep.runs]


def test_a_product_is_every_combination_and_the_last_axis_is_the_fastest():
  sweep = product(BASE, {"objective.predict": ("eps", "v"), "sample.steps": (5, 10)})
  assert names(sweep) == ["eps-steps_5", "eps-steps_10", "v-steps_5", "v-steps_10"]
  assert sweep.runs[2].overrides == {"objective.predict": "v", "sample.steps": 5}
  assert sweep.paths == ("objective.predict", "sample.steps")


def test_names_of_values():
  sweep = product(
    BASE,
    {
      "train.learning_rate": (1e-4, 0.5),
      "train.constant.rates": ((0.9, 0.99),),
      "deterministic": (True,),
      "seed": {"first": 0},
    },
  )
  assert names(sweep) == [
    "learning_rate_0.0001-rates_0.9_0.99-deterministic_True-first",
    "learning_rate_0.5-rates_0.9_0.99-deterministic_True-first",
  ]


def test_configs_carry_shared_and_own_overrides_and_the_base_is_untouched():
  sweep = product(BASE, {"objective.predict": ("eps", "v")}, shared={"train.steps": 7})
  configs = sweeps.check(sweep)
  assert [(c.objective.predict, c.train.steps) for c in configs.values()] == [("eps", 7), ("v", 7)]
  own = Sweep(BASE, (Run("a", {"train.steps": 9}), Run("b", {})), shared={"train.steps": 7})
  assert [c.train.steps for c in sweeps.check(own).values()] == [9, 7]


@pytest.mark.parametrize(
  ("overrides", "message"),
  [
    ({"objective.predct": "v"}, r"run r: config\.objective\.predct does not exist; did you mean .*predict\?"),
    ({"nonsense": 1}, "config.nonsense does not exist"),
    ({"train.steps": "many"}, r"config\.train\.steps is of type int, for instance 1000; it cannot be 'many'"),
    ({"train.steps": 2.5}, "config.train.steps is of type int"),
    ({"objective.predict": "velocity"}, "config.objective.predict is 'velocity'; it must be one of"),
    ({"train.steps": 0}, "config.train.steps is 0; it must be at least 1"),
    ({"train.constant.rates": ("high",)}, "every element must be of type float"),
    ({"schedule": "linear"}, "config.schedule is a section; set its fields"),
    (
      {"condition.names": (), "sample.classifier_free.w": 1.0},
      "run r: config.sample.guides is",
    ),
    ({"objective.predict": "flow"}, "run r: config.objective.predict is 'flow'"),
    ({"schedule.linear.beta_end": 0.03}, "has no effect here: config.schedule.name is 'cosine'"),
    (
      {"train.accumulate": 3},
      "config.train.batch_size is 64, which config.train.accumulate = 3 does not divide",
    ),
  ],
)
def test_bad_overrides_are_refused(overrides, message):
  with pytest.raises(ConfigError, match=message):
    sweeps.check(Sweep(BASE, (Run("r", overrides),)))


def test_an_option_of_what_is_chosen_is_no_mistake():
  run = Run("r", {"schedule.linear.beta_end": 0.03, "schedule.name": "linear"})
  assert sweeps.check(Sweep(BASE, (run,)))["r"].schedule.linear.beta_end == 0.03


@pytest.mark.parametrize(
  ("runs", "message"),
  [
    (("a", "b", "a"), "two runs have the name a"),
    (("eps", "EPS"), "eps is the same folder as EPS"),
    (("a/b",), "'a/b' is no name"),
    (("a b",), "'a b' is no name"),
    (("..",), "'..' is no name"),
    (("",), "'' is no name"),
    (("a" * 65,), "is no name"),
    ((), "the sweep has no runs"),
  ],
)
def test_names_are_unique_and_safe(runs, message):
  with pytest.raises(ConfigError, match=message):
    sweeps.check(Sweep(BASE, tuple(Run(name, {"seed": k}) for k, name in enumerate(runs))))


def test_two_values_of_one_name_are_an_error():
  with pytest.raises(ConfigError, match="two runs have the name"):
    sweeps.check(product(BASE, {"train.learning_rate": (0.1, 0.1 + 1e-12)}))


def test_a_sweep_of_samplings_changes_no_training():
  sweep = product(BASE, {"sample.steps": (5, 10)}, trained={"objective.predict": "eps"})
  configs = sweeps.check(sweep)
  assert list(configs) == ["trained", "steps_5", "steps_10"]
  assert all(config.objective.predict == "eps" for config in configs.values())
  assert configs["steps_5"].sample.steps == 5
  with pytest.raises(ConfigError, match=r"run v: config\.objective\.predict changes how a model is trained"):
    sweeps.check(product(BASE, {"objective.predict": ("v",)}, trained={}))
  value = product(BASE, {"condition.label.request": ("3", "7")}, trained={})
  assert sweeps.check(value)["7"].condition.label.request == "7"
  with pytest.raises(ConfigError, match=r"config\.condition\.label\.dropout changes how a model is trained"):
    sweeps.check(product(BASE, {"condition.label.dropout": (0.1, 0.2)}, trained={}))
  with pytest.raises(ConfigError, match="two runs have the name trained"):
    sweeps.check(product(BASE, {"sample.steps": {"trained": 5}}, trained={}))


def test_an_axis_of_the_picture_is_an_override():
  with pytest.raises(ConfigError, match=r"axis is 'sample.step'.*sample\.steps"):
    sweeps.check(product(BASE, {"sample.steps": (5, 10)}, x="sample.step"))


def test_an_unknown_sweep_names_the_known_ones():
  with pytest.raises(ConfigError, match="there are .*ddim_steps.*guidance.*seeds.* Did you mean objectives?"):
    sweeps.load("objective")
  with pytest.raises(ConfigError, match="there is no sweep 'launch'"):
    sweeps.load("launch")


def test_a_sweep_outside_the_repository(tmp_path):
  with pytest.raises(ConfigError, match="is no sweep: there is no"):
    sweeps.load(f"{tmp_path}/mine")
  place = tmp_path / "mine" / "__init__.py"
  place.parent.mkdir()
  place.write_text(
    f"from experiments.tools.sweeps import product\nSWEEP = product({BASE!r}, {{'seed': (1,)}})\n"
  )
  assert names(sweeps.load(f"{tmp_path}/mine")) == ["seed_1"]
  place.write_text("SWEEP = {}\n")
  with pytest.raises(ConfigError, match="is a dict; it must be a Sweep"):
    sweeps.load(f"{tmp_path}/mine")
  place.write_text("SWEEP = 1 / 0\n")
  with pytest.raises(ConfigError, match="fails: ZeroDivisionError"):
    sweeps.load(f"{tmp_path}/mine")


@pytest.mark.parametrize("name", sweeps.known())
def test_shipped_sweeps_are_right_and_say_how_they_are_run(name):
  sweep = sweeps.load(name)
  assert len(sweeps.check(sweep)) >= 4
  about = importlib.import_module(f"experiments.{name}").__doc__
  assert f"python -m experiments.launch {name} --on=" in about


def test_the_shipped_sweeps():
  assert {"objectives", "ddpm_ablation", "ddim_steps", "guidance", "seeds"} <= set(sweeps.known())
  assert names(sweeps.load("objectives")) == [
    "eps-linear", "eps-cosine", "x0-linear", "x0-cosine", "v-linear", "v-cosine"
  ]  # fmt: skip


def test_the_command_line_makes_the_checked_config(monkeypatch):
  """Every kind of value survives its way through main.py's flags."""
  overrides = {
    "train.constant.rates": (0.9, 0.99),
    "train.learning_rate": 1e-5,
    "deterministic": True,
    "condition.label.request": "3",
    "eval.metrics": ("classifier",),
    "eval.checkpoints": "1000,2000",
    "log.wandb": "a name, 'quoted'",
    "model.unet.attention": (),
  }
  sweep = Sweep(BASE, (Run("r", overrides),))
  (wanted,) = sweeps.check(sweep).values()
  (job,) = jobs.of(sweep, sweeps.check(sweep), "runs")
  argv = [argument for argument in job.commands["train"][1:] if not re.match("--(workdir|mode)=", argument)]
  monkeypatch.setattr(sys, "argv", argv)  # where ml_collections looks for overrides
  values = flags.FlagValues()
  config_flags.DEFINE_config_file("config", flag_values=values)
  assert values(argv) == argv[:1]
  assert dict(leaves(values.config)) == dict(leaves(wanted))
