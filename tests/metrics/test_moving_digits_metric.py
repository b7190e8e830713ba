"""The metric "moving_digits" under known damage: what each figure sees, and what it is blind to."""

import numpy as np
import pytest

from diffjax.data import SOURCES
from diffjax.data.digits import digits
from diffjax.data.moving_digits import fold
from diffjax.metrics import METRICS, classifier
from diffjax.metrics.moving_digits import centroids, crops, paths, score
from diffjax.types import ConfigError
from experiments.video import damaged

COUNT, MANY = 128, 192
SEEN = ("held out", "any digit", "noise 0.1", "noise 0.2")
make = SOURCES["moving_digits"]


def test_each_figure_sees_its_damage_and_no_other():
  train, test = make("train"), make("test")
  metric, data = (
    METRICS["moving_digits"](train, test, None, reference=COUNT, compared=0),
    test.read(np.arange(COUNT)),
  )
  clips = damaged(test, np.arange(COUNT))
  results = {kind: metric.judge({"video": video}, data) for kind, video in clips.items()}
  at = lambda name, *kinds: [results[kind][name] for kind in kinds]
  assert metric.floor == pytest.approx(results["held out"])
  real = results["held out"]
  # Motion: the error of a path of e pixels a coordinate is sqrt(2) e, less what the fit takes up.
  assert real["trajectory"] < 0.1 and real["trajectory_p90"] < 0.15
  assert 0.2 < results["jitter 0.25"]["trajectory"] < 0.25 * 2**0.5
  assert 0.4 < results["jitter 0.5"]["trajectory"] < 0.5 * 2**0.5
  assert min(at("trajectory", "shuffled", "walk")) > 0.5
  assert (
    results["frozen"]["trajectory"] < 0.1 and results["frozen"]["speed"] < 0.05
  )  # passes but for its speed
  assert real["speed"] == pytest.approx(np.hypot(*data["velocity"].T).mean(), abs=0.05)
  # Who it is.
  assert real["identity"] > 0.93 and real["agreement"] > 0.9
  assert results["any digit"]["identity"] < 0.45 and results["any digit"]["agreement"] < 0.2
  moved = ("shuffled", "walk", "jitter 0.5")
  assert min(at("agreement", *moved, "frozen", "same class")) > 0.9
  # That it stays the same: blind to motion, not to another scan of the class.
  assert max(at("look", "held out", *moved)) < 12
  assert results["frozen"]["look"] == 0 and min(at("look", "same class", "any digit")) > 2 * real["look"]
  assert max(at("mass", "held out", *moved)) < 0.005 < 0.02 < min(at("mass", "same class", "noise 0.1"))


def test_the_distance_sees_appearance_and_its_floor_is_of_other_clips(monkeypatch):
  monkeypatch.setattr(classifier, "STEPS", 12)  # any smooth features do
  train, test = make("train", frames=3, size=10), make("test", frames=3, size=10)
  metric = METRICS["moving_digits"](train, test, None, known=256, reference=8, compared=MANY)
  index = np.arange(MANY)
  data, name = test.read(index), f"frechet_{MANY}"
  clips = damaged(test, index)
  judged = {kind: metric.judge({"video": clips[kind]}, data)[name] for kind in SEEN}
  assert judged["held out"] == pytest.approx(0, abs=1e-3)  # to themselves
  floor = metric.floor_at(MANY)[name]
  assert 0 < floor < judged["noise 0.1"] < judged["noise 0.2"] and judged["any digit"] > 2 * floor
  others = train.read(256 + index)
  assert floor == pytest.approx(metric.judge({"video": others["video"]}, others)[name])
  assert "frechet_1" not in metric.judge({"video": data["video"][:1]}, {"label": data["label"][:1]})


@pytest.mark.parametrize("frames, room", [(8, 8), (24, 4)])
def test_paths_are_found_through_their_bounces(frames, room):
  rng = np.random.default_rng(0)
  begin, velocity, offset = (
    rng.uniform(0, room, (40, 2)),
    rng.uniform(-1.2, 1.2, (40, 2)),
    rng.uniform(3, 4, (40, 2)),
  )
  places = fold(begin[:, None] + np.arange(frames)[:, None] * velocity[:, None], room) + offset[:, None]
  error, speed = paths(places, room, 2.7, (3, 4))
  assert np.quantile(error, 0.9) < 0.05
  np.testing.assert_allclose(np.median(np.abs(speed - np.hypot(*velocity.T))), 0, atol=0.03)


def test_crops_stand_about_the_centroid():
  scans = digits("test").arrays["image"][:20]
  video = np.zeros((20, 1, 16, 16, 1), np.uint8)
  video[:, 0, 3:11, 5:13] = scans
  moved = np.roll(video, (2, -3), axis=(2, 3))
  np.testing.assert_array_equal(crops(video, 10), crops(moved, 10))
  inner = np.full((20, 1, 2), 4.5)
  np.testing.assert_allclose(centroids(crops(video, 10)), inner, atol=0.05)
  np.testing.assert_array_equal(centroids(np.zeros((1, 1, 16, 16, 1), np.uint8)), 7.5 * np.ones((1, 1, 2)))


def test_digits_of_another_size_are_judged_by_their_own_room(monkeypatch, tmp_path):
  monkeypatch.setattr(classifier, "STEPS", 12)
  scans = {split: digits(split).arrays for split in ("train", "test")}
  images = {
    f"{split}_image": np.kron(each["image"][..., 0], np.ones((2, 2))) for split, each in scans.items()
  }
  labels = {f"{split}_label": each["label"] for split, each in scans.items()}
  np.savez(tmp_path / "large.npz", **{name: each.astype(np.uint8) for name, each in images.items()}, **labels)
  given = {"path": str(tmp_path / "large.npz"), "size": 48, "frames": 6, "slowest": 2.0, "fastest": 3.0}
  train, test = make("train", **given), make("test", **given)
  assert train.read(np.arange(12), ("place",))["place"].max() < 31  # though there is room of 32 pixels
  metric = METRICS["moving_digits"](train, test, None, known=12, reference=32, compared=0)
  velocity = test.read(np.arange(32))["velocity"]
  assert metric.floor["trajectory_p90"] < 0.1
  assert metric.floor["speed"] == pytest.approx(np.hypot(*velocity.T).mean(), abs=0.05)


def test_other_data_and_no_samples_are_refused():
  two = make("train", digits=2), make("test", digits=2)
  for splits in (two, (digits("train"), digits("test"))):
    with pytest.raises(ConfigError, match="needs the source 'moving_digits'"):
      METRICS["moving_digits"](*splits, None)
  with pytest.raises(ConfigError, match="at least 1 sample"):
    score({"trajectory": np.zeros(0)})
