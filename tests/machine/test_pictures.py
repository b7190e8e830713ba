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
  picture = pictures.to_uint8(x)
  assert picture.dtype == np.uint8 and picture.shape == x.shape
  assert np.abs(picture - (x + 1) * 127.5).max() <= 0.5 + 1e-4
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
  picture = pictures.grid(images, columns, pad, scale)
  assert picture.dtype == np.uint8
  np.testing.assert_array_equal(picture, _placed(images, columns, pad, scale))


@pytest.mark.parametrize(
  "shape, columns, scale",
  [((10, 8, 8, 1), 4, 8), ((9, 28, 28, 1), 3, 3), ((2, 64, 70, 3), 2, 1), ((5, 40, 50, 3), 3, 2)],
)
def test_by_default_a_grid_is_square_and_its_tiles_can_be_seen(shape, columns, scale):
  images = _random(*shape)
  np.testing.assert_array_equal(pictures.grid(images), _placed(images, columns, 1, scale))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_walk_has_time_across_and_below_every_sample_what_it_would_be(channels):
  seen, estimates = _random(5, 3, 64, 70, channels), _random(5, 3, 64, 70, channels, seed=1)
  picture = pictures.walk(seen, estimates, [f"t = {k}" for k in range(5)])
  sheet = picture[-(6 * 65 + 1) :, -(5 * 71 + 1) :]
  for s in range(5):
    for n in range(3):
      for row, rows in enumerate((seen, estimates)):
        top, left = 1 + 65 * (2 * n + row), 1 + 71 * s
        np.testing.assert_array_equal(sheet[top : top + 64, left : left + 70], rows[s, n])
  head, side = picture[: -len(sheet)], picture[:, : -sheet.shape[1]]
  assert head.min() < 64 and side.min() < 64  # written upon
  assert np.all(picture[: len(head), : side.shape[1]] == 255)
  # Rows and captions stand left of the sheet, the same words for every sample.
  captions = pictures.walk(seen, estimates, [f"t = {k}" for k in range(5)], ["seven", "", "seven"])
  np.testing.assert_array_equal(captions[:, -picture.shape[1] :], picture)
  rows = np.split(captions[len(head) : -1, : -picture.shape[1], 0], 3)
  assert np.all(rows[1][1:] == 255) and rows[0][1:].min() < 64
  np.testing.assert_array_equal(rows[0], rows[2])
  names = side[len(head) : -1, :, 0].reshape(3, 2, 65, -1)
  np.testing.assert_array_equal(names[0], names[2])
  assert names[0, 0, 1:].min() < 64 and names[0, 1].min() < 64 and np.any(names[0, 0] != names[0, 1])


def test_a_walk_without_noise_on_the_way_is_drawn_once():
  seen = _random(5, 3, 64, 70, 1)
  titles = [f"t = {k}" for k in range(5)]
  whole = pictures.walk(seen, seen, titles)
  sheet = whole[-(3 * 65 + 1) :, -(5 * 71 + 1) :]
  named = pictures.walk(seen, seen, titles, ["seven"] * 3)  # its caption in the place of "x0"
  assert (
    named.shape[1] == sheet.shape[1] + pictures.TILE and whole.shape[1] == sheet.shape[1] + pictures.GUTTER
  )
  np.testing.assert_array_equal(sheet[1 + 65 : 65 + 65, 1 + 71 * 4 : 71 + 71 * 4], seen[4, 1])
  both = pictures.walk(seen, _random(5, 3, 64, 70, 1, seed=1), [f"t = {k}" for k in range(5)])
  assert len(both) - len(sheet) > 3 * 65


