"""PSNR and SSIM against scikit-image's (tests/fixtures/make_fidelity.py printed its figures)."""

import numpy as np
import pytest
from fidelity_images import pairs

from diffjax.metrics import fidelity
from diffjax.types import ConfigError

SKIMAGE = (  # PSNR, SSIM by scikit-image 0.26.0
  (20.1285468838, 0.8459948463),
  (25.4467906811, 0.9579216079),
  (12.3750518462, 0.1797237501),
)


def test_psnr_and_ssim_are_scikit_images():
  a, b = pairs()
  np.testing.assert_allclose(np.stack([fidelity.psnr(a, b), fidelity.ssim(a, b)], 1), SKIMAGE, rtol=1e-8)


def test_equal_images_have_the_most():
  a, _ = pairs()
  np.testing.assert_array_equal(fidelity.psnr(a, a), fidelity.MOST)
  np.testing.assert_allclose(fidelity.ssim(a, a), 1, rtol=1e-12)


def test_images_smaller_than_the_window_are_told():
  small = np.zeros((2, 8, 8, 1), np.uint8)
  with pytest.raises(ConfigError, match="at least 11x11 pixels; these are 8x8"):
    fidelity.ssim(small, small)
