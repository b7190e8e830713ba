"""Pictures of samples: tiles side by side, a strip through time, PNG files and small line charts."""

import math
import os
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import UInt8
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

from diffjax.machine import atomic
from diffjax.types import ConfigError

TILE = 32  # smaller images are enlarged to at least this many pixels a side
CAPTIONED = 96  # where there is a caption under it
LINES, LINE = 3, 12  # of a caption, and a line's height in pixels
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


def grid(
  images: UInt8[np.ndarray, "n h w c"], columns: int | None = None, pad: int = 1, scale: int | None = None
) -> UInt8[np.ndarray, "height width c"]:
  """Images in rows, read like text, with grey lines around and between them.

  Args:
    images: uint8 [N, H, W, C].
    columns: images in a row; by default the grid is as square as can be.
    pad: width of the lines in pixels of the result.
    scale: each pixel becomes a square of this side; by default the least that makes the shorter side of an
      image at least 32.

  Returns:
    uint8 [rows (H scale + pad) + pad, columns (W scale + pad) + pad, C]; places left over are grey.

  Raises:
    ConfigError: the images are not uint8 [N, H, W, C] with N > 0, or a number is out of range.
  """
  images = _pixels(images, 4, "[N, H, W, C]")
  n, h, w, c = images.shape
  columns = math.ceil(math.sqrt(n)) if columns is None else columns
  scale = math.ceil(TILE / min(h, w)) if scale is None else scale
  if columns < 1 or scale < 1 or pad < 0:
    raise ConfigError(f"a grid needs columns >= 1, scale >= 1, pad >= 0, not {columns}, {scale}, {pad}")
  rows = math.ceil(n / columns)
  tiles = np.full((rows * columns, h * scale + pad, w * scale + pad, c), BACKGROUND, np.uint8)
  tiles[:n, pad:, pad:] = images.repeat(scale, axis=1).repeat(scale, axis=2)
  tiles = tiles.reshape(rows, columns, *tiles.shape[1:])
  sheet = tiles.swapaxes(1, 2).reshape(rows * tiles.shape[2], columns * tiles.shape[3], c)
  return np.pad(sheet, ((0, pad), (0, pad), (0, 0)), constant_values=BACKGROUND)


def captioned(
  images: UInt8[np.ndarray, "n h w c"], captions: Sequence[str], columns: int | None = None
) -> UInt8[np.ndarray, "height width c"]:
  """A grid of images [N, H, W, C] with a caption under each, at most LINES lines of it."""
  scale = math.ceil(CAPTIONED / min(images.shape[1:3]))
  tiles = images.repeat(scale, axis=1).repeat(scale, axis=2)
  labels = np.stack([_label(caption, tiles.shape[2]) for caption in captions])
  labels = np.broadcast_to(labels[..., None], (*labels.shape, images.shape[-1]))
  return grid(np.concatenate([tiles, labels], axis=1), columns, scale=1)


def _label(text: str, width: int) -> UInt8[np.ndarray, "h w"]:
  """Black text on white."""
  image, font = Image.new("L", (width, LINES * LINE + 2), 255), ImageFont.load_default(LINE - 1)
  lines = textwrap.wrap(text, int(width / font.getlength("n")))[:LINES]
  for i, line in enumerate(lines):
    ImageDraw.Draw(image).text((2, i * LINE), line, fill=0, font=font)
  return np.asarray(image)


def strip(
  steps: Sequence[np.ndarray] | UInt8[np.ndarray, "s n h w c"], pad: int = 1, scale: int | None = None
) -> UInt8[np.ndarray, "height width c"]:
  """Denoising through time: a row for each of N samples, a column for each of S steps, x_T left, x_0 right.

  Args:
    steps: S arrays, or one of S rows, uint8 [N, H, W, C] each, in sampling order.
    pad: as in `grid`.
    scale: as in `grid`.

  Raises:
    ConfigError: as `grid`.
  """
  steps = _pixels(steps, 5, "[S, N, H, W, C]")
  return grid(steps.swapaxes(0, 1).reshape(-1, *steps.shape[2:]), len(steps), pad, scale)


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


def curve(
  path: str | os.PathLike, x: ArrayLike, lines: Mapping[str, ArrayLike], xlabel: str, ylabel: str
) -> None:
  """Writes a line chart as PNG: `lines` maps a label to its y, each as long as `x`."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg  # half a second, needed only here
  from matplotlib.figure import Figure

  figure = Figure(figsize=(6, 4), layout="constrained")
  FigureCanvasAgg(figure)
  axes = figure.subplots()
  for label, y in lines.items():
    axes.plot(x, y, label=label)
  axes.set(xlabel=xlabel, ylabel=ylabel)
  axes.grid(alpha=0.3)
  axes.legend()
  with atomic.writing(path) as file:
    figure.savefig(file, format="png", dpi=150)


def _pixels(images: ArrayLike, ndim: int, shape: str) -> np.ndarray:
  images = np.asarray(images)
  if images.dtype != np.uint8 or images.ndim != ndim or images.size == 0:
    raise ConfigError(
      f"a picture needs uint8 {shape}, none of them 0, not {images.dtype} {list(images.shape)}; "
      "see pictures.to_uint8"
    )
  return images
