"""Images of any size as squares of one size."""

import numpy as np
from PIL import Image


def square(image: Image.Image, size: int, channels: int) -> np.ndarray:
  """The central square, resized with antialiasing: uint8 [size, size, channels]."""
  image = image.convert("L" if channels == 1 else "RGB")
  side = min(image.size)
  left, top = (image.width - side) // 2, (image.height - side) // 2
  box = (left, top, left + side, top + side)
  image = image.resize((size, size), Image.Resampling.LANCZOS, box=box)
  return np.asarray(image, np.uint8).reshape(size, size, channels)
