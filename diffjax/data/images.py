"""A stranger's picture as pixels: uint8, grey or RGB, whatever it was, or refused by name.

format         one of FORMATS, by its content; the file's ending says nothing
frames         the first of an animation, or of several pages
orientation    as the camera's EXIF says
depth          1 and 8 bits as they are, 16 bits divided by 257 and rounded; of others nobody knows the range
transparency   over a grey background
colour         as RGB, or by its luminance as grey
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, BinaryIO, NamedTuple

import numpy as np
import PIL
from PIL import Image, ImageOps, UnidentifiedImageError

from diffjax.data.source import fingerprint
from diffjax.ranges import Range, closed
from diffjax.types import ConfigError, words

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF")
ENDINGS = {
  *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".gif", ".tif", ".tiff", ".bmp"),
  *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif"),
}
GREY = ("1", "L", "LA", "La")
DEEP = ("PNG", "PPM")  # formats whose mode "I" is known to be of 16 bits

Channels = Annotated[int, Range(lambda value: value in (1, 3), "1 (grey) or 3 (RGB)")]
Background = Annotated[int, closed(0, 255)]
WHITE = 255
SHOWN = 3  # broken files that are named


class Picture(NamedTuple):
  """A picture as it was found.

  Attributes:
    image: of the mode "L" or "RGB", upright.
    notes: what was decided about it: "transparent", "of several frames".
  """

  image: Image.Image
  notes: tuple[str, ...]


@functools.cache
def rule() -> str:
  """A hash of how pictures are read, which with a file's content decides the pixels."""
  return fingerprint(Path(__file__).read_bytes(), PIL.__version__)


def opened(
  path: Path | BinaryIO, channels: int | None = None, background: int = WHITE, name: str = ""
) -> Picture:
  """The picture in a file.

  Args:
    path: the file, or an open one.
    channels: 3 or 1; None: 1 if the picture is grey.
    background: the grey value, 0 to 255, on which transparent pictures lie.
    name: what an error calls it; by default the path.

  Raises:
    ConfigError: the file is no whole picture, or one whose pixels' range nobody knows.
  """
  try:
    with Image.open(path, formats=FORMATS) as image:
      notes = ("of several frames",) if getattr(image, "is_animated", False) else ()
      frame = current_frame(image, channels, background)
      return Picture(frame.image, notes + frame.notes)
  except UnidentifiedImageError:
    reason = f"it is none of {', '.join(FORMATS)}"
  except Exception as error:  # whatever a decoder makes of a stranger's bytes
    reason = words(error)
  raise ConfigError(f"{name or path} cannot be read as an image ({reason}); mend, convert or remove it.")


def current_frame(image: Image.Image, channels: int | None = None, background: int = WHITE) -> Picture:
  """The frame at which an open file stands, upright and of 8 bits; see `opened`."""
  upright = ImageOps.exif_transpose(image)
  return picture(_of_eight_bits(upright, image.format), channels, background)


def broken(errors: Sequence[ConfigError]) -> ConfigError:
  """The error of several pictures: what is wrong with the first of them, and how many there are."""
  more = f" There are {len(errors) - SHOWN} more." if len(errors) > SHOWN else ""
  return ConfigError(f"{' '.join(str(error) for error in errors[:SHOWN])}{more}")


def picture(image: Image.Image, channels: int | None = None, background: int = WHITE) -> Picture:
  """An image of at most 8 bits without its transparency, grey or RGB; see `opened`."""
  grey, notes = image.mode in GREY if channels is None else channels == 1, ()
  if image.has_transparency_data:
    image = image.convert("RGBA")
    if image.getchannel("A").getextrema()[0] < 255:
      notes = ("transparent",)
    image = Image.alpha_composite(Image.new("RGBA", image.size, (*[background] * 3, 255)), image)
  image = image if image.mode in GREY else image.convert("RGB")  # not every mode has a way to grey
  return Picture(image.convert("L" if grey else "RGB"), notes)


def eight_bits(pixels: np.ndarray) -> np.ndarray:
  """Pixels of any known depth as uint8: those of bool are 0 and 255, of uint16 v / 257.

  Raises:
    ConfigError: pixels of another type, whose range nobody knows.
  """
  if pixels.dtype == np.bool_:
    return pixels.astype(np.uint8) * np.uint8(255)
  if pixels.dtype.kind == "u" and pixels.dtype.itemsize == 2:
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
  if pixels.dtype != np.uint8:
    raise ConfigError(f"its pixels are {pixels.dtype.name}, of which nobody knows which number is white")
  return pixels


def _of_eight_bits(image: Image.Image, form: str | None) -> Image.Image:
  """The image itself, or, where it is deeper than 8 bits, one that is not."""
  if not image.mode.startswith(("I", "F")):
    return image
  values = np.asarray(image)
  if image.mode == "I" and form in DEEP and values.min() >= 0 and values.max() < 2**16:
    values = values.astype(np.uint16)
  shallow = Image.fromarray(eight_bits(values))
  if "transparency" in image.info:  # the grey value that is not to be seen
    shallow.putalpha(Image.fromarray(np.where(values == image.info["transparency"], 0, 255).astype(np.uint8)))
  return shallow


def square(image: Image.Image, size: int) -> np.ndarray:
  """The central square of a grey or RGB image, resized with antialiasing: uint8 [size, size, 1 or 3]."""
  side = min(image.size)
  left, top = (image.width - side) // 2, (image.height - side) // 2
  box = (left, top, left + side, top + side)
  image = image.resize((size, size), Image.Resampling.LANCZOS, box=box)
  return pixels_of(image)


def pixels_of(image: Image.Image) -> np.ndarray:
  """A grey or RGB image as uint8 [H, W, 1 or 3]."""
  return np.asarray(image, np.uint8).reshape(image.height, image.width, -1)
