"""Charts: lines, bands and levels lie where their numbers are, and what a run logged becomes panels."""

import json

import numpy as np
from PIL import Image

from diffjax.machine import charts
from diffjax.machine.charts import Line, Panel

BLUE, ORANGE, GREY = (31, 119, 180), (255, 127, 14), (128, 128, 128)


def pixels(path):
  return np.asarray(Image.open(path).convert("RGB")).astype(int)


def of(image, colour):
  return np.abs(image - colour).sum(-1) < 9


def test_lines_and_levels_lie_where_their_numbers_are(tmp_path):
  x = list(range(40))  # too many for markers
  lines = {"low": Line(x, [1.0] * 40), "high": Line(x, [3.0] * 40)}
  charts.draw(tmp_path / "a.png", Panel(lines, "step", "loss (lower is better)", {"real data": 2.0}))
  image = pixels(tmp_path / "a.png")
  low, high, level = (of(image, colour) for colour in (BLUE, ORANGE, GREY))
  rows = [where.sum(1).argmax() for where in (low, level, high)]
  assert low[rows[0]].sum() > image.shape[1] / 2 and high[rows[2]].sum() > image.shape[1] / 2
  assert rows[0] > rows[1] > rows[2] and abs((rows[0] + rows[2]) / 2 - rows[1]) < 5


def test_points_are_marked_and_a_band_is_shaded(tmp_path):
  points = Line([0, 1, 2], [1.0, 1.0, 1.0])
  charts.draw(tmp_path / "plain.png", Panel({"": points}, "x", "y"))
  band = Line(points.x, points.y, [0.5, 0.5, 0.5], [1.5, 1.5, 1.5])
  charts.draw(tmp_path / "band.png", Panel({"": band}, "x", "y"))
  plain, shaded = pixels(tmp_path / "plain.png"), pixels(tmp_path / "band.png")
  assert of(plain, BLUE).sum(0).max() > 2 * np.median(
    of(plain, BLUE).sum(0)[of(plain, BLUE).any(0)]
  )  # a marker is higher than the line
  light = 0.2 * np.array(BLUE) + 0.8 * 255
  assert of(shaded, light).sum() > 0.2 * shaded[..., 0].size > of(plain, light).sum()


def test_an_axis_is_logarithmic_where_values_are_far_apart():
  assert charts.spread_out([1.0, 15.0]) and not charts.spread_out([1.0, 14.0])
  assert (
    not charts.spread_out([0.0, 100.0]) and not charts.spread_out([-1.0, 100.0]) and not charts.spread_out([])
  )
  assert charts.spread_out([1.0, float("nan"), 20.0])


def test_what_was_logged_becomes_a_panel_for_each_thing_that_was_measured(tmp_path, monkeypatch):
  """Means over the bands of log-SNR; numbers of other names have a panel of their own."""
  rows = [{"step": k, "loss": 1.0 / k, "grad_norm": 1.0} for k in range(1, 4)]
  rows.append({"step": 3, "held_out/raw/logsnr_0_to_3": 1.0, "held_out/raw/logsnr_3_to_6": 3.0})
  rows.append({"step": 3, "held_out/ema_0.9/logsnr_0_to_3": 5.0, "held_out/raw/accuracy": 0.5, "loss": "nan"})
  (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  drawn = {}
  monkeypatch.setattr(
    charts, "draw", lambda path, *panels: drawn.update({panel.title: panel for panel in panels})
  )
  assert charts.logged(tmp_path / "a.png", tmp_path / "metrics.jsonl")
  assert list(drawn) == ["loss", "held-out loss", "held-out accuracy"]
  assert drawn["loss"].lines["training"].x == [1, 2, 3]
  assert drawn["held-out loss"].lines == {"raw": Line([3], [2.0]), "ema_0.9": Line([3], [5.0])}
  assert drawn["held-out accuracy"].lines == {"raw": Line([3], [0.5])}
  (tmp_path / "metrics.jsonl").write_text('{"step": 1, "seconds": 2}\n')
  assert not charts.logged(tmp_path / "a.png", tmp_path / "metrics.jsonl")


def test_many_logged_points_are_drawn_as_means():
  line = charts._means({k: [float(k)] for k in range(1000)})
  assert len(line.x) == charts.SMOOTHED and line.x[0] == line.y[0] == 2.0
