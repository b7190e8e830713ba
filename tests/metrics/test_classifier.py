"""The small classifier on held-out digits, and its features under the Fréchet distance."""

import hashlib
import subprocess
import sys

import jax
import numpy as np
import pytest
import scipy.ndimage

from diffjax.data.digits import digits
from diffjax.metrics import classifier as room
from diffjax.metrics.classifier import Network, PatchConv, train_classifier
from diffjax.metrics.frechet import frechet_distance
from diffjax.metrics.moments import Moments
from diffjax.types import ConfigError


def _split(name):
  source = digits(name)
  rows = source.read(np.arange(len(source)))
  return rows["image"], rows["label"]


@pytest.fixture(scope="module")
def train():
  return _split("train")


@pytest.fixture(scope="module")
def held():
  return _split("test")


@pytest.fixture(scope="module")
def trained(train):
  return train_classifier(*train, num_classes=10)


def _moments(classifier, images):
  return Moments.empty(64).add(classifier.features(images))


def test_held_out_digits_are_read(trained, held):
  images, labels = held
  assert trained.accuracy(images, labels) >= 0.985
  right = sum(int(p) == int(y) for p, y in zip(trained.predict(images), labels, strict=True))
  assert trained.accuracy(images, labels) == right / len(labels)


def test_shuffled_labels_are_read_at_chance(trained, held):
  images, labels = held
  shuffled = np.random.default_rng(0).permutation(labels)
  assert abs(trained.accuracy(images, shuffled) - 0.1) < 0.06


def test_features_do_not_depend_on_the_batch(trained, train):
  images = train[0][: room.EVALUATION_BATCH + 3]
  features = trained.features(images)
  assert features.shape == (len(images), 64) and features.dtype == np.float32
  np.testing.assert_allclose(trained.features(images[-2:]), features[-2:], atol=1e-4)
  np.testing.assert_allclose(trained.features(images[::-1])[::-1], features, atol=1e-4)
  assert trained.features(images[:0]).shape == (0, 64)
  assert trained.predict(images[:0]).shape == (0,)


def test_every_feature_is_alive(trained, train):
  features = trained.features(train[0])
  assert features.std(axis=0).min() > 0.05
  eigenvalues = np.linalg.eigvalsh(_moments(trained, train[0]).covariance)
  assert eigenvalues.min() > 1e-6 * eigenvalues.max()


def test_the_distance_sees_corruptions_and_not_the_order(trained, train, held):
  images = train[0]
  data = _moments(trained, images)
  floor = frechet_distance(data, _moments(trained, held[0]))
  noise = np.random.default_rng(1).normal(size=images.shape)

  def distance(changed):
    return frechet_distance(data, _moments(trained, np.clip(np.round(changed), 0, 255).astype(np.uint8)))

  blurs = [distance(scipy.ndimage.gaussian_filter(images.astype(float), (0, s, s, 0))) for s in (0.4, 0.6, 1)]
  noises = [distance(images + s * noise) for s in (10, 30, 60)]
  assert blurs == sorted(blurs) and blurs[1] > 5 * floor
  assert noises == sorted(noises) and noises[1] > floor and noises[2] > 5 * floor
  assert distance(images[train[1] != 3]) > 2 * floor
  assert distance(images[np.random.default_rng(2).permutation(len(images))]) < 1e-6 * floor


SHORT = """
import hashlib, numpy as np
from diffjax.metrics import classifier as room
room.STEPS = 3
images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
found = room.train_classifier(images, np.arange(40) % 10, 10, seed=5)
print(hashlib.sha256(found.features(images).tobytes()).hexdigest())
"""


