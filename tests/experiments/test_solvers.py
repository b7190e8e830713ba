"""The solver pages in small: table, picture, budgets, and what the command refuses."""

import types

import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from diffjax.samplers import SAMPLERS
from diffjax.spaces import to_pixels
from experiments.solvers import __main__ as command
from experiments.solvers import model, page


def cells(text):
  """{sampler: the rest of its row} of a page's table."""
  rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "| `" in line]
  return {name.strip("`"): rest for name, *rest in rows}


@pytest.fixture
def few_optimizations():
  """Much is compiled here and little run."""
  before = jax.config.read("jax_disable_most_optimizations")
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", before)


def test_a_small_page_of_the_exact_denoisers(tmp_path, monkeypatch, few_optimizations):
  monkeypatch.setattr(command, "FEW", 32)
  monkeypatch.setattr(command, "MANY", 2048)
  names = ("dpm_solver_3", "ancestral", "adaptive_ode")
  command.main([f"--samplers={','.join(names)}", "--budgets=3,10,40", f"--out={tmp_path / 'page'}"])
  rows = cells((tmp_path / "page/solvers.md").read_text())
  assert tuple(rows) == names
  for name in names[:2]:
    sampler = SAMPLERS[name]()
    claimed, fitted, measure, *errors = rows[name]
    assert int(claimed) == sampler.order and abs(float(fitted) - sampler.order) < 0.3
    assert measure == ("flow" if sampler.deterministic else "moments")
    assert (errors[0] == "") == (sampler.evaluations + 1 > 3)  # not one step fits
    assert float(errors[2]) < float(errors[1]) / 2
  claimed, fitted, measure, *errors = rows["adaptive_ode"]
  assert (claimed, fitted, measure) == ("none", "", "flow")
  results = [float(cell.split(" ")[0]) for cell in errors]
  for error, tolerance in zip(results, (1e-2, 1e-5, 1e-8), strict=True):
    assert tolerance / 100 < error < 100 * tolerance
  with Image.open(tmp_path / "page/solvers.png") as picture:
    assert picture.width > 1000 and np.asarray(picture).std() > 10


def test_a_picture_ends_at_a_hundred_times_the_median_and_names_what_leaves_it():
  fig, (some, none) = plt.subplots(1, 2)
  for name, errors in {"a": [1.0, 2.0, np.nan], "b": [2.0, 3.0, 2.0], "far": [9e3, 201.0, 5.0]}.items():
    some.loglog([1, 2, 3], errors, marker="o", label=name)
  none.loglog([1, 2], [1.0, 150.0], marker="o", label="a")
  none.axhline(1e-3, label="a level")
  assert page._cut(some) == ["(above 2.5e+02: far)"] and some.get_ylim()[1] == 250
  assert page._cut(none) == [] and none.get_ylim()[1] > 150
  plt.close(fig)


def test_steps_and_distances_of_a_model_page():
  requests = []

  def on_grid(steps, key):
    requests.append(steps)
    return np.full((2, 4, 4, 1), np.nan if steps > 10 else 0.0)

  metric = types.SimpleNamespace(judge=lambda samples, request: {"frechet": float(np.mean(samples["image"]))})
  sampler = SAMPLERS["dpm_solver_3"]()
  pixels = lambda images: {"image": to_pixels(images)}
  draw = types.SimpleNamespace(sampler=sampler, on_grid=on_grid, pixels=pixels, request={})
  nothing, some, broken = model.points(draw, metric, (3, 10, 50))
  assert nothing is None and some.evaluations == 10 and broken.evaluations == 49
  assert set(requests) == {3, 16} and some.distances == [128.0, 128.0] and np.isnan(broken.distances).all()
  results = {"dpm_solver_3": (sampler, [nothing, model.Point(10, [4.0, 6.0]), broken])}
  text = model.table(results, {"heun": "it is cold."}, {"all images": 1.5}, "raw", (3, 10, 50))
  assert cells(text) == {"dpm_solver_3": ["", "5.0 (4.0 to 6.0)", "nan (nan to nan)"]}
  assert "`heun` is refused: it is cold." in text and "The level of all images: 1.50." in text


def test_the_picture_has_the_deterministic_solvers_on_the_left(tmp_path, monkeypatch):
  drawn = []
  monkeypatch.setattr(page.plt, "close", drawn.append)
  results = {name: (make(), [(10, 1.0), (20, 0.5)]) for name, make in SAMPLERS.items()}
  page.figure(tmp_path / "all.png", results, ("left", "right"), ({}, {"a level": 0.1}))
  (figure,) = drawn
  left, right = ({text.get_text() for text in axis.get_legend().get_texts()} for axis in figure.axes)
  assert left == {name for name in SAMPLERS if SAMPLERS[name]().deterministic}
  assert right == {name for name in SAMPLERS if not SAMPLERS[name]().deterministic} | {"a level"}


@pytest.mark.parametrize(
  "arguments, message",
  [
    (["--samplers=ddim,hoin"], "--samplers names hoin; it must be some of ancestral, ddim"),
    (["--budgets=10,1"], "--budgets is '10,1'; .* at least 2"),
    (["--budgets=few"], "--budgets is 'few'"),
    (["--workdir=nowhere"], "--workdir=nowhere holds no run"),
    (["--out=/dev/null/page"], "/dev/null/page"),
  ],
)
def test_bad_arguments_are_told(arguments, message):
  with pytest.raises(SystemExit, match=message):
    command.main(arguments)
