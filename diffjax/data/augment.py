"""Augmentation of training images: mirroring, and changes of which the network is told.

`nonleaking` tells the network what was done to an image, and at sampling that nothing was. Karras et al. 2022,
appendix F.2, after Karras et al. 2020, for images [H, W] about their centre, p a probability:

    mirrored      always half of them left to right                      label 1
    upside down   with p, then half of them top to bottom                label 1
    scale         with p by s = 2^(w / 5)                                label w
    rotation      with p by an angle a from [-pi, pi)                    labels cos a - 1, sin a
    stretch       with p by 2^(w / 5) along one axis and 2^(-w / 5)      labels w cos r, w sin r
                  across, the axis at an angle r from [-pi, pi), or with 1/2 at 0
    shift         with p by (W u, H v) / 8                               labels u, v

with w, u, v standard normal. All labels are 0 if and only if the image is as it was. Flips move pixels. The rest is
one affine map G, and the image is read once, at the places G^-1 p of the new pixels p. As in the 2020 paper it is
doubled by the synthesis filter g of an orthogonal wavelet, read between its samples linearly, and halved by g again:

    u = U_h x U_w^T,   U[j, i] = sum of g[j - 2 k] over all k that reflect to i                       (1)
    y = D_h v D_w^T,   D[i, n] = g[n - 2 i],   v[n] = u at 2 G^-1((n - c) / 2) + c                    (2)

An image reflected at its borders for ever is periodic, and so is u. As g is orthogonal to its even shifts, y = x for
the identity and for shifts by whole pixels; c = sum n g[n] / sum g[n], at which linear functions stay what they are.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from diffjax import keys
from diffjax.ranges import Count, Share, checked
from diffjax.types import Batch, ConfigError, PerExample

LABELS = 9
OCTAVE = 0.2  # the standard deviation of log2 of scales
SHIFT = 0.125  # the standard deviation of shifts, of the image's sides

# Daubechies' least asymmetric orthogonal wavelet with 6 vanishing moments ("sym6"): its low-pass filter.
FILTER = np.array(
  [
    *(0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633),
    *(0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252),
    *(-0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148),
  ]
)
CENTRE = float(np.arange(len(FILTER)) @ FILTER / FILTER.sum())  # c of equation (2)


class Change(NamedTuple):
  """What is done to every image of a batch; zeros and False leave it alone.

  Attributes:
    mirrored: [B] left to right.
    upside_down: [B] top to bottom.
    scale: [B] w.
    angle: [B] a, in radians.
    stretch: [B] w.
    axis: [B] r, in radians.
    shift: [B, 2] u and v.
  """

  mirrored: Bool[Array, "b"]
  upside_down: Bool[Array, "b"]
  scale: PerExample
  angle: PerExample
  stretch: PerExample
  axis: PerExample
  shift: Float[Array, "b 2"]


def random_change(draws: keys.Draws, probability: float) -> Change:
  """The changes of a step's examples, each from its own key."""
  u = jax.vmap(lambda key: jax.random.uniform(key, (10,)))(draws.keys("augment uniform")).T
  z = keys.normal(draws.keys("augment normal"), (4,)).T
  flips, circle, on = u[:2] < 0.5, (2 * u[2:4] - 1) * jnp.pi, u[4:9] < probability
  return Change(
    mirrored=flips[0],
    upside_down=flips[1] & on[0],
    scale=jnp.where(on[1], z[0], 0),
    angle=jnp.where(on[2], circle[0], 0),
    stretch=jnp.where(on[3], z[1], 0),
    axis=jnp.where(u[9] < 0.5, circle[1], 0),
    shift=jnp.where(on[4], z[2:], 0).T,
  )


def labels(change: Change) -> Float[Array, "b 9"]:
  """The changes as a condition of the network, in the order of the module's docstring."""
  parts = (
    *(change.mirrored, change.upside_down, change.scale, jnp.cos(change.angle) - 1, jnp.sin(change.angle)),
    *(change.stretch * jnp.cos(change.axis), change.stretch * jnp.sin(change.axis), *change.shift.T),
  )
  return jnp.stack([jnp.asarray(part, jnp.float32) for part in parts], axis=1)


