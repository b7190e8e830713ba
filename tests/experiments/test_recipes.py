"""A recipe behind one command, a stub in main.py's place."""

import csv
import importlib
import json
import time
from pathlib import Path

import numpy as np
import pytest
from fabricated import STUB, jobs_of, report, small, template, train

from diffjax.types import ConfigError
from experiments.tools import curve, jobs, pool, recipes, sweeps
from experiments.tools.recipes import Recipe

ROOT = Path(recipes.__file__).parents[1]
NAMES = sorted(place.parent.name for place in ROOT.glob("*/__init__.py") if "RECIPE =" in place.read_text())
RECIPE = Recipe(
  "configs/digits.py",
  {"ddim_7": {"sample.sampler": "ddim", "sample.steps": 7}, "usual": {}},
  {"others": ((1000.0, 5.0), (4000.0, 3.0))},
)
SMALL = ("--config.train.steps=40", "--config.eval.metrics=('inception',)", "--config.eval.count=30")


def make(tmp_path, *more):
  """The trained run and the ways of sampling, as main makes them."""
  sweep = RECIPE.sweep(recipes.overrides_of(RECIPE, [*SMALL, "--config.eval.seeds=2", *more]))
  return jobs.of(sweep, sweeps.check(sweep), str(tmp_path), STUB)


def judged(job, step, fid):
  """What main.py's evaluation of a way of sampling would write."""
  values = {
    name: {"value": value, "of_seeds": [value, value + 1], "floor": None}
    for name, value in (("fid_30", fid), ("fid_30_low", fid - 1), ("kid", 0.25))
  }
  settings = {"resize": "pytorch", "weights": "abc", "reference": {"pool3": {"hash": "def", "count": 50}}}
  rest = {
    "step": step,
    "images_per_second": 12.5,
    "metrics": {"inception": {"settings": settings, "values": values}},
  }
  return report(job, **rest)


def place(job, step, fid):
  """Gives a workdir an evaluation."""
  path = Path(job.folder) / "eval" / str(step) / "metrics.json"
  path.parent.mkdir(parents=True)
  path.write_text(json.dumps(judged(job, step, fid)))


@pytest.fixture
def run(tmp_path, monkeypatch):
  """The command, with Inception weights that can be read, and what the stub writes as evaluations."""
  np.savez(tmp_path / "weights.npz", a=np.zeros(1))
  monkeypatch.setenv("DIFFJAX_INCEPTION", str(tmp_path / "weights.npz"))
  for job in make(tmp_path)[1:]:
    Path(job.folder).mkdir()
    (Path(job.folder) / "template.json").write_text(
      json.dumps(judged(job, 40, {"ddim_7": 9.0}.get(job.name, 8.0)))
    )
  return lambda *flags: recipes.main(
    RECIPE, "mine", [f"--workdir={tmp_path}", "--config.eval.seeds=2", *SMALL, *flags], STUB
  )


def calls(tmp_path, name):
  path = tmp_path / name / "calls"
  return [line.split()[0] for line in path.read_text().splitlines()][::2] if path.exists() else []


def test_it_trains_judges_and_tells_and_does_nothing_twice(run, tmp_path, capsys):
  assert run() == 0
  assert (calls(tmp_path, "trained"), calls(tmp_path, "ddim_7"), calls(tmp_path, "usual")) == (
    ["train"],
    ["eval"],
    [],
  )
  out = capsys.readouterr().out
  assert "| ddim_7 | 40 | 2560 | 9 | 8 | 0.25 | 30 | 7 | ema 0.995 | 12.5 |" in out
  assert "Step 40 of 40, batch 64: 2,560 images seen; 1,234 images/s" in out
  assert "resize pytorch, Inception weights abc, reference def of 50 images, sampling seeds [0, 1]" in out
  assert "| others | 1000 | 5 |" in out and f"{tmp_path}/ddim_7/eval/40/grid.png" in out
  assert (tmp_path / "table.md").read_text() in out
  assert (tmp_path / "curve.png").stat().st_size > 5000
  assert run("--judge=ddim_7,usual", "--minutes=0") == 0
  assert (calls(tmp_path, "trained"), calls(tmp_path, "ddim_7"), calls(tmp_path, "usual")) == (
    ["train"],
    ["eval"],
    ["eval"],
  )
  rows = list(csv.DictReader((tmp_path / "curve.csv").open()))
  assert [(r["sampling"], r["score"], float(r["value"])) for r in rows if r["score"] == "fid_30"] == [
    ("ddim_7", "fid_30", 9.0), ("usual", "fid_30", 8.0)
  ]  # fmt: skip


def test_the_curve_is_over_images_seen_and_names_small_samples(tmp_path):
  _, ddim, usual = make(tmp_path)
  for step, fid in ((100, 30.0), (20, 50.0)):
    place(ddim, step, fid)
  place(usual, 100, 20.0)
  lines = curve.fids(curve.points([ddim, usual]))
  assert lines == {"ddim_7, fid_30": [(20 * 64, 50.0), (100 * 64, 30.0)], "usual, fid_30": [(6400, 20.0)]}


