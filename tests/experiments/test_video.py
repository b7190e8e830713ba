"""Clips of moving digits: linear blending."""

import numpy as np
import pytest

from experiments.video.between import blended, psnr


def test_blending_is_linear_between_given_frames_and_constant_outside():
  video = np.random.default_rng(0).integers(0, 256, (2, 6, 3, 3, 1)).astype(np.uint8)
  whole, of = blended(video, (1, 4)), video.astype(float)
  np.testing.assert_array_equal(whole[:, [0, 1, 4, 5]], video[:, [1, 1, 4, 4]])
  for t in (2, 3):
    share = (t - 1) / 3
    np.testing.assert_allclose(whole[:, t], (1 - share) * of[:, 1] + share * of[:, 4], atol=0.5)
  assert psnr(video // 2, video // 2 + 10) == pytest.approx(20 * np.log10(25.5))