def inverse(change: Change, height: int, width: int) -> tuple[Float[Array, "b 2 2"], Float[Array, "b 2"]]:
  """The matrix and the shift before it of G^-1, on (column, row) in pixels from the centre."""
  scale = jnp.exp2(-OCTAVE * change.scale)[:, None, None] * jnp.eye(2)
  widths = jnp.exp2(-OCTAVE * jnp.stack([change.stretch, -change.stretch], axis=1))
  turned = _rotation(change.axis)
  stretch = jnp.einsum("bij,bj,bkj->bik", turned, widths, turned)
  matrix = jnp.einsum("bij,bjk,bkl->bil", scale, _rotation(-change.angle), stretch)
  return matrix, -SHIFT * change.shift * jnp.asarray([width, height])


def _rotation(angle: PerExample) -> Float[Array, "b 2 2"]:
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  return jnp.stack([jnp.stack([cos, -sin], -1), jnp.stack([sin, cos], -1)], -2)


def doubling(size: int) -> np.ndarray:
  """U of equation (1), float32 [4 size - 4, size]: one period of the doubled, reflected signal."""
  period = 2 * (size - 1)
  matrix = np.zeros((2 * period, size))
  for k in range(period):
    for n, g in enumerate(FILTER):
      matrix[(2 * k + n) % (2 * period), min(k, period - k)] += g
  return matrix.astype(np.float32)


def halving(size: int) -> np.ndarray:
  """D of equation (2), float32 [size, 2 size + 10]."""
  matrix = np.zeros((size, 2 * size + len(FILTER) - 2))
  for i in range(size):
    matrix[i, 2 * i : 2 * i + len(FILTER)] = FILTER
  return matrix.astype(np.float32)


def warp(x0: Batch, matrix: Float[Array, "b 2 2"], shift: Float[Array, "b 2"]) -> Batch:
  """Images [B, H, W, C] read at the places that `inverse` gives, equations (1) and (2)."""
  height, width = x0.shape[1:3]
  exact = {"precision": jax.lax.Precision.HIGHEST}
  u = jnp.einsum("ih,bhwc,jw->bijc", doubling(height), x0, doubling(width), **exact)
  down, across = halving(height), halving(width)

  def places(count, size):
    return (np.arange(count) - CENTRE) / 2 - (size - 1) / 2

  rows, columns = places(down.shape[1], height), places(across.shape[1], width)
  p = jnp.stack(jnp.meshgrid(columns, rows), -1) + shift[:, None, None]
  p = jnp.einsum("bij,bhwj->bhwi", matrix, p, **exact)
  read = jax.vmap(_between)(
    u, *(2 * (p[..., a] + (n - 1) / 2) + CENTRE for a, n in ((1, height), (0, width)))
  )
  return jnp.einsum("hi,bijc,wj->bhwc", down, read, across, **exact)


def _between(u: Float[Array, "p q c"], row: Float[Array, "m n"], column: Float[Array, "m n"]):
  """A periodic image between its samples, bilinearly: [m, n, C]."""
  top, left = jnp.floor(row), jnp.floor(column)
  y, x = (row - top)[..., None], (column - left)[..., None]
  i, j = top.astype(int), left.astype(int)

  def at(i, j):
    return u[i % u.shape[0], j % u.shape[1]]

  upper, lower = ((1 - x) * at(k, j) + x * at(k, j + 1) for k in (i, i + 1))
  return (1 - y) * upper + y * lower


def changed(x0: Batch, change: Change) -> Batch:
  """The images [B, H, W, C] after their changes: flips first, then one affine map, where there is any.

  Raises:
    ConfigError: no images, or a side of one pixel, which nothing is reflected at.
  """
  if x0.ndim != 4:
    raise ConfigError(f"this augmentation is for images [H, W, C]; the data are {list(x0.shape[1:])}.")
  height, width = x0.shape[1:3]
  if min(height, width) < 2:
    raise ConfigError(f"augment needs images of at least 2x2 pixels; these are {height}x{width}.")
  each = lambda flag: flag[:, None, None, None]
  x0 = jnp.where(each(change.mirrored), x0[:, :, ::-1], x0)
  x0 = jnp.where(each(change.upside_down), x0[:, ::-1], x0)
  affine = jnp.any(labels(change)[:, 2:] != 0, axis=1)
  return jnp.where(each(affine), warp(x0, *inverse(change, height, width)), x0)


