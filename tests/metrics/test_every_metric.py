"""What every metric keeps to: samples in any order and in any shards, and few of them refused or flagged."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.data import SOURCES
from diffjax.data.captioned import captioned
from diffjax.data.digits import NAMES
from diffjax.data.text import TOKENIZERS
from diffjax.metrics import METRICS, fvd, memorization, perceptual
from diffjax.metrics.inception import CLASSES, Features
from diffjax.metrics.metric import fewest as fewest_of
from diffjax.types import ConfigError, Trained

ORDERED = {"inception_score"}  # dealt to its parts by their place
# Samples that a value needs at least, and up to how many it is flagged: as many as there are features here.
FEWEST = {
  "classifier": (2, 64),
  "fid": (2, 8),
  "sfid": (2, 4),
  "kid": (4, 0),  # two disjoint subsets of two, for its standard error
  "precision_recall": (4, 0),  # a third neighbour
  "density_coverage": (6, 0),  # a fifth
  "inception_score": (10, 0),  # its parts
  "scenes": (1, 0),
  "moving_digits": (1, 0),
  "fvd": (2, 8),
  "zero_shot": (1, 0),
  "clip_score": (1, 0),
  "restoration": (1, 0),
  "retrieval": (2, 0),
  "caption_retrieval": (2, 0),
  "fid_infinity": (4, 0),  # half of them, two, are the smallest subset
}


def project(images):
  """Twelve features of each image, and logits."""
  directions = np.random.Generator(np.random.Philox(0)).normal(size=(64, 12 + CLASSES)) / 100
  out = images.reshape(len(images), -1) @ directions
  pool3, spatial, logits = np.split(out.astype(np.float32), [8, 12], axis=1)
  return Features(pool3, spatial, 20 * logits)


def middle(video):
  """Eight features of each clip: those of the image in its middle."""
  return project(video[:, 8, :, 4:12].reshape(len(video), -1)[:, :64]).pool3


TEMPLATES = ("a {}", "the digit {}")


def of_classes(params, classes):
  """[n, 10] of these classes, with a little of their own."""
  return jnp.eye(10)[classes] + 0.01 * jnp.arange(10)


def as_run(tokenizer):
  """A run that sees a digit's class by its nearest mean, and reads it in a caption."""
  names = [tokenizer([name])[0][1] for name in NAMES]

  def encode(params, images):
    pixels = images.reshape(len(images), -1) / 255
    return of_classes(None, ((pixels[:, None] - params["means"]) ** 2).sum(-1).argmin(1))

  def encode_text(params, text):
    message = (text[:, :, None] == jnp.asarray(names)).any(1)
    return {"pooled": of_classes(None, message.argmax(1))}

  known = SOURCES["digits"](split="train").arrays
  means = [known["image"][known["label"] == digit].reshape(-1, 64).mean(0) / 255 for digit in range(10)]
  can = {"encode": encode, "encode_text": encode_text, "tokenizer": lambda params: tokenizer}
  return Trained("runs/clip", can, {"means": np.stack(means).astype(np.float32)}, "fingerprint")


OF_RUNS = {
  "zero_shot": {"templates": TEMPLATES},
  "retrieval": {},
  "caption_retrieval": {},
  "clip_score": {},
}
OPTIONS = {
  "classifier": {},
  "inception": {"values": perceptual.VALUES, "bootstrap_draws": 2},
  "scenes": {"reference": 200},
  "moving_digits": {"known": 1000, "reference": 200, "compared": 0},
  "fvd": {"known": 200},
  "restoration": {"degradation": "bicubic"},
  **OF_RUNS,
}
size_of = lambda data: len(next(iter(data.values())))
every_metric = pytest.mark.parametrize("name", METRICS)


@pytest.fixture(scope="module")
def metrics(tmp_path_factory):
  """Name -> the metric on digits, with a projection in the place of Inception, and held-out digits as samples."""
  words = TOKENIZERS["words"]
  splits = [captioned(SOURCES["digits"](split=split), TEMPLATES, words) for split in ("train", "test")]
  scenes = [SOURCES["scenes"](split=split, tokenizer=words) for split in ("train", "test")]
  clips = [SOURCES["moving_digits"](split=split) for split in ("train", "test")]
  long = [SOURCES["moving_digits"](split=split, frames=16, count=400) for split in ("train", "test")]
  own = {"scenes": scenes, "moving_digits": clips, "fvd": long}
  run = as_run(splits[0].tokenizer)
  loaded = SimpleNamespace(variables={"params": {"fc": None}}, digest="0123456789abcdef", published=False)
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("DIFFJAX_CACHE", str(tmp_path_factory.mktemp("statistics")))
    patch.setattr(perceptual.inception_weights, "load", lambda path: loaded)
    patch.setattr(perceptual, "extractor", lambda variables, resize, batch_size, parallel: project)
    patch.setattr(fvd.i3d_weights, "load", lambda path: {})
    patch.setattr(fvd, "extractor", lambda variables, parallel, resize, batch_size: middle)
    patch.setattr(perceptual, "DIMENSIONS", {"pool3": 8, "spatial": 4})
    results = {}
    for name, make in METRICS.items():
      data, options = own.get(name, splits), {"run": run} if name in OF_RUNS else {}
      metric = make(*data, None, **OPTIONS[name], **options)
      results[name] = metric, data[1].read(np.arange(min(len(data[1]), 400)))
    yield results


def some(data, rows):
  return {name: value[rows] for name, value in data.items()}


def judged(metric, data):
  request = {name: data[name] for name in ("label", "text") if name in data}
  if "image" in data:
    request["low"] = data["image"][:, ::2, ::2]
  return metric.judge({name: data[name] for name in metric.fields}, request)