def test_the_steps_that_are_kept_and_the_last_are_judged_once(tmp_path):
  trained, ddim, _ = make(tmp_path, "--config.checkpoint.keep_every=20")
  assert recipes.steps_to_judge(trained) == []
  for step in (20, 30, 35):
    train(trained, step)
  (Path(trained.folder) / "checkpoints" / "37.orbax-checkpoint-tmp-1").mkdir()
  steps = recipes.steps_to_judge(trained)
  assert steps == [20, 35]
  train(ddim, 20)
  train(ddim, 35)
  first = recipes.judging(ddim, steps)
  assert first.commands["eval"][-1] == "--config.eval.checkpoints=20,35" and not first.done("eval")
  place(ddim, 20, 5.0)
  assert recipes.judging(ddim, steps).commands["eval"][-1] == "--config.eval.checkpoints=35"
  place(ddim, 35, 4.0)
  assert recipes.judging(ddim, steps) is None and first.done("eval")
  assert (
    ddim.config.train.steps == 40 and ddim.config.eval.checkpoints == "latest"
  )  # its own are as they were


def test_the_time_given_ends_a_run_as_a_signal_does(tmp_path, monkeypatch):
  monkeypatch.setenv("STUB", json.dumps({"eps": "sleep"}))
  eps, x0, _ = jobs_of(small(), tmp_path)
  for job in (eps, x0):
    template(job)
  begun = time.monotonic()

  def until_it_listens(tasks):
    assert time.monotonic() < begun + 20

  tasks = pool.run([eps, x0], 1, until_it_listens, until=begun + 2)
  assert [task.state for task in tasks] == ["stopped", "not started"]
  assert (Path(eps.folder) / "signals").read_text() == "SIGTERM\n"


def test_overrides_have_the_types_of_their_fields():
  given = {
    "train.batch_size": "64",
    "train.learning_rate": "1e-3",
    "train.constant.rates": "(0.9,)",
    "deterministic": "True",
    "sample.weights": "ema_0.9",
    "log.wandb": "a=b",
  }
  result = recipes.overrides_of(RECIPE, [f"--config.{path}={text}" for path, text in given.items()])
  assert result == {
    "train.batch_size": 64,
    "train.learning_rate": 1e-3,
    "train.constant.rates": (0.9,),
    "deterministic": True,
    "sample.weights": "ema_0.9",
    "log.wandb": "a=b",
  }


@pytest.mark.parametrize(
  "flags, message",
  [
    (("--judge=ddim",), "--judge=ddim names 'ddim'; there are ddim_7, usual."),
    (("--minute=3",), "'--minute=3' is no flag, and no --config.FIELD=VALUE"),
    (("--config.train.stepz=3",), "did you mean config.train.steps?"),
    (("--config.train.batch_size=many",), "config.train.batch_size is of type int"),
    (("--config.train.batch_size=-1",), "config.train.batch_size is -1; it must be at least 1."),
    (("--config.sample.steps=3",), "config.sample.steps is what the ways of sampling set themselves"),
    (("--config.eval.inception.weights_file=nowhere.npz",), "nowhere.npz, which is not there"),
    (("--minutes=0",), "holds no checkpoint yet; give it --minutes to train."),
  ],
)
def test_mistakes_end_with_2_before_anything_starts(run, tmp_path, capsys, flags, message):
  assert run(*flags) == 2
  assert message in " ".join(capsys.readouterr().err.split())
  assert not calls(tmp_path, "trained")


@pytest.mark.parametrize("name", NAMES)
def test_shipped_recipes_are_right_and_say_how_they_are_run(name):
  module = importlib.import_module(f"experiments.{name}")
  sweep = module.RECIPE.sweep({})
  assert {"trained", *module.RECIPE.judged} == set(sweeps.check(sweep))
  assert f"python -m experiments.{name}" in module.__doc__
  readme = (ROOT / name / "README.md").read_text()
  assert f"python -m experiments.{name} --minutes=" in readme and module.RECIPE.base in readme
  for config in sweeps.check(sweep).values():
    assert config.eval.count == 50_000


def test_the_shipped_recipes_sample_as_their_papers():
  assert NAMES == ["cifar10_ddpm", "cifar10_edm"]
  results = {}
  for name in NAMES:
    recipe = importlib.import_module(f"experiments.{name}").RECIPE
    results |= {way: config.sample for way, config in sweeps.check(recipe.sweep({})).items()}
  settings = {
    way: (s.sampler, s.grid, s.steps, s.guides, s.weights) for way, s in results.items() if way != "trained"
  }
  assert settings == {
    "ddim_100": ("ddim", "quadratic", 100, (), "average"),
    "ancestral_1000": ("ancestral", "leading", 1000, ("clip",), "average"),
    "heun_18": ("heun", "karras", 18, (), "average"),
  }
  assert results["ddim_100"].ddim.eta == 0 and results["ancestral_1000"].ancestral.variance == "fixed_large"


def test_an_override_that_is_none_is_refused():
  with pytest.raises(ConfigError, match="'seed=3' is no flag"):
    recipes.overrides_of(RECIPE, ["seed=3"])
