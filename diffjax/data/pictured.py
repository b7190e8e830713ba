"""Sets whose pictures lie in files: decoded once and kept where they fit into memory, else one by one."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from diffjax.data import cache, decoding
from diffjax.data.images import Picture, rule, square
from diffjax.data.source import ArraySource, Field, Source


@dataclasses.dataclass(frozen=True)
class PicturedSource:
  """Pictures that are decoded when they are read.

  Attributes:
    picture: the number of an example -> its picture; one that cannot be read is named.
    arrays: [N, ...] of the other fields.
    fields, fingerprint: see Source.
    count: N.
  """

  picture: Callable[[int], Picture]
  arrays: Mapping[str, np.ndarray]
  fields: Mapping[str, Field]
  fingerprint: str
  count: int

  def __len__(self) -> int:
    """Number of examples."""
    return self.count

  def read(self, indices: np.ndarray, names: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Decodes the images of these indices, where they are asked for."""
    size = self.fields["image"].shape[0]
    pixels = lambda i: square(self.picture(i).image, size)
    batch = lambda: np.stack([*decoding.each(pixels, indices)])
    return {name: batch() if name == "image" else self.arrays[name][indices] for name in names or self.fields}


def pictured(
  what: str, source: PicturedSource, of: tuple, cache_dir: str | None, memory: int, **about
) -> Source:
  """The set itself, or in memory where it takes at most so many bytes.

  Args:
    what: how the lines on the terminal call it.
    source: the set.
    of: what its decoded copies are of, an older one of which they replace.
    cache_dir: see cache.folder.
    memory: bytes.
    about: what ArraySource is told of the fields besides their arrays.
  """
  image = source.fields["image"]
  if len(source) * int(np.prod(image.shape)) > memory:
    return source

  def decode(i):
    picture = source.picture(i)
    return {"image": square(picture.image, image.shape[0])}, picture.notes

  entry = cache.place("decoded", of, (source.fingerprint, rule()), cache_dir)
  arrays = cache.decoded(what, entry, len(source), {"image": image}, decode)
  return ArraySource({**arrays, **source.arrays}, source.fingerprint, **about)
