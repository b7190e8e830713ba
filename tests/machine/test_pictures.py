"""Pictures against pixels placed one by one."""

import importlib
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from diffjax.machine import pictures
from diffjax.types import ConfigError


def _random(*shape, seed=0):
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def _placed(images, columns, pad, scale):
  """The definition of a grid, a pixel of the result at a time."""
  n, h, w, c = images.shape
  rows = -(-n // columns)
  out = np.full((rows * (h * scale + pad) + pad, columns * (w * scale + pad) + pad, c), 128, np.uint8)
  for i in range(n):
    top, left = pad + (i // columns) * (h * scale + pad), pad + (i % columns) * (w * scale + pad)
    for y in range(h * scale):
      for x in range(w * scale):
        out[top + y, left + x] = images[i, y // scale, x // scale]
  return out


def test_every_level_survives_and_the_rest_is_nearest_or_clipped():
  levels = np.arange(256)
  for dtype in (np.float32, np.float64):
    np.testing.assert_array_equal(pictures.to_uint8((levels / 127.5 - 1).astype(dtype)), levels)
  x = np.random.default_rng(1).uniform(-1, 1, (3, 4, 5, 3))
  made = pictures.to_uint8(x)
  assert made.dtype == np.uint8 and made.shape == x.shape
  assert np.abs(made - (x + 1) * 127.5).max() <= 0.5 + 1e-4
  ends = jnp.array([-np.inf, -7.0, -1.01, 0.0, 1.01, np.inf])
  np.testing.assert_array_equal(pictures.to_uint8(ends), [0, 0, 0, 128, 255, 255])
  np.testing.assert_array_equal(pictures.to_uint8(jnp.array([-1, 0.5, 1], jnp.bfloat16)), [0, 191, 255])


def test_a_pixel_that_is_no_number_is_an_error():
  with pytest.raises(ConfigError, match="1 of 8 pixels are NaN"):
    pictures.to_uint8(np.array([0.0] * 7 + [np.nan]).reshape(2, 2, 2, 1))


@pytest.mark.parametrize(
  "shape, columns, pad, scale",
  [
    ((6, 4, 5, 1), 3, 1, 2),
    ((7, 3, 2, 3), 4, 2, 1),
    ((5, 2, 2, 1), 1, 0, 3),
    ((2, 2, 3, 3), 5, 1, 1),
    ((1, 1, 1, 1), 1, 0, 1),
  ],
)
def test_a_grid_has_every_pixel_in_its_place(shape, columns, pad, scale):
  images = _random(*shape)
  made = pictures.grid(images, columns, pad, scale)
  assert made.dtype == np.uint8
  np.testing.assert_array_equal(made, _placed(images, columns, pad, scale))


@pytest.mark.parametrize(
  "shape, columns, scale",
  [((10, 8, 8, 1), 4, 4), ((9, 28, 28, 1), 3, 2), ((2, 32, 40, 3), 2, 1), ((5, 20, 50, 3), 3, 2)],
)
def test_by_default_a_grid_is_square_and_its_tiles_can_be_seen(shape, columns, scale):
  images = _random(*shape)
  np.testing.assert_array_equal(pictures.grid(images), _placed(images, columns, 1, scale))


def test_a_strip_has_samples_down_and_time_across():
  steps = _random(5, 3, 4, 6, 3)
  made = pictures.strip(list(steps), pad=2, scale=1)
  assert made.shape == (3 * (4 + 2) + 2, 5 * (6 + 2) + 2, 3)
  for s in range(5):
    for n in range(3):
      tile = made[2 + 6 * n : 6 + 6 * n, 2 + 8 * s : 8 + 8 * s]
      np.testing.assert_array_equal(tile, steps[s, n])
  np.testing.assert_array_equal(pictures.strip(steps, pad=2, scale=1), made)


@pytest.mark.parametrize("channels, colour_type", [(1, 0), (3, 2)])
def test_a_png_reads_back(tmp_path, channels, colour_type):
  image, path = _random(9, 7, channels), tmp_path / "new" / "a.png"
  pictures.save_png(path, image)
  data = path.read_bytes()
  assert data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR"
  assert (int.from_bytes(data[16:20]), int.from_bytes(data[20:24])) == (7, 9)
  assert data[25] == colour_type  # 0 is grey, 2 is RGB
  np.testing.assert_array_equal(np.asarray(Image.open(path)).reshape(9, 7, channels), image)
  assert [file.name for file in path.parent.iterdir()] == ["a.png"]


def test_a_png_that_fails_leaves_the_old_one_and_nothing_else(tmp_path, monkeypatch):
  path = tmp_path / "a.png"
  pictures.save_png(path, _random(4, 4, 1))
  before = path.read_bytes()

  def torn(self, file, format):
    file.write(b"half")
    raise OSError("disk full")

  monkeypatch.setattr(Image.Image, "save", torn)
  with pytest.raises(OSError, match="disk full"):
    pictures.save_png(path, _random(4, 4, 1, seed=1))
  assert path.read_bytes() == before
  assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
  "call",
  [
    lambda path: pictures.grid(np.zeros((2, 4, 4, 1), np.float32)),
    lambda path: pictures.grid(_random(4, 4, 1)),
    lambda path: pictures.grid(_random(0, 4, 4, 1)),
    lambda path: pictures.grid(_random(2, 0, 4, 1)),
    lambda path: pictures.grid(_random(2, 4, 4, 1), columns=0),
    lambda path: pictures.grid(_random(2, 4, 4, 1), scale=0),
    lambda path: pictures.grid(_random(2, 4, 4, 1), pad=-1),
    lambda path: pictures.strip(_random(2, 4, 4, 1)),
    lambda path: pictures.save_png(path, _random(4, 4)),
    lambda path: pictures.save_png(path, _random(4, 4, 2)),
  ],
)
def test_what_is_no_picture_is_an_error(tmp_path, call):
  with pytest.raises(ConfigError):
    call(tmp_path / "a.png")
  assert not list(tmp_path.iterdir())


def test_a_curve_is_drawn_where_its_numbers_are(tmp_path):
  path = tmp_path / "curve.png"
  pictures.curve(path, [0, 1, 2], {"low": [1, 1, 1], "high": [3, 3, 3]}, "step", "loss")
  image = np.asarray(Image.open(path).convert("RGB")).astype(int)
  low, high = (np.abs(image - colour).sum(-1) < 9 for colour in ((31, 119, 180), (255, 127, 14)))
  row_low, row_high = low.sum(1).argmax(), high.sum(1).argmax()
  assert low[row_low].sum() > image.shape[1] / 2 and high[row_high].sum() > image.shape[1] / 2
  assert row_high < row_low - image.shape[0] / 2


def test_pictures_without_a_chart_need_no_matplotlib(monkeypatch):
  monkeypatch.setitem(sys.modules, "matplotlib", None)
  importlib.reload(pictures)
