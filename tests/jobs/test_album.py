"""Pictures of a run: captions in words, what training is fed, the nearest training images."""

import types

import numpy as np
import pytest

from configs import digits
from diffjax import experiment
from diffjax.data import order
from diffjax.data.source import ArraySource, Field
from diffjax.jobs import album
from diffjax.machine import parallel, pictures


class Words:
  def text(self, tokens):
    return "-".join(str(token) for token in tokens)


def test_captions_are_texts_or_names_or_numbers():
  label, text = np.array([1, 0]), np.array([[4, 5], [6, 7]])
  plain, named = Field((), "int32", 2), Field((), "int32", 2, ("cat", "dog"))
  words = Field((2,), "int32", 9, tokenizer=Words())
  assert album.captions({"label": label}, {"label": plain}) == ["1", "0"]
  assert album.captions({"label": label}, {"label": named}) == ["dog", "cat"]
  assert album.captions({"label": label, "text": text}, {"label": named, "text": words}) == ["4-5", "6-7"]
  assert album.captions({"index": label}, {"label": named}) is None
  assert album.captions({"image": label}, {"image": Field((8, 8, 1), "uint8")}) is None


def test_a_strip_has_the_requests_of_its_samples():
  xt, estimates = np.random.default_rng(0).integers(0, 256, (2, 3, 2, 8, 8, 1)).astype(np.uint8)
  titles, label = ["t = 1", "t = 0.5", "t = 0"], {"label": np.array([1, 0, 1, 1])}
  walked = album.walk((xt, estimates, titles), label, {"label": Field((), "int32", 2, ("cat", "dog"))})
  np.testing.assert_array_equal(walked, pictures.walk(xt, estimates, titles, ["dog", "cat"]))
  np.testing.assert_array_equal(
    album.walk((xt, estimates, titles), {}, {}), pictures.walk(xt, estimates, titles)
  )


def test_the_nearest_training_image_stands_below_each_sample():
  rng = np.random.default_rng(0)
  images, samples = (rng.integers(0, 256, (n, 8, 8, 3)).astype(np.uint8) for n in (2500, 5))
  samples[2] = images[2400]  # in the last batch that is read
  gaps = (samples[:, None].astype(float) - images[None]) ** 2
  expected = images[gaps.sum((2, 3, 4)).argmin(1)]
  seen = album.nearest(samples, ArraySource({"picture": images}, "f"))
  line = np.full((5, 1, 8, 3), pictures.BACKGROUND, np.uint8)
  np.testing.assert_array_equal(
    seen, pictures.grid(np.concatenate([samples, line, expected], axis=1), columns=5)
  )
  np.testing.assert_array_equal(expected[2], samples[2])
  assert album.nearest(samples, ArraySource({"picture": images[:, :4]}, "f")) is None


def test_the_nearest_training_video_stands_below_each_sample():
  videos = np.random.default_rng(0).integers(0, 256, (20, 3, 4, 4, 1)).astype(np.uint8)
  line = np.full((2, 3, 1, 4, 1), pictures.BACKGROUND, np.uint8)
  expected = np.concatenate([videos[[7, 3]], line, videos[[7, 3]]], axis=2)
  seen = album.nearest(videos[[7, 3]], ArraySource({"video": videos}, "f"))
  np.testing.assert_array_equal(seen, pictures.grid(expected, columns=2))
  label = {"label": np.array([1, 0])}
  words = pictures.captioned(videos[:2], ["1", "0"])
  np.testing.assert_array_equal(album.sheet(videos[:2], label, {"label": Field((), "int32", 2)}), words)


@pytest.mark.parametrize("augment", ["none", "flip"])
def test_what_is_fed_is_what_the_first_step_sees(augment, monkeypatch):
  shown = {}
  monkeypatch.setattr(
    album, "sheet", lambda images, request, fields: shown.update(images=images, request=request)
  )
  config = digits.get_config()
  config.data.augment, config.train.batch_size = augment, 24
  source = experiment.source(config, "train")
  parts = experiment.create(config, source.fields)
  devices = parallel.create()
  run = types.SimpleNamespace(
    config=config, experiment=parts, parallel=devices, data=source, source=source, fields=source.fields
  )
  album.fed(run)
  rows = order.indices(config.seed, 0, 24, len(source))
  images = source.read(rows, ("image",))["image"]
  np.testing.assert_array_equal(shown["request"]["label"], source.read(rows, ("label",))["label"])
  same = (shown["images"] == images).all((1, 2, 3))
  mirrored = (shown["images"] == images[:, :, ::-1]).all((1, 2, 3))
  assert np.all(same | mirrored)
  assert same.all() if augment == "none" else 0 < mirrored.sum() < 24
