"""A sheet of pictures in groups of rows, with the groups' names on the left and words above the columns."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from diffjax.machine import pictures

TOP, GAP, MARGIN, LETTER = 18, 4, 4, 12  # pixels: words above; between groups; around names; a letter


def named(
  groups: Sequence[tuple[str, UInt8[np.ndarray, "n h w c"]]],
  columns: int,
  heads: Sequence[str] = (),
  scale: int | None = None,
) -> UInt8[np.ndarray, "height width c"]:
  """The groups below each other, white between them.

  Args:
    groups: a name and its pictures, which fill rows of `columns`; a name of several lines has one for each row.
    columns: pictures in a row.
    heads: words above the columns, each above equally many.
    scale: as pictures.grid has it.
  """
  font = ImageFont.load_default(LETTER)
  grids = [pictures.grid(images, columns, scale=scale) for _, images in groups]
  white = lambda image, down, right: np.pad(image, (down, right, (0, 0)), constant_values=255)
  body = np.concatenate([white(grid, (0, GAP), (0, 0)) for grid in grids])[:-GAP]
  side = 2 * MARGIN + int(max(font.getlength(line) for name, _ in groups for line in name.splitlines()))
  page = white(body, (TOP if heads else 0, 0), (side, 0))
  sheet = Image.fromarray(page[..., 0] if page.shape[2] == 1 else page)
  write = lambda text, x, y, anchor: ImageDraw.Draw(sheet).text(
    (x, y), text, fill=0 if page.shape[2] == 1 else (0, 0, 0), font=font, anchor=anchor
  )
  y = len(page) - len(body)
  for (name, _), grid in zip(groups, grids, strict=True):
    lines = name.splitlines()
    for k, line in enumerate(lines):
      write(line, MARGIN, y + (k + 0.5) * len(grid) / len(lines), "lm")
    y += len(grid) + GAP
  for k, head in enumerate(heads):
    write(head, side + (k + 0.5) * body.shape[1] / len(heads), TOP / 2, "mm")
  return np.asarray(sheet).reshape(page.shape)
