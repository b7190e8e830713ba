"""JPEG against Pillow's: its tables, and grey and coloured pictures of any sides, at several qualities."""

import io

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from diffjax.jpeg import jpeg, tables

QUALITIES = (5, 30, 49, 50, 75, 95, 100)


def saved(image, quality):
  """An image [H, W, C] of uint8 as Pillow reads what Pillow wrote, and the file's tables."""
  file = io.BytesIO()
  Image.fromarray(image.squeeze()).save(file, "JPEG", quality=quality, subsampling=0)
  read = Image.open(io.BytesIO(file.getvalue()))
  return np.asarray(read).reshape(image.shape), read.quantization


@pytest.mark.parametrize("channels", [1, 3])
def test_it_is_pillow_s(channels):
  """But for what libjpeg's whole numbers round otherwise: a block in ten by one coefficient, 0.499 to 1."""
  rng = np.random.default_rng(0)
  rows, columns = np.mgrid[:20, :13]
  smooth = 128 + 90 * np.sin(rows / 5 + np.arange(channels)[:, None, None]) * np.cos(columns / 3)
  image = np.clip(smooth.transpose(1, 2, 0) + 12 * rng.standard_normal((20, 13, channels)), 0, 255)
  image = image.astype(np.uint8)
  many = jnp.asarray(np.repeat(image[None], len(QUALITIES), 0) / 127.5 - 1, jnp.float32)
  result = np.asarray((jpeg(many, jnp.asarray(QUALITIES)) + 1) * 127.5)
  steps = np.asarray(tables(jnp.asarray(QUALITIES), channels))
  for k, quality in enumerate(QUALITIES):
    want, quantization = saved(image, quality)
    for number, table in quantization.items():
      np.testing.assert_array_equal(steps[k, number].ravel(), table)
    off = np.abs(result[k] - want)
    assert np.quantile(off, 0.9) < 2.01, (quality, off.mean(), off.max())
    lost = np.abs(want - image.astype(float)).mean()
    assert quality > 90 or off.mean() < 0.1 * lost, (quality, off.mean(), lost)


def test_flat_pictures_keep_to_a_step_of_their_mean():
  flat = jnp.full((1, 8, 8, 3), 0.3)
  assert np.ptp(np.asarray(jpeg(flat, jnp.asarray([40]))), axis=(1, 2)).max() < 1e-6
  np.testing.assert_allclose(jpeg(flat, jnp.asarray([40])), 0.3, atol=3 / 127.5)
