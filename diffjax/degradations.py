"""What a picture loses on the way to a small one, and the way back up.

    area        means of blocks, which a camera of fewer pixels would see
    bicubic     Keys's cubic, a = -1/2, stretched by the factor so that nothing aliases (as Pillow's)
    blur_noise  a Gaussian of deviation factor / 2 pixels, of which every factor-th value is kept, and noise of 0.05
    jpeg        means of blocks, kept as JPEG of a quality drawn from QUALITIES, as pictures of the web are

All but jpeg are linear but for their noise.
Called as DEGRADATIONS[name](x0 [B, H, W, C], factor, keys [B]) -> [B, H / factor, W / factor, C].
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import keys
from diffjax.guidance import averaged
from diffjax.jpeg import jpeg
from diffjax.types import Batch, ConfigError, Keys

QUALITIES = (30, 95)  # the lowest and the highest (Wang et al. 2021, Real-ESRGAN)
NOISE = 0.05  # its standard deviation, of pixels in [-1, 1]


def area(x0: Batch, factor: int, example_keys: Keys) -> Batch:
  """Means of factor x factor pixels."""
  return averaged(x0, factor)


def bicubic(x0: Batch, factor: int, example_keys: Keys) -> Batch:
  """Antialiased cubic interpolation (Keys 1981)."""
  b, h, w, c = x0.shape
  return jax.image.resize(x0, (b, h // factor, w // factor, c), "cubic", antialias=True)


def blur_noise(x0: Batch, factor: int, example_keys: Keys) -> Batch:
  """Gaussian blur about the middle of every block, whose weights sum to 1 at the border too, and noise."""
  low = jnp.einsum("ih,jw,bhwc->bijc", *(_gaussian(side, factor) for side in x0.shape[1:3]), x0)
  return low + NOISE * keys.normal(keys.purpose(example_keys, "degradation"), low.shape[1:], low.dtype)


def compressed(x0: Batch, factor: int, example_keys: Keys) -> Batch:
  """Means of factor x factor pixels, and what JPEG makes of them; see jpeg.py."""
  u, (low, high) = keys.uniform(keys.purpose(example_keys, "quality")), QUALITIES
  return jpeg(averaged(x0, factor), low + jnp.floor((high + 1 - low) * u).astype(jnp.int32))


def _gaussian(side: int, factor: int) -> np.ndarray:
  middles = np.arange(side // factor)[:, None] * factor + (factor - 1) / 2
  weight = np.exp(-0.5 * ((np.arange(side) - middles) / (factor / 2)) ** 2)
  return (weight / weight.sum(1, keepdims=True)).astype(np.float32)


DEGRADATIONS: dict[str, Callable[[Batch, int, Keys], Batch]] = {
  "area": area,
  "bicubic": bicubic,
  "blur_noise": blur_noise,
  "jpeg": compressed,
}
UPSAMPLINGS = {"nearest": "nearest", "bicubic": "cubic"}  # names of jax.image.resize


def upsampled(low: Batch, shape: tuple[int, ...], how: str) -> Batch:
  """[B, h, w, C] to [B, *shape], by one of UPSAMPLINGS."""
  return jax.image.resize(low, (len(low), *shape), UPSAMPLINGS[how])


def require_factor(factor: int, shape: tuple[int, ...]) -> tuple[int, ...]:
  """The shape of the small image; ConfigError unless the factor divides both sides of an image of this shape."""
  if len(shape) != 3 or shape[0] % factor or shape[1] % factor:
    raise ConfigError(f"factor is {factor}, which does not divide the sides of images of shape {shape}.")
  return (shape[0] // factor, shape[1] // factor, shape[2])