@dataclasses.dataclass(frozen=True)
class Augmentation:
  """A random change of the training images, of which the network may be told.

  Attributes:
    labels: numbers that say what was done; 0 where nothing is said.
    apply: (x0 [B, H, W, C], draws) -> the changed images and their labels [B, labels], or None for 0; ConfigError
      for data that it cannot change.
    changes: whether anything is.
    planes: whether the labels are those of every pixel of the changed images, [B, ..., labels]; see `places`.
  """

  labels: int
  apply: Callable[[Batch, keys.Draws], tuple[Batch, Array | None]]
  changes: bool = True
  planes: bool = False


def places(height: int, width: int) -> Float[np.ndarray, "h w 2"]:
  """Where in the image each pixel lies, down and right, from -1 to 1."""
  along = (np.linspace(-1, 1, side, dtype=np.float32) for side in (height, width))
  return np.stack(np.meshgrid(*along, indexing="ij"), -1)


def flip() -> Augmentation:
  """Half of the images mirrored left to right, of which the network is not told: the data must not care.

  The frames of a video [T, H, W, C] are mirrored together.
  """

  def apply(x0, draws):
    if x0.ndim < 4:
      raise ConfigError(f"'flip' is for images [H, W, C] and videos; the data are {list(x0.shape[1:])}.")
    mirrored = keys.uniform(draws.keys("flip")) < 0.5
    return jnp.where(mirrored.reshape(-1, *[1] * (x0.ndim - 1)), jnp.flip(x0, -2), x0), None

  return Augmentation(0, apply)


def shift(pixels: Count = 1) -> Augmentation:
  """Images moved by up to so many whole pixels along each side, each number as likely, borders repeated.

  The network is not told: classifiers and contrastive training want it, and a diffusion would draw images moved too.
  The frames of a video [T, H, W, C] are moved together.
  """

  def apply(x0, draws):
    if x0.ndim < 4:
      raise ConfigError(f"'shift' is for images [H, W, C] and videos; the data are {list(x0.shape[1:])}.")
    u = jax.vmap(lambda key: jax.random.uniform(key, (2,)))(draws.keys("shift"))
    steps = jnp.floor(u * (2 * pixels + 1)).astype(int) - pixels
    for axis, step in zip((-3, -2), steps.T, strict=True):
      size = x0.shape[axis]
      places = jnp.clip(jnp.arange(size) + step[:, None], 0, size - 1)
      wide = [len(x0), *[1] * (x0.ndim - 1)]
      wide[axis] = size
      x0 = jnp.take_along_axis(x0, places.reshape(wide), axis)
    return x0, None

  return Augmentation(0, apply)


def crop(size: Count = 16) -> Augmentation:
  """Patches of size x size pixels, from anywhere with the same probability: images are learned in parts.

  The network is told by planes where in the image each pixel lies, `places`, as at sampling of whole images
  (Wang et al. 2023, Patch Diffusion, section 3.1). It must be one that takes images of any size, such as a U-Net
  without attention. The patches of a video's frames lie at one place.
  """

  def apply(x0, draws):
    if x0.ndim < 4 or min(x0.shape[-3:-1]) < size:
      raise ConfigError(
        f"'crop' takes {size} x {size} pixels of images [H, W, C] and videos; the data are {list(x0.shape[1:])}."
      )
    *lead, height, width, channels = x0.shape
    rooms = jnp.asarray([height - size, width - size])
    corners = jnp.floor(jax.vmap(lambda key: jax.random.uniform(key, (2,)))(draws.keys("crop")) * (rooms + 1))
    both = jnp.concatenate([x0, jnp.broadcast_to(places(height, width), (*x0.shape[:-1], 2))], -1)

    def one(image, corner):
      start = (*[0] * (len(lead) - 1), *corner, 0)
      return jax.lax.dynamic_slice(image, start, (*lead[1:], size, size, channels + 2))

    patches = jax.vmap(one)(both, corners.astype(int))
    return patches[..., :channels], patches[..., channels:]

  return Augmentation(2, apply, planes=True)


def none() -> Augmentation:
  """The images as they are."""
  return Augmentation(0, lambda x0, draws: (x0, None), changes=False)


def nonleaking(probability: Share = 0.12) -> Augmentation:
  """The changes of the module's docstring, `probability` being p; mirrored half the time whatever it is."""

  def apply(x0, draws):
    change = random_change(draws, probability)
    return changed(x0, change), labels(change)

  return Augmentation(LABELS, apply)


AUGMENTATIONS: dict[str, Callable[..., Augmentation]] = checked(
  {"none": none, "flip": flip, "shift": shift, "crop": crop, "nonleaking": nonleaking}
)
