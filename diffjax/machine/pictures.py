"""Pictures of samples: tiles side by side with captions, a walk through time, PNG files, and videos as GIF.

Where a picture is asked for, a video [T, H, W, C] stands as a strip, its frames from left to right.
"""

import math
import os
import textwrap
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

from diffjax.machine import atomic
from diffjax.types import ConfigError

TILE = 64  # smaller images are enlarged to at least this many pixels a side
CAPTIONED, SHORT = 96, 12  # where there is a caption of more than so many letters under it
LINES, LINE = 3, 14  # of a caption at most, and a line's height in pixels
GUTTER = 56  # pixels to the left of a walk, for the names of its rows
BACKGROUND = 128  # between tiles: neither the black nor the white that images end in


def to_uint8(x: ArrayLike) -> UInt8[np.ndarray, "..."]:
  """Images in [-1, 1], of any shape, as round((x + 1) 127.5) clipped to 0..255; ties go to the even number.

  Raises:
    ConfigError: a pixel is NaN.
  """
  x = np.asarray(x).astype(np.float32)
  if np.isnan(x).any():
    raise ConfigError(f"{np.isnan(x).sum()} of {x.size} pixels are NaN; the network or the sampler is broken")
  return np.clip(np.round((x + 1) * 127.5), 0, 255).astype(np.uint8)


def strips(videos: UInt8[np.ndarray, "*n h w c"], ndim: int = 4) -> UInt8[np.ndarray, "*n h w2 c"]:
  """Videos [..., T, H, W, C] as images [..., H, T (W + 1) - 1, C] of `ndim` axes, grey lines between the frames.

  What has `ndim` axes already is left as it is.
  """
  videos = np.asarray(videos)
  if videos.ndim != ndim + 1:
    return videos
  *rest, frames, height, width, channels = videos.shape
  lined = np.full((*rest, height, frames, width + 1, channels), BACKGROUND, videos.dtype)
  lined[..., :width, :] = np.moveaxis(videos, -4, -3)
  return lined.reshape(*rest, height, -1, channels)[..., :-1, :]


def grid(
  images: UInt8[np.ndarray, "n *t h w c"], columns: int | None = None, pad: int = 1, scale: int | None = None
) -> UInt8[np.ndarray, "height width c"]:
  """Images in rows, read like text, with grey lines around and between them.

  Args:
    images: uint8 [N, H, W, C], or videos [N, T, H, W, C].
    columns: images in a row; by default the grid is as square as can be.
    pad: width of the lines in pixels of the result.
    scale: each pixel becomes a square of this side; by default the least that makes the shorter side of an
      image at least 64.

  Returns:
    uint8 [rows (H scale + pad) + pad, columns (W scale + pad) + pad, C]; places left over are grey.

  Raises:
    ConfigError: the images are not uint8 [N, H, W, C] with N > 0, or a number is out of range.
  """
  columns = _square(images) if columns is None else columns
  images = _pixels(strips(images), 4, "[N, H, W, C]")
  n, h, w, c = images.shape
  scale = math.ceil(TILE / min(h, w)) if scale is None else scale
  if columns < 1 or scale < 1 or pad < 0:
    raise ConfigError(f"a grid needs columns >= 1, scale >= 1, pad >= 0, not {columns}, {scale}, {pad}")
  rows = math.ceil(n / columns)
  tiles = np.full((rows * columns, h * scale + pad, w * scale + pad, c), BACKGROUND, np.uint8)
  tiles[:n, pad:, pad:] = images.repeat(scale, axis=1).repeat(scale, axis=2)
  tiles = tiles.reshape(rows, columns, *tiles.shape[1:])
  sheet = tiles.swapaxes(1, 2).reshape(rows * tiles.shape[2], columns * tiles.shape[3], c)
  return np.pad(sheet, ((0, pad), (0, pad), (0, 0)), constant_values=BACKGROUND)


def _square(images: UInt8[np.ndarray, "n *t h w c"]) -> int:
  """Columns of a grid that is as square as can be, of images, or of videos whose strips are T times as wide."""
  shape = np.shape(images)
  return math.ceil(math.sqrt(shape[0] / (shape[1] if len(shape) == 5 else 1))) if shape else 1


def captioned(
  images: UInt8[np.ndarray, "n *t h w c"], captions: Sequence[str], columns: int | None = None
) -> UInt8[np.ndarray, "height width c"]:
  """A grid of images [N, H, W, C] with a caption under each, as many lines as the longest needs and at most LINES."""
  columns = _square(images) if columns is None else columns
  images = _pixels(strips(images), 4, "[N, H, W, C]")
  words = max((len(caption) for caption in captions), default=0)
  scale = math.ceil((CAPTIONED if words > SHORT else TILE) / min(images.shape[1:3]))
  tiles = images.repeat(scale, axis=1).repeat(scale, axis=2)
  lines = [_lines(caption, tiles.shape[2]) for caption in captions]
  most = max(map(len, lines))
  labels = np.stack([_label(each, tiles.shape[2], most) for each in lines])
  labels = np.broadcast_to(labels[..., None], (*labels.shape, images.shape[-1]))
  return grid(np.concatenate([tiles, labels], axis=1), columns, scale=1)


