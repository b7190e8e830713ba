"""How near an image is to another: PSNR and SSIM of uint8 images, in NumPy.

    PSNR = 10 log10(255^2 / mean squared error)                                                       (1)
    SSIM = mean of (2 m_a m_b + c_1)(2 s_ab + c_2) / ((m_a^2 + m_b^2 + c_1)(s_a^2 + s_b^2 + c_2))      (2)

(Wang et al. 2004, eq. 13) with moments m, s under a Gaussian window of deviation 1.5 and 11 pixels, c_1 = (0.01 255)^2
and c_2 = (0.03 255)^2, over the windows that lie inside the image and over its channels.
"""

import numpy as np
from jaxtyping import Float64, UInt8

from diffjax.types import ConfigError

WINDOW, DEVIATION = 11, 1.5
MOST = 100.0  # dB of images that are equal, so that means are finite

Images = UInt8[np.ndarray, "n h w c"]


def psnr(a: Images, b: Images) -> Float64[np.ndarray, "n"]:
  """Equation (1) of each pair, in dB, at most MOST."""
  error = np.mean((a.astype(np.float64) - b) ** 2, axis=(1, 2, 3))
  return np.minimum(10 * np.log10(255**2 / np.maximum(error, 1e-30)), MOST)


def ssim(a: Images, b: Images) -> Float64[np.ndarray, "n"]:
  """Equation (2) of each pair.

  Raises:
    ConfigError: a side is shorter than the window.
  """
  if min(a.shape[1:3]) < WINDOW:
    raise ConfigError(
      f"SSIM needs images of at least {WINDOW}x{WINDOW} pixels; these are {a.shape[1]}x{a.shape[2]}."
    )
  a, b = a.astype(np.float64), b.astype(np.float64)
  m_a, m_b = _blurred(a), _blurred(b)
  s_a, s_b = _blurred(a * a) - m_a**2, _blurred(b * b) - m_b**2
  s_ab, c_1, c_2 = _blurred(a * b) - m_a * m_b, (0.01 * 255) ** 2, (0.03 * 255) ** 2
  similarity = (2 * m_a * m_b + c_1) * (2 * s_ab + c_2) / ((m_a**2 + m_b**2 + c_1) * (s_a + s_b + c_2))
  return similarity.mean((1, 2, 3))


def _blurred(x: Float64[np.ndarray, "n h w c"]) -> Float64[np.ndarray, "n h2 w2 c"]:
  places = np.arange(WINDOW) - WINDOW // 2
  window = np.exp(-(places**2) / (2 * DEVIATION**2))
  window /= window.sum()
  for axis in (1, 2):
    length = x.shape[axis] - WINDOW + 1
    x = sum(weight * np.take(x, np.arange(k, k + length), axis) for k, weight in enumerate(window))
  return x
