"""Moving digits against their laws, each clip drawn a second time digit by digit and pixel by pixel."""

import numpy as np
import pytest

from diffjax.data import SOURCES
from diffjax.data.digits import NAMES, digits
from diffjax.data.text import TOKENIZERS
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


def test_captions_say_what_moves_and_how():
  source = make("train", captions=True, tokenizer=TOKENIZERS["words"], stills=0.3)
  data, seen = source.read(np.arange(60)), set()
  for i in range(60):
    down, right = data["velocity"][i]
    angle = np.degrees(np.arctan2(-down, right))  # as a compass of the page has it
    way = f" moving {('right', 'up', 'left', 'down')[round(angle / 90) % 4]}" if data["moving"][i] else ""
    message = source.tokenizer.text(data["text"][i])
    assert message == f"a {NAMES[data['label'][i]]}{way}"
    seen.add(way)
  assert len(seen) == 5
  plain = make("train", stills=0.3)
  assert "text" not in plain.fields and plain.fingerprint != source.fingerprint
  np.testing.assert_array_equal(plain.read(np.arange(60))["video"], data["video"])
  two = make("test", captions=True, tokenizer=TOKENIZERS["words"], digits=2, frames=16, size=32)
  read = two.read(np.arange(3))
  first, second = (NAMES[label] for label in read["label"][1])
  message = two.tokenizer.text(read["text"][1]).split()
  assert read["video"].shape == (3, 16, 32, 32, 1)
  assert (message[1], message[4], message[6], len(message)) == (first, "and", second, 9)
  still = make("test", captions=True, tokenizer=TOKENIZERS["words"], slowest=0, fastest=0)
  assert len(still.tokenizer.text(still.read(np.arange(2))["text"][0]).split()) == 2


def test_other_digits_come_from_a_file(tmp_path):
  images = np.random.default_rng(0).integers(1, 256, (20, 12, 12), np.uint8)
  label = np.arange(20) % 10
  np.savez(
    tmp_path / "set.npz", train_image=images, train_label=label, test_image=images[:5], test_label=label[:5]
  )
  given = {"size": 20, "frames": 3, "slowest": 0, "fastest": 0, "path": str(tmp_path / "set.npz")}
  source = make("test", **given)
  data, paths = source.read(np.arange(4)), source.paths(np.arange(4))
  np.testing.assert_array_equal(data["label"], label[paths.scans[:, 0, 0]])
  assert paths.scans.max() < 5 and data["place"].max() > 1
  ink = data["video"].sum((2, 3, 4)).astype(float)
  np.testing.assert_allclose(ink[:, 0], images[paths.scans[:, 0, 0]].sum((1, 2)), rtol=0.01)
  with pytest.raises(ConfigError, match="size is 12; a digit of 12 x 12 pixels needs more"):
    make("train", **(given | {"size": 12}))
  with pytest.raises(ConfigError, match="path is .*, which has no array 'train_image' but image"):
    np.savez(tmp_path / "set.npz", image=images)
    make("train", **given)
  with pytest.raises(ConfigError, match=r"whose train examples are image \[12, 10, 1\].*square grey images"):
    np.savez(tmp_path / "set.npz", train_image=images[..., :10], train_label=label)
    make("train", **given)


def test_options_that_leave_nothing_to_move():
  with pytest.raises(ConfigError, match="size is 8"):
    make("train", size=8)
  with pytest.raises(ConfigError, match="slowest is 2"):
    make("train", slowest=2.0)
