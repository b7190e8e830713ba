"""Moving digits against their laws, each clip drawn a second time digit by digit and pixel by pixel."""

import numpy as np
import pytest

from diffjax.data import SOURCES
from diffjax.data.digits import digits
from diffjax.types import ConfigError

make = SOURCES["moving_digits"]


def centroids(video):
  """[n, T, 2] of grey values, down and right."""
  grey, place = video[..., 0].astype(float), np.arange(video.shape[2])
  ink = grey.sum((2, 3))
  return np.stack([(grey.sum(3) * place).sum(2) / ink, (grey.sum(2) * place).sum(2) / ink], -1)


def bounced(place, velocity, room, frames):
  """One coordinate of a path by small steps that turn at the walls, [T]."""
  path, fine = [place], 1000
  for _ in range(frames - 1):
    for _ in range(fine):
      place += velocity / fine
      if not 0 <= place <= room:
        velocity, place = -velocity, np.clip(place, 0, room)
    path.append(place)
  return np.array(path)


@pytest.mark.parametrize("split", ["train", "test"])
def test_clips_keep_their_laws(split):
  source = make(split)
  data = source.read(np.arange(100, 140))
  speed = np.hypot(*data["velocity"].T)
  assert speed.min() >= 0.6 and speed.max() <= 1.8 and abs(speed.mean() - 1.2) < 0.2
  middle = centroids(data["video"])
  for i in range(40):
    path = np.stack(
      [bounced(*each, 8, 8) for each in zip(data["place"][i], data["velocity"][i], strict=True)], 1
    )
    away = middle[i] - path  # the centroid of the scan, the same in every frame
    assert np.ptp(away, axis=0).max() < 0.1
  ink = data["video"].sum((2, 3, 4)).astype(float)
  np.testing.assert_allclose(ink, ink[:, :1] * np.ones(8), rtol=0.01)


def test_a_digit_is_drawn_between_pixels():
  source = make("test", digits=2, size=20, frames=3)
  paths = source.paths(np.arange(5))
  video, scans = source.read(np.arange(5), ("video",))["video"], digits("test").arrays["image"][..., 0]
  for n, t in np.ndindex(5, 3):
    canvas = np.zeros((2, 20, 20))
    for k in range(2):
      down, right = paths.places[n, t, k]
      for y, x in np.ndindex(20, 20):  # of every pixel the share that each pixel of the scan covers
        cover = np.maximum(0, 1 - np.abs(y - down - np.arange(8)))[:, None] * np.maximum(
          0, 1 - np.abs(x - right - np.arange(8))
        )
        canvas[k, y, x] = (cover * scans[paths.scans[n, t, k]]).sum()
    np.testing.assert_allclose(video[n, t, ..., 0], canvas.max(0), atol=0.5 + 1e-9)


def test_labels_are_of_the_scans_that_are_shown():
  source, scans = make("train", slowest=0, fastest=0), digits("train").arrays
  data, paths = source.read(np.arange(8)), source.paths(np.arange(8))
  assert (np.ptp(data["video"], axis=1) == 0).all()
  np.testing.assert_array_equal(scans["label"][paths.scans[:, 0, 0]], data["label"])
  assert len(np.unique(data["label"])) > 3
  two = make("train", digits=2)
  assert two.fields["label"].shape == (2,) and two.read(np.arange(3))["velocity"].shape == (3, 4)


def test_stills_show_one_class_wherever_they_like():
  source, scans = make("train", stills=0.5), digits("train").arrays
  paths, data = source.paths(np.arange(200)), source.read(np.arange(200))
  still = data["moving"] == 0
  assert 70 < still.sum() < 130
  labels = scans["label"][paths.scans[..., 0]]
  np.testing.assert_array_equal(labels, np.broadcast_to(data["label"][:, None], labels.shape))
  steps = np.abs(np.diff(paths.places[..., 0, :], axis=1)).max((1, 2))
  assert (steps[~still] <= 1.8).all() and (steps[still] > 1.8).mean() > 0.95
  assert (data["velocity"][still] == 0).all() and (paths.scans[still].std(1) > 0).all()
  assert (make("test", stills=0.5).read(np.arange(100))["moving"] == 1).all()


def test_a_clip_depends_on_its_number_alone():
  source = make("train", frames=4)
  several = source.read(np.array([7, 2, 900_000]))["video"]
  np.testing.assert_array_equal(several[0], source.read(np.array([7]))["video"][0])
  assert (several[0] != several[2]).any()
  np.testing.assert_array_equal(make("train", frames=8).read(np.array([7]))["video"][0, :4], several[0])


def test_options_that_leave_nothing_to_move():
  with pytest.raises(ConfigError, match="size is 8"):
    make("train", size=8)
  with pytest.raises(ConfigError, match="slowest is 2"):
    make("train", slowest=2.0)