def test_all_metrics_are_here():
  assert OPTIONS.keys() == METRICS.keys()
  assert FEWEST.keys() == METRICS.keys() - {"inception"} | {*perceptual.VALUES}


@every_metric
def test_values_are_finite_numbers_and_the_floor_has_their_names(name, metrics):
  metric, samples = metrics[name]
  result = judged(metric, samples)
  assert result and all(isinstance(value, float) and np.isfinite(value) for value in result.values()), result
  assert metric.floor.keys() <= result.keys()
  assert {*metric.fields} <= samples.keys() and metric.settings


@every_metric
def test_features_of_shards_joined_are_those_of_all(name, metrics):
  metric, samples = metrics[name]
  whole = metric.features(samples, samples)
  cuts = [np.arange(0, 100), np.arange(100, 101), np.arange(101, size_of(samples))]
  parts = [metric.features(some(samples, rows), some(samples, rows)) for rows in cuts]
  joined = {key: np.concatenate([part[key] for part in parts]) for key in whole}
  assert all(part.keys() == whole.keys() for part in parts)
  for key, value in whole.items():
    assert len(value) == size_of(samples)
    np.testing.assert_allclose(joined[key], value, rtol=1e-4, atol=1e-4)
  compare(metric.score(joined), metric.score(whole), rtol=1e-4)


@every_metric
def test_the_order_of_the_samples_does_not_matter(name, metrics):
  metric, samples = metrics[name]
  result = judged(metric, samples)
  shuffled = judged(metric, some(samples, np.random.default_rng(0).permutation(size_of(samples))))
  resampled = lambda value: value.endswith(("_low", "_high", "_standard_error"))
  drawn = {"fid_infinity", "kid"}  # means over random subsets, known up to their standard errors
  exact = [value for value in result if not resampled(value) and value not in drawn | ORDERED]
  assert exact
  compare({value: shuffled[value] for value in exact}, {value: result[value] for value in exact}, rtol=1e-4)
  for value in drawn & result.keys():
    error = np.hypot(result[f"{value}_standard_error"], shuffled[f"{value}_standard_error"])
    assert abs(result[value] - shuffled[value]) < 4 * error, value
  for value in ORDERED & result.keys():
    np.testing.assert_allclose(shuffled[value], result[value], rtol=0.1)


def compare(result, want, rtol):
  assert result.keys() == want.keys()
  for value in want:
    np.testing.assert_allclose(result[value], want[value], rtol=rtol, atol=1e-6, err_msg=value)


@every_metric
def test_samples_of_the_data_are_better_than_noise(name, metrics):
  metric, samples = metrics[name]
  (shown,) = {"image", "video"} & samples.keys()
  noise = np.random.default_rng(0).integers(0, 256, samples[shown].shape, np.uint8)
  result, worse = judged(metric, samples), judged(metric, {**samples, shown: noise})
  for value in result:
    if any(part in value for part in ("frechet", "fid", "fvd", "kid")) and "error" not in value:
      assert result[value] < worse[value] and value not in metric.higher + metric.near, value
    better = ("agreement", "precision", "recall", "density", "coverage", "accuracy", "true", "score")
    if value in (*better, "text_of_image_r1"):
      assert result[value] > worse[value] and value in metric.higher, value
    assert value not in memorization.FIGURES or value in metric.near


def test_what_runs_of_clip_see_and_read_is_counted(metrics):
  """Of vectors that `as_run` says, by hand; a digit has two captions, which are as near as each other."""
  data = some(metrics["clip_score"][1], slice(60))
  means = as_run(TOKENIZERS["words"](NAMES)).params["means"]
  gaps = data["image"].reshape(60, 1, 64) / 255 - means
  seen, label = (gaps**2).sum(-1).argmin(1), data["label"]
  assert judged(metrics["zero_shot"][0], data)["accuracy"] == np.mean(seen == label) < 1
  vectors = np.asarray(of_classes(None, np.arange(10)))
  products = 100 * vectors[seen] @ vectors[label].T
  result = judged(metrics["clip_score"][0], data)
  np.testing.assert_allclose(
    (result["score"], result["shuffled"]), (np.diag(products).mean(), products.mean()), rtol=1e-5
  )
  captions = {tuple(row) for row in data["text"].tolist()}
  alike = np.bincount([int(label[(data["text"] == row).all(1).argmax()]) for row in captions], minlength=10)
  first = (seen[:, None] == label) / np.maximum(
    alike[label], 1
  )  # another's caption in the place of one's own
  result = judged(metrics["caption_retrieval"][0], data)
  np.testing.assert_allclose(result["text_of_image_r1"], np.diag(first).mean(), rtol=1e-5)
  np.testing.assert_allclose(result["shuffled_r1"], first.mean(), rtol=1e-5)


@pytest.mark.parametrize("value", FEWEST)
def test_too_few_samples_are_refused_or_flagged(value, metrics):
  metric, samples = metrics.get(value) or (only(value), metrics["inception"][1])
  fewest, flagged = FEWEST[value]
  with pytest.raises(ConfigError, match=str(fewest - 1)):
    judged(metric, some(samples, slice(fewest - 1)))
  options = {} if value in METRICS else {"values": ("fid", value)}
  assert fewest_of(METRICS[value if value in METRICS else "inception"], options) == fewest
  for count in (fewest, flagged, flagged + 1, 200):
    if count >= fewest:
      result = judged(metric, some(samples, slice(count)))
      assert any("rank_deficient" in name for name in result) == (count <= flagged), count


def only(value):
  """The metric "inception" with one value."""
  splits = SOURCES["digits"](split="train"), SOURCES["digits"](split="test")
  return METRICS["inception"](*splits, None, values=(value,), bootstrap_draws=0)
