"""Data sources by name, called as SOURCES[name](split="train" | "test", **options).

One with captions takes the maker of a tokenizer besides, `tokenizer` (text.py).
"""

from collections.abc import Callable

from diffjax.data.arrays import arrays
from diffjax.data.captions import captions
from diffjax.data.digits import digits
from diffjax.data.emoji import emoji
from diffjax.data.folder import image_folder
from diffjax.data.moving_digits import moving_digits
from diffjax.data.scenes import scenes
from diffjax.data.source import Source
from diffjax.data.tfds import tfds
from diffjax.data.video_folder import video_folder
from diffjax.ranges import checked

SOURCES: dict[str, Callable[..., Source]] = checked(
  {
    "digits": digits,
    "tfds": tfds,
    "image_folder": image_folder,
    "arrays": arrays,
    "scenes": scenes,
    "moving_digits": moving_digits,
    "video_folder": video_folder,
    "emoji": emoji,
    "captions": captions,
  }
)
