"""Pairs of images for PSNR and SSIM: noisy, blurred and shifted ones, of smooth colours."""

import numpy as np


def pairs():
  """uint8 [3, 20, 17, 3] twice."""
  rng = np.random.Generator(np.random.Philox(0))
  y, x = np.mgrid[0:20, 0:17]
  phase = rng.uniform(0, 6, (3, 1, 1, 3))
  a = 127 + 90 * np.sin(x[None, :, :, None] * 0.7 + phase) * np.cos(y[None, :, :, None] * 0.4 - phase)
  noisy = a[0] + 25 * rng.standard_normal(a[0].shape)
  blurred = (a[1] + np.roll(a[1], 1, 0) + np.roll(a[1], 1, 1)) / 3
  b = np.stack([noisy, blurred, np.roll(a[2], 2, 1)])
  return tuple(np.clip(np.round(images), 0, 255).astype(np.uint8) for images in (a, b))