def test_captions_stand_under_their_images():
  images = _random(3, 8, 8, 1)
  picture = pictures.captioned(images, ["7", "", "7"], columns=3)
  tiles = [picture[1:, 1 + 65 * k : 65 + 65 * k, 0] for k in range(3)]
  for tile, image in zip(tiles, images, strict=True):
    np.testing.assert_array_equal(tile[:64], image[..., 0].repeat(8, 0).repeat(8, 1))
  one, none, same = (tile[64:-1] for tile in tiles)
  assert np.all(none == 255) and one.min() < 64
  np.testing.assert_array_equal(one, same)
  long = pictures.captioned(images, ["a two above a seven " * 9] * 3, columns=3)
  assert long.shape[0] > picture.shape[0] + 32  # larger, and of several lines


def test_a_video_is_a_strip_wherever_a_picture_is_asked_for():
  videos = _random(3, 4, 6, 5, 1)
  strips = pictures.strips(videos)
  assert strips.shape == (3, 6, 4 * 6 - 1, 1)
  for t in range(4):
    np.testing.assert_array_equal(strips[:, :, 6 * t : 6 * t + 5], videos[:, t])
  assert np.all(np.delete(strips, np.r_[[np.arange(6 * t, 6 * t + 5) for t in range(4)]].ravel(), 2) == 128)
  np.testing.assert_array_equal(pictures.strips(strips), strips)
  # As square as can be: a strip is four times as wide as it is high.
  np.testing.assert_array_equal(pictures.grid(videos), _placed(strips, 1, 1, 11))
  words = ["one", "two", "three"]
  np.testing.assert_array_equal(pictures.captioned(videos, words), pictures.captioned(strips, words, 1))


def test_a_walk_of_videos_goes_downwards_its_estimates_at_the_right():
  seen, estimates = _random(3, 2, 2, 16, 9, 1), _random(3, 2, 2, 16, 9, 1, seed=1)
  titles = [f"t = {k}" for k in range(3)]
  picture = pictures.walk(seen, estimates, titles, ["seven"] * 2)
  pairs = [each[s, n] for n in range(2) for s in range(3) for each in (seen, estimates)]
  sheet = _placed(pictures.strips(np.stack(pairs)), 2, 1, 4)
  np.testing.assert_array_equal(picture[-len(sheet) :, -sheet.shape[1] :], sheet)
  names = picture[-len(sheet) : -1, pictures.TILE : -sheet.shape[1], 0].reshape(2, 3, 65, pictures.GUTTER)
  np.testing.assert_array_equal(names[0], names[1])
  assert names[0, 0, 1:].min() < 64 and np.any(names[0, 0, 1:] != names[0, 1, 1:])
  once = pictures.walk(seen, seen, titles)
  assert once.shape[1] == pictures.GUTTER + sheet.shape[1] // 2 + 1


@pytest.mark.parametrize("channels", [1, 3])
def test_a_gif_plays_every_frame(tmp_path, channels):
  videos = (_random(4, 3, 8, 8, 1) // 64 * 80).repeat(channels, -1)  # few enough colours for a palette
  pictures.save_gif(tmp_path / "a.gif", videos, frames_per_second=5)
  film = Image.open(tmp_path / "a.gif")
  assert film.n_frames == 3 and film.info["loop"] == 0 and film.info["duration"] == 200
  for t in range(3):
    film.seek(t)
    seen, want = np.asarray(film.convert("RGB")), pictures.grid(videos[:, t])
    np.testing.assert_array_equal(seen, np.broadcast_to(want, seen.shape))


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
    lambda path: pictures.walk(_random(2, 4, 4, 1), _random(2, 4, 4, 1), ["", ""]),
    lambda path: pictures.save_png(path, _random(4, 4)),
    lambda path: pictures.save_png(path, _random(4, 4, 2)),
  ],
)
def test_what_is_no_picture_is_an_error(tmp_path, call):
  with pytest.raises(ConfigError):
    call(tmp_path / "a.png")
  assert not list(tmp_path.iterdir())


def test_pictures_need_no_matplotlib(monkeypatch):
  monkeypatch.setitem(sys.modules, "matplotlib", None)
  importlib.reload(pictures)
