"""The page of generative models: a table with what real digits have, and a row of samples each."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from diffjax import experiment
from diffjax.config import settled
from diffjax.data.source import Field
from diffjax.machine import pictures
from diffjax.metrics.metric import Metric
from experiments.generative_models import __main__ as page
from experiments.tools import sheet


class Digits:
  """Twenty digits, two of each class."""

  fields = {"image": Field((8, 8, 1), "uint8"), "label": Field((), "int32", 10)}

  def __init__(self, split):
    self.arrays = {"image": np.full((20, 8, 8, 1), 9, np.uint8), "label": np.arange(20) // 2}

  def __len__(self):
    return 20

  def read(self, indices, names):
    return {name: self.arrays[name][indices] for name in names}


def metric(train, test, extractor):
  """The classifier's, of which only what real digits have is asked."""
  held_out = {"agreement": 0.99, "memory_ratio": 1.0, "memory_share": 0.05}
  of_training = {"frechet": 1.7, "agreement": 0.998, "memory_ratio": 0.0, "memory_share": 1.0}
  copied = lambda samples, request: (
    (samples["image"] == 9).all() and (request["label"] == np.arange(20) // 2).all()
  )
  return Metric(("image",), copied, lambda features: of_training if features else {}, held_out, {})


def test_a_distance_is_shown_also_where_its_name_has_its_count():
  assert page.figures({"frechet_1442": 3.04, "agreement": 0.5})["Fréchet"] == "3.0"
  assert page.figures({"frechet": 3.04, "frechet_rank_deficient": 1.0})["Fréchet"] == "3.0"


def test_the_page_has_real_digits_and_every_model_that_is_asked_for(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(page.experiment, "source", lambda config, split: Digits(split))
  monkeypatch.setitem(page.METRICS, "classifier", metric)
  row = lambda name, config, folder, metric, labels: (
    dict.fromkeys(page.HEADER, "-")
    | {"model": page.MODELS[name], "bits": folder.name, "parameters": str(len(labels))},
    np.zeros((page.COLUMNS, 8, 8, 1), np.uint8),
  )
  monkeypatch.setattr(page, "row", row)
  page.main([f"--out={tmp_path}", "--only", "digits_gan", "digits"])
  lines = (tmp_path / "digits.md").read_text().splitlines()
  assert capsys.readouterr().out.splitlines()[:-1] == lines
  cells = [dict(zip(page.HEADER, line[2:-2].split(" | "), strict=True)) for line in (lines[0], *lines[2:])]
  assert [cell["model"] for cell in cells[1:]] == [
    "training images",
    "held-out images",
    "GAN, non-saturating, R1",
    "diffusion",
  ]
  known, held_out = (tuple(cell[name] for name in page.HEADER[2:6]) for cell in cells[1:3])
  assert known == ("1.7", "0.998", "0.00", "100.0 %") and held_out == ("-", "0.990", "1.00", "5.0 %")
  assert (cells[3]["bits"], cells[3]["parameters"]) == ("digits_gan", "20")
  for picture, rows in ("digits", 1), ("digits_nearest", 2):
    whole = np.asarray(Image.open(tmp_path / f"{picture}.png"))
    grid = pictures.grid(np.zeros((rows * page.COLUMNS, 8, 8, 1), np.uint8), page.COLUMNS, scale=4)
    assert len(whole) == sheet.TOP + 3 * (len(grid) + sheet.GAP) - sheet.GAP
  side = whole.shape[1] - grid.shape[1]
  names = np.array_split(whole[: sheet.TOP, side:], 10, axis=1)
  assert all((name < 128).any() for name in names)
  for k in range(3):  # a name each, and white below its pair
    top = sheet.TOP + k * (len(grid) + sheet.GAP)
    assert (whole[top : top + len(grid), :side] < 128).any()
    assert (whole[top + len(grid) : top + len(grid) + sheet.GAP] == 255).all()
  above, below = np.array_split(whole[-len(grid) :, side:], 2)
  assert (0 in above, 9 in above, 0 in below, 9 in below) == (True, False, False, True)  # the nearest, of 9s


def test_the_page_of_all_is_not_written_over_by_some(capsys):
  with pytest.raises(SystemExit):
    page.main(["--only", "digits_gan"])
  assert "name another folder by --out" in capsys.readouterr().err


def test_what_is_wrong_with_fashion_mnist_names_its_flag(tmp_path):
  with pytest.raises(SystemExit, match=f"^--fashion is '{tmp_path}/none.npz', which is not there"):
    page.main([f"--fashion={tmp_path}/none.npz", f"--out={tmp_path}"])


def test_seconds_are_told_of_a_run_that_one_call_took_from_start_to_end(tmp_path, monkeypatch):
  step, clock, config = [0], iter(range(0, 100, 7)), page.config_of("digits_gan")

  def train(config, folder):
    (folder / "checkpoints" / "saved").mkdir(parents=True, exist_ok=True)
    step[0] += config.train.steps // 2 if folder.name == "stopped" else config.train.steps

  monkeypatch.setattr(page.training, "train", train)
  monkeypatch.setattr(page.time, "process_time", lambda: next(clock))
  monkeypatch.setattr(page.diffjax, "load", lambda folder: SimpleNamespace(step=step[0]))
  value = [page.trained(config, tmp_path / "stopped") for _ in range(2)]
  step[0] = 0
  assert value == ["-", "-"]  # its second call goes on from the first's
  assert [page.trained(config, tmp_path / "whole") for _ in range(2)] == ["7", "7"]


@pytest.mark.parametrize("name", page.MODELS)
def test_every_config_is_there(name):
  assert page.config_of(name).data.source == "digits"


def test_every_config_of_fashion_mnist_makes_a_model_of_its_images():
  fields = {"image": Field((28, 28, 1), "uint8"), "label": Field((), "int32", 10)}
  for name in page.fashion.OVERRIDES:
    config = page.config_of(name, "fashion.npz")
    assert config.data.arrays.test_path == "fashion.npz"
    experiment.create(settled(config), fields, traced=False)
