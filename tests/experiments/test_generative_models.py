"""The page of generative models: a table with what real digits have, and a row of samples each."""

import numpy as np
import pytest

from diffjax.data.source import Field
from diffjax.machine import pictures
from diffjax.metrics.metric import Metric
from experiments.generative_models import __main__ as page


class Digits:
  """Twenty digits, two of each class."""

  fields = {"image": Field((8, 8, 1), "uint8"), "label": Field((), "int32", 10)}

  def __init__(self, split):
    self.arrays = {"image": np.full((20, 8, 8, 1), 9, np.uint8), "label": np.arange(20) // 2}

  def __len__(self):
    return 20


def metric(train, test, extractor):
  """The classifier's, of which only what real digits have is asked."""
  floor_at = lambda count: {"frechet": 1.7} if count == len(train) else {}
  floor = {"agreement": 0.99, "memory_ratio": 1.0, "memory_share": 0.05}
  return Metric(("image",), None, None, floor, {}, floor_at=floor_at)


def test_the_page_has_real_digits_and_every_model_that_is_asked_for(tmp_path, monkeypatch, capsys):
  monkeypatch.setitem(page.SOURCES, "digits", Digits)
  monkeypatch.setitem(page.METRICS, "classifier", metric)
  row = lambda name, folder, metric, labels: (
    {"model": page.MODELS[name], "bits": folder.name, "parameters": str(len(labels))},
    np.zeros((page.COLUMNS, 8, 8, 1), np.uint8),
  )
  monkeypatch.setattr(page, "row", row)
  page.main([f"--out={tmp_path}", "--only", "digits_gan", "digits"])
  lines = (tmp_path / "table.md").read_text().splitlines()
  assert capsys.readouterr().out.splitlines()[:-1] == lines
  cells = [dict(zip(page.HEADER, line[2:-2].split(" | "), strict=True)) for line in (lines[0], *lines[2:])]
  assert [cell["model"] for cell in cells[1:]] == [
    "training digits as samples",
    "GAN, non-saturating, R1",
    "diffusion",
  ]
  assert (cells[1]["Fréchet"], cells[1]["agreement"], cells[1]["memory share"]) == ("1.7", "0.990", "5.0 %")
  assert (cells[2]["bits"], cells[2]["parameters"]) == ("digits_gan", "20")
  sheet = np.asarray(page.Image.open(tmp_path / "samples.png"))
  rows = pictures.grid(np.zeros((3 * page.COLUMNS, 8, 8, 1), np.uint8), page.COLUMNS, scale=4)
  assert sheet.shape[0] == rows.shape[0] and sheet.shape[1] == rows.shape[1] + 170


@pytest.mark.parametrize("name", page.MODELS)
def test_every_config_is_there(name):
  assert page.config_of(name).data.source == "digits"
