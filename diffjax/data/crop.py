"""Images of any size as squares of one size."""

import numpy as np
from PIL import Image, ImageOps


def upright(image: Image.Image, grey: bool) -> Image.Image:
  """The image as its camera meant it, grey or RGB with 8 bits; 16-bit grey values are scaled down."""
  image = ImageOps.exif_transpose(image)
  if image.mode.startswith("I"):
    image = Image.fromarray((np.clip(np.asarray(image, np.int64), 0, 65535) / 257).round().astype(np.uint8))
  return image.convert("L" if grey else "RGB")


def square(image: Image.Image, size: int, channels: int) -> np.ndarray:
  """The central square, resized with antialiasing: uint8 [size, size, channels]."""
  image = upright(image, channels == 1)
  side = min(image.size)
  left, top = (image.width - side) // 2, (image.height - side) // 2
  box = (left, top, left + side, top + side)
  image = image.resize((size, size), Image.Resampling.LANCZOS, box=box)
  return np.asarray(image, np.uint8).reshape(size, size, channels)
