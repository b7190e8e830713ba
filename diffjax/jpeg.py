"""What JPEG makes of a picture (ITU-T T.81, with the tables of its annex K and IJG's qualities), as a function in JAX.

    YCbCr  of the pixels, each channel less 128, in blocks of 8x8, the border repeated                    (JFIF)
    F      the orthonormal cosine transform of each block                                               (A.3.3)
    F'     q round(F / q), with the table q of a quality                                                (A.3.4)
    q      clip(floor((table s + 50) / 100), 1, 255), s = 5000 / quality below 50, else 200 - 2 quality     (1)

and back. What is coded without loss is left out, and chroma keeps its resolution (4:4:4). Rounding has no gradient.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from diffjax.types import Batch

SIDE = 8
HALF = 0.5 + 1e-4  # halves, which means of whole numbers often are, go up as libjpeg's do
LUMINANCE = np.array(
  [
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
  ]
)
CHROMINANCE = np.full((SIDE, SIDE), 99)
CHROMINANCE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
# Y, Cb, Cr of R, G, B, the last two less 128 (JFIF 1.02).
YCBCR = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
COSINES = np.cos(np.pi / SIDE * np.arange(SIDE)[:, None] * (np.arange(SIDE) + 0.5)) * np.sqrt(2 / SIDE)
COSINES[0] /= np.sqrt(2)


def tables(quality: Int[Array, "b"], channels: int) -> Float[Array, "b c 8 8"]:
  """Equation (1) for qualities of 1 to 100: luminance's, and chrominance's for a colour picture's other channels."""
  base = jnp.asarray([LUMINANCE] + [CHROMINANCE if channels == 3 else LUMINANCE] * (channels - 1))
  scale = jnp.where(quality < 50, 5000 // jnp.maximum(quality, 1), 200 - 2 * quality)
  return jnp.clip((base * scale[:, None, None, None] + 50) // 100, 1, 255).astype(jnp.float32)


def jpeg(x0: Batch, quality: Int[Array, "b"]) -> Batch:
  """Pictures [B, H, W, C] in [-1, 1] as they come out of a file of this quality, 1 to 100.

  Three channels are red, green and blue; any other number are coded each as a grey picture.
  """
  b, h, w, c = x0.shape
  x = jnp.clip(jnp.round((x0 + 1) * 127.5), 0, 255)
  mix = jnp.asarray(YCBCR if c == 3 else np.eye(c), jnp.float32)
  shift = jnp.asarray([128.0, 0, 0] if c == 3 else [128.0] * c)
  planes = jnp.round(x @ mix.T - shift)
  planes = jnp.pad(planes, ((0, 0), (0, -h % SIDE), (0, -w % SIDE), (0, 0)), mode="edge")
  blocks = planes.reshape(b, planes.shape[1] // SIDE, SIDE, planes.shape[2] // SIDE, SIDE, c)
  steps, cosines = tables(quality, c), jnp.asarray(COSINES, jnp.float32)
  coefficients = jnp.einsum("ui,vj,bminjc->bmncuv", cosines, cosines, blocks)
  levels = coefficients / steps[:, None, None]
  coefficients = jnp.sign(levels) * jnp.floor(jnp.abs(levels) + HALF) * steps[:, None, None]
  planes = jnp.einsum("ui,vj,bmncuv->bminjc", cosines, cosines, coefficients).reshape(planes.shape)[:, :h, :w]
  back = jnp.asarray(np.linalg.inv(YCBCR) if c == 3 else np.eye(c), jnp.float32)
  x = jnp.round(jnp.clip(jnp.round(planes) + shift, *_range(c)) @ back.T)
  return jnp.clip(x, 0, 255) / 127.5 - 1


def _range(channels):
  """What a channel may be after decoding."""
  if channels != 3:
    return 0.0, 255.0
  return jnp.asarray([0.0, -128.0, -128.0]), jnp.asarray([255.0, 127.0, 127.0])
