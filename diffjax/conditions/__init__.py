"""Conditions: what a network is told besides x_t, each from fields of the batch.

    label    a class, one row of a table; its null is the table's last row
    vector   an embedding, as a vector and as tokens; its null is zeros
    low      a small image, as planes at the large one's size; its null is one that is all noise
    text     tokens, read by a transformer that is trained along or by another run's; its null is the empty text
    frames   the first frames of a video, as planes; its null is that none is given
    moving   whether the frames of a video are of one clip; if not, none sees another
    augment  what was done to a training image; made by the augmentation, at sampling nothing was

All conditions of an example are dropped by one draw, each at its own rate (Ho & Salimans 2022, algorithm 1).
"""

from collections.abc import Callable

from diffjax.conditions.condition import Condition, Conditions, nulls, replaced, requests, values
from diffjax.conditions.label import label
from diffjax.conditions.low import low
from diffjax.conditions.text import text
from diffjax.conditions.vector import augment, vector
from diffjax.conditions.video import frames, moving
from diffjax.ranges import checked

__all__ = [
  "CONDITIONS",
  "Condition",
  "Conditions",
  "augment",
  "label",
  "nulls",
  "replaced",
  "requests",
  "values",
]

CONDITIONS: dict[str, Callable[..., Condition]] = checked(
  {
    "label": label,
    "vector": vector,
    "text": text,
    "low": low,
    "frames": frames,
    "moving": moving,
  }
)