def walk(
  xt: UInt8[np.ndarray, "s n *t h w c"],
  estimates: UInt8[np.ndarray, "s n *t h w c"],
  titles: Sequence[str],
  captions: Sequence[str] | None = None,
) -> UInt8[np.ndarray, "height width c"]:
  """Denoising through time: for each of N samples a row of what is there and, below, one of the estimates of x0.

  Of videos, whose strips are wide, the stops go downwards, and the estimates stand right of what is there.

  Where what is there is the estimate all along, since there is no noise on the way, it is drawn once, and called x0
  only where it has no caption.

  Args:
    xt: S stops in sampling order, x_T first: uint8 [S, N, H, W, C], or [S, N, T, H, W, C].
    estimates: the sample that each would be, of the same shape.
    titles: of the S stops.
    captions: of the N samples, left of their rows.

  Raises:
    ConfigError: as `grid`.
  """
  kinds = [["x0"]] if np.array_equal(xt, estimates) else [["x_t"], ["estimate", "of x0"]]
  down, across, order = kinds, [[title] for title in titles], (1, 2, 0)
  if np.ndim(xt) == 6:
    down, across, order = across, kinds, (1, 0, 2)
  images = [xt, estimates][-len(kinds) :]
  pairs = np.stack([_pixels(strips(each, 5), 5, "[S, N, H, W, C]") for each in images], axis=2)
  _, n, _, height, width, channels = pairs.shape  # [S, N, kinds, H, W, C]
  scale = math.ceil(TILE / min(height, width))
  sheet = grid(
    pairs.transpose(*order, 3, 4, 5).reshape(-1, height, width, channels), len(across), scale=scale
  )
  above = [_label([" ".join(name)], width * scale + 1, 1) for name in across]
  gutter = GUTTER if captions is None or len(down) > 1 else 0
  left = np.concatenate([_label(name, GUTTER, 1, height * scale + 1)[:, :gutter] for name in down] * n)
  tall = len(down) * (height * scale + 1)
  if captions is not None:
    wide = CAPTIONED if max(map(len, captions)) > SHORT else TILE
    words = [_label(_lines(caption, wide, tall // LINE), wide, 1, tall) for caption in captions]
    left = np.concatenate([np.concatenate(words), left], axis=1)
  left[::tall] = BACKGROUND  # between samples
  head = _on_white(np.concatenate(above, axis=1), above[0].shape[0], sheet.shape[1])
  side = _on_white(left, len(head) + len(sheet), left.shape[1], len(head))
  return np.concatenate(
    [np.stack([side] * channels, -1), np.concatenate([np.stack([head] * channels, -1), sheet])], 1
  )


def _on_white(
  image: UInt8[np.ndarray, "h w"], height: int, width: int, down: int = 0
) -> UInt8[np.ndarray, "y x"]:
  sheet = np.full((height, width), 255, np.uint8)
  sheet[down : down + len(image), : image.shape[1]] = image
  return sheet


def _font():
  return ImageFont.load_default(LINE - 2)


def _lines(text: str, width: int, most: int = LINES) -> list[str]:
  return textwrap.wrap(text, max(1, int(width / _font().getlength("n"))))[:most] or [""]


def _label(lines: Sequence[str], width: int, most: int, height: int = 0) -> UInt8[np.ndarray, "h w"]:
  """Black text on white, with room for `most` lines, or of this height."""
  image = Image.new("L", (width, height or most * LINE + 2), 255)
  for row, line in enumerate(lines):
    ImageDraw.Draw(image).text((2, row * LINE), line, fill=0, font=_font())
  return np.asarray(image)


def save_png(path: str | os.PathLike, image: UInt8[np.ndarray, "h w c"]) -> None:
  """Writes uint8 [H, W, 1] (grey) or [H, W, 3] (RGB); a reader sees the whole file or none.

  Raises:
    ConfigError: the image is of another type or shape.
  """
  image = _pixels(image, 3, "[H, W, C]")
  if image.shape[2] not in (1, 3):
    raise ConfigError(f"a PNG needs 1 or 3 channels, and the image has shape {list(image.shape)}")
  picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
  with atomic.writing(path) as file:
    picture.save(file, format="PNG")


def playing(videos: UInt8[np.ndarray, "n t h w c"]) -> list[UInt8[np.ndarray, "height width c"]]:
  """The frames of videos that play side by side, each a grid."""
  videos = _pixels(videos, 5, "[N, T, H, W, C]")
  return [grid(videos[:, t]) for t in range(videos.shape[1])]


def save_gif(
  path: str | os.PathLike, videos: UInt8[np.ndarray, "n t h w c"], frames_per_second: float = 8.0
) -> None:
  """Writes videos that play side by side for ever; a reader sees the whole file or none."""
  frames = [Image.fromarray(sheet[..., 0] if sheet.shape[2] == 1 else sheet) for sheet in playing(videos)]
  with atomic.writing(path) as file:
    frames[0].save(
      file, "GIF", save_all=True, append_images=frames[1:], duration=round(1000 / frames_per_second), loop=0
    )


def _pixels(images: ArrayLike, ndim: int, shape: str) -> np.ndarray:
  images = np.asarray(images)
  if images.dtype != np.uint8 or images.ndim != ndim or images.size == 0:
    raise ConfigError(
      f"a picture needs uint8 {shape}, none of them 0, not {images.dtype} {list(images.shape)}; "
      "see pictures.to_uint8"
    )
  return images
