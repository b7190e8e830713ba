"""The files that collect writes, against numbers put into the workdirs by hand."""

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
from fabricated import evaluate, jobs_of, metrics, report, small, train
from PIL import Image

from experiments import collect
from experiments.tools import chart
from experiments.tools.sweeps import Run, Sweep, product

SWEEP = """\
from experiments.tools.sweeps import product
SWEEP = product("configs/digits.py", {"objective.predict": ("eps", "x0", "v")}, shared=
  {"train.steps": 40, "eval.seeds": 2, "eval.count": 30})
"""


@pytest.fixture
def sweep(tmp_path):
  """eps is finished, x0 is trained and not evaluated, v has not begun."""
  (tmp_path / "mine").mkdir()
  (tmp_path / "mine" / "__init__.py").write_text(SWEEP)
  eps, x0, _ = jobs_of(small(), tmp_path / "runs" / "mine")
  metrics(
    eps,
    {"step": 20, "loss": 0.5},
    {"step": 40, "loss": 0.25},
    {"step": 20, "held_out/raw/logsnr_0_to_3": 9.0, "held_out/ema_0.995/logsnr_0_to_3": 8.0},
    {"step": 40, "held_out/raw/logsnr_0_to_3": 7.0, "held_out/ema_0.995/logsnr_0_to_3": 6.0},
  )
  train(eps)
  evaluate(eps, report(eps, [100.0]), step=20)
  evaluate(eps, report(eps, [1.5, 2.5, 10.0], metrics=three()))
  metrics(x0, {"step": 20, "loss": None})
  train(x0, step=20)
  return [str(tmp_path / "mine"), f"--workdir={tmp_path}/runs"], tmp_path / "mine"


def three():
  """Two scores of three seeds; the median is no mean."""
  frechet = {"value": 2.5, "of_seeds": [1.5, 10.0, 2.5], "floor": 0.5}
  agreement = {"value": 0.875, "of_seeds": [0.875, 0.875], "floor": None}
  values = {"frechet": frechet, "agreement": agreement}
  return {"classifier": {"settings": {"reference": "test split"}, "values": values}}


def test_the_csv_has_every_number(sweep):
  arguments, folder = sweep
  assert collect.main(arguments) == 0
  eps, x0, v = csv.DictReader((folder / "results.csv").open())
  assert (eps["run"], eps["state"], eps["step"], eps["objective.predict"]) == ("eps", "finished", "40", "eps")
  for name, value in {
    "classifier frechet": 2.5,
    "classifier frechet low": 1.5,
    "classifier frechet high": 10.0,
    "classifier agreement": 0.875,
    "classifier frechet of real data": 0.5,
    "loss": 0.25,
    "held_out/raw/logsnr_0_to_3": 7.0,
    "held_out/ema_0.995/logsnr_0_to_3": 6.0,
    "samples": 30,
    "evaluations": 10,
  }.items():
    assert float(eps[name]) == value, name
  assert (eps["weights"], eps["seeds"], eps["sampler"]) == ("ema 0.995", "0 1", "dpmpp_2m")
  assert eps["classifier reference"] == "test split"
  assert (x0["state"], x0["step"], x0["loss"], x0["classifier frechet"]) == ("unfinished", "20", "nan", "")
  assert (v["state"], v["step"], v["loss"], v["classifier frechet"]) == ("unfinished", "0", "", "")


def rows_of(table):
  lines = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
  return {line[0]: dict(zip(lines[0], line, strict=False)) for line in lines[2:]}


def test_the_table_marks_the_unfinished(sweep, capsys):
  arguments, folder = sweep
  assert collect.main(arguments) == 0
  text = (folder / "table.md").read_text()
  first, held_out = text.split("## Held-out losses")
  rows = rows_of(first)
  assert rows["eps"]["classifier Fréchet"] == "2.5 (1.5 to 10)"
  assert rows["eps"]["classifier agreement"] == "0.875"
  assert rows["eps"]["loss"] == "0.25" and rows["eps"]["state"] == "finished"
  assert rows["x0"]["state"] == "unfinished, step 20 of 40"
  assert rows["v"]["state"] == "unfinished, step 0 of 40"
  assert "**Unfinished: 2 of 3 runs.**" in first
  assert "samples 30" in first and "seeds 0 1" in first and "classifier Fréchet of real data 0.5" in first
  assert rows_of(held_out)["eps"]["ema_0.995/logsnr_0_to_3"] == "6" and "raw" not in held_out
  assert text in capsys.readouterr().out


def test_columns_are_headed_by_what_they_are():
  paths = ("schedule.name", "objective.predict", "schedule.linear.beta_end")
  assert [collect.heading(path) for path in paths] == ["schedule", "predict", "linear.beta_end"]


def test_the_picture(sweep):
  arguments, folder = sweep
  assert collect.main(arguments) == 0
  picture = np.asarray(Image.open(folder / "curve.png").convert("RGB"))
  assert picture.shape[0] > 300 and picture.shape[1] > 2 * picture.shape[0]  # two panels
  assert (np.ptp(picture.astype(int), axis=-1) > 60).sum() > 50  # something coloured is drawn