def test_the_same_images_give_the_same_numbers_here_and_in_a_new_process(monkeypatch):
  monkeypatch.setattr(room, "STEPS", 3)
  for name in ("_train", "_apply"):  # compiled as there: conftest.py has them optimised
    monkeypatch.setattr(room, name, jax.jit(getattr(room, name).__wrapped__, static_argnums=0))
  images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)

  def digest(seed):
    result = train_classifier(images, np.arange(40) % 10, 10, seed=seed)
    return hashlib.sha256(result.features(images).tobytes()).hexdigest()

  assert digest(5) == digest(5) != digest(6)
  child = subprocess.run([sys.executable, "-c", SHORT], capture_output=True, text=True, check=True)
  assert child.stdout.strip() == digest(5)


@pytest.mark.parametrize("stride", [1, 2])
def test_patches_are_a_convolution(stride):
  rng = np.random.default_rng(3)
  x = rng.normal(size=(2, 7, 6, 3)).astype(np.float32)
  kernel, bias = rng.normal(size=(3, 3, 3, 5)).astype(np.float32), rng.normal(size=5).astype(np.float32)
  params = {"Dense_0": {"kernel": kernel.reshape(27, 5), "bias": bias}}
  got = PatchConv(5, stride).apply({"params": params}, x)
  truth = np.stack(
    [
      sum(scipy.ndimage.correlate(x[:, :, :, c], kernel[None, :, :, c, f], mode="constant") for c in range(3))
      for f in range(5)
    ],
    axis=-1,
  )
  np.testing.assert_allclose(got, truth[:, ::stride, ::stride] + bias, atol=1e-4)


def test_shifts_move_the_picture():
  images = np.random.default_rng(4).integers(0, 256, (9, 5, 6, 2), dtype=np.uint8)
  shifts = np.array([(i, j) for i in range(3) for j in range(3)])
  got = np.asarray(room._shifted(images, shifts))
  rows, columns = np.arange(5), np.arange(6)
  for n, (down, right) in enumerate(shifts - 1):
    truth = images[n][np.clip(rows - down, 0, 4)][:, np.clip(columns - right, 0, 5)]
    np.testing.assert_array_equal(got[n], truth)


def test_the_order_is_made_of_whole_epochs():
  order, shifts = room._plan(100, seed=0)
  assert order.shape == (room.STEPS, room.BATCH) and shifts.shape == (room.STEPS, room.BATCH, 2)
  for epoch in order.ravel()[:1000].reshape(10, 100):
    np.testing.assert_array_equal(np.sort(epoch), np.arange(100))
  np.testing.assert_array_equal(np.unique(shifts), [0, 1, 2])


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 7, 3), (28, 28, 1), (33, 32, 3)])
def test_images_of_any_size(shape):
  images = np.zeros((2, *shape), np.uint8)
  (features, logits), _ = jax.eval_shape(Network(7).init_with_output, jax.random.key(0), images)
  assert features.shape == (2, 64) and logits.shape == (2, 7)


@pytest.mark.parametrize(
  "images, labels, message",
  [
    (np.zeros((4, 8, 8, 1), np.float32), np.zeros(4, int), r"float32 \[4, 8, 8, 1\]; they must be uint8"),
    (np.zeros((4, 8, 8), np.uint8), np.zeros(4, int), r"\[4, 8, 8\]; they must be uint8 \[N, H, W, C\]"),
    (np.zeros((4, 8, 8, 1), np.uint8), np.zeros(3, int), r"must be integers \[4\]"),
    (np.zeros((4, 8, 8, 1), np.uint8), np.zeros(4), r"float64 .* must be integers"),
    (np.zeros((4, 8, 8, 1), np.uint8), np.arange(4), r"0 to 3; with 3 classes"),
    (np.zeros((0, 8, 8, 1), np.uint8), np.zeros(0, int), "0 images"),
  ],
)
def test_bad_training_sets_raise(images, labels, message):
  with pytest.raises(ConfigError, match=message):
    train_classifier(images, labels, 3)


def test_other_images_raise(trained):
  with pytest.raises(ConfigError, match=r"\[2, 9, 8, 1\]; they must be uint8 \[N, 8, 8, 1\]"):
    trained.predict(np.zeros((2, 9, 8, 1), np.uint8))
