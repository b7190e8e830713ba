"""What every augmentation keeps to: shape and type, an example's own key, labels that say when nothing was done."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import keys
from diffjax.data.augment import AUGMENTATIONS
from diffjax.types import ConfigError

COUNT = 24
IMAGES = np.random.default_rng(0).uniform(-1, 1, (COUNT, 6, 8, 3)).astype(np.float32)
VIDEOS = np.random.default_rng(1).uniform(-1, 1, (COUNT, 3, 4, 6, 1)).astype(np.float32)
VECTORS = np.random.default_rng(2).uniform(-1, 1, (COUNT, 5)).astype(np.float32)
MADE = {name: make(**({"size": 4} if name == "crop" else {})) for name, make in AUGMENTATIONS.items()}
MADE["nonleaking-often"] = AUGMENTATIONS["nonleaking"](0.9)
TAKES = {
  "none": 3,
  "flip": 2,
  "shift": 2,
  "crop": 2,
  "nonleaking": 1,
  "nonleaking-often": 1,
}  # of images, videos and vectors the first
every_augmentation = pytest.mark.parametrize("name", MADE)


# Compiles in half the time of jax.jit, and images this few run no slower.
@functools.partial(jax.jit, static_argnums=0)
def run(name, key, x0, index):
  return MADE[name].apply(x0, keys.Draws(key, index, COUNT))


def applied(name, x0=IMAGES, index=None, seed=3):
  x0, value = run(name, keys.seed(seed), x0, jnp.arange(len(x0)) if index is None else index)
  return np.asarray(x0), None if value is None else np.asarray(value)


def test_all_augmentations_are_here():
  assert TAKES.keys() == MADE.keys() >= AUGMENTATIONS.keys()


@every_augmentation
def test_shape_and_type_stay_and_the_labels_are_as_announced(name):
  for data in (IMAGES, VIDEOS, VECTORS)[: TAKES[name]]:
    out, value = applied(name, data)
    assert out.dtype == data.dtype and np.isfinite(out).all()
    assert out.shape == ((*data.shape[:-3], 4, 4, data.shape[-1]) if name == "crop" else data.shape)
    if MADE[name].planes:
      assert value.shape == (*out.shape[:-1], MADE[name].labels) and value.dtype == np.float32
    elif MADE[name].labels:
      assert value.shape == (COUNT, MADE[name].labels) and value.dtype == np.float32
    else:
      assert value is None


@every_augmentation
def test_an_example_is_changed_by_its_own_key_alone(name):
  out, value = applied(name)
  rows = np.array([11, 2, 7, 2])
  part, part_told = applied(name, IMAGES[rows], jnp.asarray(rows))
  np.testing.assert_allclose(part, out[rows], atol=1e-5)
  other = IMAGES.copy()
  other[3] = other[3][::-1] / 2
  changed, _ = applied(name, other)
  np.testing.assert_array_equal(np.delete(changed, 3, axis=0), np.delete(out, 3, axis=0))
  if value is not None:
    np.testing.assert_array_equal(part_told, value[rows])


@every_augmentation
def test_the_same_image_is_changed_otherwise_for_another_example_and_another_seed(name):
  same = np.broadcast_to(IMAGES[:1], IMAGES.shape)
  out, value = applied(name, same)
  again, _ = applied(name, same)
  np.testing.assert_array_equal(again, out)
  ways = len(np.unique(out, axis=0))
  if name == "none":
    return np.testing.assert_array_equal(out, same)
  assert ways > 1
  assert np.any(applied(name, same, seed=4)[0] != out)
  if value is not None and not MADE[name].planes:
    still = (value == 0).all(1)
    np.testing.assert_array_equal((out == same).all((1, 2, 3)), still)


@every_augmentation
def test_other_data_are_refused(name):
  for data in (IMAGES, VIDEOS, VECTORS)[TAKES[name] :]:
    with pytest.raises(ConfigError, match="images"):
      applied(name, data)


def test_a_video_is_mirrored_as_a_whole_in_its_width():
  out, _ = applied("flip", VIDEOS)
  mirrored = (out == VIDEOS[:, :, :, ::-1]).all((1, 2, 3, 4))
  np.testing.assert_array_equal(mirrored, ~(out == VIDEOS).all((1, 2, 3, 4)))
  assert 0 < mirrored.sum() < COUNT
  flat, _ = applied("flip")
  np.testing.assert_array_equal((flat == IMAGES[:, :, ::-1]).all((1, 2, 3)), mirrored)


def test_patches_lie_where_they_say():
  for data in (IMAGES, VIDEOS):
    out, value = applied("crop", data)
    height, width = data.shape[-3:-1]
    corners = set()
    for whole, part, place in zip(data, out, value, strict=True):
      top, left = np.rint((place.reshape(-1, 4, 4, 2)[0, 0, 0] + 1) / 2 * [height - 1, width - 1]).astype(int)
      np.testing.assert_array_equal(part, whole[..., top : top + 4, left : left + 4, :])
      rows, columns = np.linspace(-1, 1, height)[top : top + 4], np.linspace(-1, 1, width)[left : left + 4]
      np.testing.assert_allclose(place[..., 0], np.broadcast_to(rows[:, None], place.shape[:-1]), atol=1e-6)
      np.testing.assert_allclose(place[..., 1], np.broadcast_to(columns, place.shape[:-1]), atol=1e-6)
      corners.add((top, left))
    ways = (height - 3) * (width - 3)
    assert ways / 2 < len(corners) <= ways
  with pytest.raises(ConfigError, match="'crop' takes 16 x 16 pixels of images .*; the data are"):
    AUGMENTATIONS["crop"]().apply(IMAGES, keys.Draws(keys.seed(0), jnp.arange(COUNT), COUNT))


def test_half_of_the_images_are_mirrored():
  count = 10_000
  small = np.broadcast_to(np.float32([1, 2]).reshape(1, 1, 2, 1), (count, 1, 2, 1))
  out, _ = AUGMENTATIONS["flip"]().apply(small, keys.Draws(keys.seed(0), jnp.arange(count), count))
  assert abs(np.mean(np.asarray(out)[:, 0, 0, 0] == 2) - 0.5) < 4 * 0.5 / np.sqrt(count)


def test_images_and_videos_are_moved_by_every_number_of_pixels_and_borders_repeated():
  ways = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
  for data in (IMAGES, VIDEOS):
    out, _ = applied("shift", data)
    sides = [(0, 0)] * (data.ndim - 4) + [(1, 1), (1, 1), (0, 0)]
    results = set()
    for old, new in zip(data, out, strict=True):
      wide, (h, w) = np.pad(old, sides, "edge"), old.shape[-3:-1]
      same = [
        n for n, (y, x) in enumerate(ways) if (wide[..., 1 + y :, 1 + x :, :][..., :h, :w, :] == new).all()
      ]
      assert len(same) == 1
      results |= {*same}
    assert len(results) >= 7  # of nine, in 24 draws
