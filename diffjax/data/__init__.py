"""Data sources by name, called as SOURCES[name](split="train" | "test", **kwargs)."""

from collections.abc import Callable

from diffjax.data.arrays import arrays
from diffjax.data.digits import digits
from diffjax.data.folder import image_folder
from diffjax.data.source import Source
from diffjax.data.tfds import tfds

SOURCES: dict[str, Callable[..., Source]] = {
  "digits": digits,
  "tfds": tfds,
  "image_folder": image_folder,
  "arrays": arrays,
}