def test_scores_that_no_run_has_are_named(sweep, capsys):
  arguments, folder = sweep
  text = (folder / "__init__.py").read_text()
  (folder / "__init__.py").write_text(
    text
    + "import dataclasses\nSWEEP = dataclasses.replace(SWEEP, metrics=('classifier frechet', 'mistyped'))\n"
  )
  assert collect.main(arguments) == 0
  assert (
    "curve.png is without mistyped: the runs have classifier frechet, classifier agreement"
    in capsys.readouterr().err
  )


def test_another_folder_and_nothing_there(sweep, tmp_path, capsys):
  arguments, _ = sweep
  assert collect.main([*arguments, f"--out={tmp_path}/out"]) == 0
  assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
    "curve.png",
    "results.csv",
    "table.md",
  ]
  assert collect.main([arguments[0], f"--workdir={tmp_path}/empty"]) == 2
  assert "holds no run yet" in capsys.readouterr().err
  assert collect.main(["objectivs"]) == 2
  assert "Did you mean objectives?" in capsys.readouterr().err


def test_settings_that_differ_are_columns(tmp_path):
  sweep = product("configs/digits.py", {"sample.steps": (5, 10)}, shared={"train.steps": 40}, trained={})
  trained, *others = every = jobs_of(sweep, tmp_path)
  metrics(trained, {"step": 40, "loss": 0.125})
  train(trained)
  for k, job in enumerate(others):
    Path(job.folder).mkdir()
    (Path(job.folder) / "checkpoints").symlink_to("../trained/checkpoints")
    evaluate(job, report(job, [1.0 + k], samples=1442 + k, seeds=[0, 1, 2]))
  result = collect.rows(sweep, every)
  assert [(row.run, row.finished, row.loss) for row in result] == [
    ("steps_5", True, 0.125),
    ("steps_10", True, 0.125),
  ]
  text = collect.as_markdown("s", result)
  rows = rows_of(text)
  assert dataclasses.replace(result[0], finished=False).state == "unfinished, not evaluated"
  assert (rows["steps_5"]["samples"], rows["steps_10"]["samples"]) == ("1442", "1443")
  assert (rows["steps_5"]["steps"], rows["steps_10"]["steps"]) == ("5", "10")
  assert "samples 144" not in text and "sampler dpmpp_2m" in text


def test_lines_of_the_picture(tmp_path):
  axes = {"objective.predict": ("eps", "v"), "sample.steps": (10, 5, 20)}
  sweep = product("configs/digits.py", axes, shared={"train.steps": 40, "eval.seeds": 2, "eval.count": 30})
  every = jobs_of(sweep, tmp_path)
  for k, job in enumerate(every[:5]):
    train(job)
    evaluate(job, report(job, [float(k), k + 2.0]))
  evaluate(every[5], report(every[5], [9.0, 9.0]))  # and is not trained to the end
  result = collect.rows(sweep, every)
  assert chart.axis_of(sweep, result) == "sample.steps"
  assert chart.lines(sweep, result, "classifier frechet") == {
    "eps": [(10, (1.0, 0.0, 2.0)), (5, (2.0, 1.0, 3.0)), (20, (3.0, 2.0, 4.0))],
    "v": [(10, (4.0, 3.0, 5.0)), (5, (5.0, 4.0, 6.0))],
  }
  assert chart.draw(tmp_path / "curve.png", sweep, result)


def test_one_score_against_another(tmp_path):
  axes = {"sample.sampler": ("ddim", "heun"), "sample.steps": (20, 5)}
  shared = {
    "train.steps": 40,
    "eval.seeds": 2,
    "eval.count": 30,
    "eval.metrics": ("classifier", "restoration"),
  }
  settings = {"shared": shared, "x": "sample.steps", "plane": ("restoration psnr", "classifier frechet")}
  sweep = product("configs/digits.py", axes, **settings)
  every = jobs_of(sweep, tmp_path)
  for k, job in enumerate(every):
    train(job)
    scores = three()
    scores["classifier"]["values"]["frechet"]["value"] = 2.0 + k
    of_psnr = {"value": 10.0 + k, "of_seeds": [10.0 + k], "floor": None}
    evaluate(
      job, report(job, metrics=scores | {"restoration": {"settings": {}, "values": {"psnr": of_psnr}}})
    )
  result = collect.rows(sweep, every)
  assert chart.pairs(sweep, result) == {
    "ddim": [(5, 11.0, 3.0), (20, 10.0, 2.0)],
    "heun": [(5, 13.0, 5.0), (20, 12.0, 4.0)],
  }
  wide, narrow = tmp_path / "wide.png", tmp_path / "narrow.png"
  assert chart.draw(wide, sweep, result)
  assert chart.draw(narrow, dataclasses.replace(sweep, plane=()), result)
  assert Image.open(wide).width - Image.open(narrow).width > 500  # a panel more


def test_runs_that_are_no_product(tmp_path):
  sweep = Sweep("configs/digits.py", (Run("a", {}), Run("b", {"seed": 3})), x="seed")
  every = jobs_of(sweep, tmp_path)
  assert [row.overrides for row in collect.rows(sweep, every)] == [{"seed": 0}, {"seed": 3}]
  assert not chart.draw(tmp_path / "curve.png", sweep, collect.rows(sweep, every))
