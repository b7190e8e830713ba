"""Clips of scanned digits that move and bounce: embedded, and as many as are asked for.

Clip i is a function of (split, seed, i). It draws scans from the split's digits, for each a speed |v| uniform on
[slowest, fastest] pixels a frame in any direction, and a place p_0 of its upper left corner uniform on the canvas.
In frame t that corner is at

    p_t = fold(p_0 + t v),   fold the triangular wave of period 2 (size - side) on [0, size - side]     (1)

and the digit is drawn with bilinear weights; where digits overlap, the larger grey value stands. So every law of a
clip is known, and samples are judged by them (metrics/moving_digits.py).

A share of the training clips may be `stills`: every frame another scan of the clip's class at a place of its own,
as if frames of unrelated clips were joined. The field `moving` says which is which; the condition of that name tells a
network to let no frame of stills see another (Ho et al. 2022, Video Diffusion Models, section 3.1).

Captions say of each digit what it is and the nearest of four directions in which it sets out: "a three moving down",
"a two moving left and a nine moving up"; of one that does not move, "a three".
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from diffjax.data.arrays import arrays
from diffjax.data.digits import NAMES
from diffjax.data.digits import digits as scanned
from diffjax.data.hashing import uniform
from diffjax.data.source import ArraySource, Field, fingerprint
from diffjax.data.text import Tokenizer
from diffjax.ranges import FREE, LOCAL, Count, NotNegative, Rate, Whole
from diffjax.types import ConfigError

SIDE = 8  # of scikit-learn's digits
WAYS = ("", " moving up", " moving down", " moving left", " moving right")


class Paths(NamedTuple):
  """Clips before they are drawn.

  Attributes:
    scans: [n, T, K] the number of the scan of digit k in frame t.
    places: [n, T, K, 2] its upper left corner, down and right, in pixels.
    velocity: [n, K, 2] in pixels a frame, at first; 0 of stills.
    moving: [n] whether the frames are of one clip.
  """

  scans: Int[np.ndarray, "n t k"]
  places: Float[np.ndarray, "n t k 2"]
  velocity: Float[np.ndarray, "n k 2"]
  moving: np.ndarray


def fold(p: np.ndarray, room: float) -> np.ndarray:
  """Equation (1)'s reflections into [0, room]."""
  p = np.mod(p, 2 * room)
  return np.minimum(p, 2 * room - p)


def bilinear(images: Float[np.ndarray, "m d e"], places: Float[np.ndarray, "m 2"], size: int) -> np.ndarray:
  """[m, size, size]: black but for each image, its corner at its place in pixels, between pixels by their areas."""
  m, height, width = images.shape
  corner = np.floor(places).astype(int)
  (a, b), canvas = (places - corner).T[..., None, None], np.zeros((m, size + 1, size + 1))
  rows = corner[:, :1] + np.arange(height)
  columns = corner[:, 1:] + np.arange(width)
  for down, left in ((0, 1 - a), (1, a)):
    for right, weight in ((0, left * (1 - b)), (1, left * b)):
      canvas[np.arange(m)[:, None, None], rows[:, :, None] + down, columns[:, None] + right] += (
        weight * images
      )
  return canvas[:, :size, :size]


@dataclasses.dataclass(frozen=True)
class MovingDigits:
  """Clips by number, drawn when they are read; see `moving_digits`."""

  scans: ArraySource
  split: str
  seed: int
  size: int
  frames: int
  count: int
  digits: int
  speeds: tuple[float, float]
  stills: float
  fingerprint: str
  tokenizer: Tokenizer | None = None

  @property
  def side(self) -> int:
    """Of a digit."""
    return self.scans.arrays["image"].shape[1]

  @property
  def fields(self) -> dict[str, Field]:
    """The clip, the digits' classes, where they begin and how they move, whether they do, and captions of that."""
    each, read = (self.digits,) if self.digits > 1 else (), self.tokenizer
    text = {"text": Field((read.length,), "int32", read.vocabulary, tokenizer=read)} if read else {}
    return text | {
      "video": Field((self.frames, self.size, self.size, 1), "uint8"),
      "label": Field(each, "int32", 10, NAMES),
      "velocity": Field((2 * self.digits,), "float32"),
      "place": Field((2 * self.digits,), "float32"),
      "moving": Field((), "int32", 2, ("stills", "a clip")),
    }

  def __len__(self) -> int:
    """Number of clips."""
    return self.count

  def paths(self, indices: Int[np.ndarray, "n"]) -> Paths:
    """What these clips are, before they are drawn."""
    at = (self.seed, ("train", "test").index(self.split), np.asarray(indices, np.int64))
    k, room = np.arange(self.digits), self.size - self.side

    def uniforms(name, *axes):
      """[n, *axes] of the clip's own numbers."""
      places = np.meshgrid(*(np.arange(axis) for axis in axes), indexing="ij")
      return uniform(*at[:2], at[2].reshape(-1, *[1] * len(axes)), name, *places)

    first = (uniforms(0, len(k)) * len(self.scans)).astype(int)
    angle, u = 2 * np.pi * uniforms(1, len(k)), uniforms(2, len(k))
    speed = self.speeds[0] + u * (self.speeds[1] - self.speeds[0])
    velocity = speed[..., None] * np.stack([np.sin(angle), np.cos(angle)], -1)
    begin = room * uniforms(3, len(k), 2)
    steps = np.arange(self.frames)[:, None, None]
    places = fold(begin[:, None] + steps * velocity[:, None], room)
    scans = np.broadcast_to(first[:, None], places.shape[:3])
    moving = uniforms(4) >= self.stills
    if not moving.all():
      each, still = lambda a: a.reshape(-1, *[1] * (places.ndim - 1)), ~moving
      anywhere = room * uniforms(5, self.frames, len(k), 2)
      others = self._alike(first, uniforms(6, self.frames, len(k)))
      places = np.where(each(still), anywhere, places)
      scans = np.where(each(still)[..., 0], others, scans)
      velocity = np.where(each(still)[..., 0], 0, velocity)
    return Paths(scans, places, velocity, moving)

  def _alike(self, first, u) -> np.ndarray:
    """Scans [n, T, K] of the classes of `first` [n, K], by numbers u in [0, 1)."""
    labels = self.scans.arrays["label"]
    order, counts = np.argsort(labels, kind="stable"), np.bincount(labels, minlength=10)
    classes = labels[first][:, None]
    return order[(np.cumsum(counts) - counts)[classes] + (u * counts[classes]).astype(int)]

  def clips(self, paths: Paths) -> UInt8[np.ndarray, "n t s s 1"]:
    """The clips."""
    images = self.scans.arrays["image"][paths.scans, ..., 0].reshape(-1, self.side, self.side).astype(float)
    each = bilinear(images, paths.places.reshape(-1, 2), self.size)
    video = each.reshape(*paths.scans.shape, self.size, self.size).max(2)
    return np.rint(video).astype(np.uint8)[..., None]

  def captions(self, paths: Paths) -> list[str]:
    """Of the clips."""
    labels = self.scans.arrays["label"][paths.scans[:, 0]]
    down, right = np.moveaxis(paths.velocity, -1, 0)
    upright = np.abs(down) >= np.abs(right)
    way = np.where(upright, 1 + (down > 0), 3 + (right > 0)) * (np.hypot(down, right) > 0)
    pairs = zip(labels, way, strict=True)
    return [" and ".join(f"a {NAMES[k]}{WAYS[w]}" for k, w in zip(*pair, strict=True)) for pair in pairs]

  def read(self, indices: np.ndarray, names: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Makes the clips, and draws them where they are asked for."""
    paths = self.paths(indices)
    flat = lambda values: values.reshape(len(values), -1).astype(np.float32)
    read = {
      "text": lambda: self.tokenizer(self.captions(paths)),
      "video": lambda: self.clips(paths),
      "label": lambda: self.scans.arrays["label"][paths.scans[:, 0]].reshape(-1, *self.fields["label"].shape),
      "velocity": lambda: flat(paths.velocity),
      "place": lambda: flat(paths.places[:, 0]),
      "moving": lambda: paths.moving.astype(np.int32),
    }
    return {name: read[name]() for name in names or self.fields}


def moving_digits(
  split: str,
  size: Count = 16,
  frames: Count = 8,
  digits: Count = 1,
  slowest: NotNegative = 0.6,
  fastest: NotNegative = 1.8,
  stills: Rate = 0.0,
  count: Count = 1_000_000,
  test_count: Count = 2048,
  seed: Whole = 0,
  path: Annotated[str, LOCAL, FREE] = "",
  captions: bool = False,
  tokenizer: Callable[..., Tokenizer] | None = None,
) -> MovingDigits:
  """Clips of bouncing digits; see the module's docstring.

  Args:
    split: "train" or "test".
    size: of the canvas in pixels, more than a digit's 8 (MNIST's 28).
    frames: of a clip.
    digits: digits on the canvas.
    slowest: speed in pixels a frame.
    fastest: not less.
    stills: share of the training clips whose frames belong to different clips.
    count: clips of the training split; none is stored.
    test_count: clips of the test split.
    seed: of the clips.
    path: an npz of other digits, such as MNIST's: train_image and test_image, uint8 [N, S, S], and train_label and
      test_label, 0 to 9; by default they are scikit-learn's.
    captions: whether there is the field `text`.
    tokenizer: maker of its tokenizer, called with captions that hold all words.

  Raises:
    ConfigError: a canvas without room, speeds in the wrong order, or other digits that are none.
  """
  scans = _of_file(path, split) if path else scanned(split)
  if size <= (side := scans.fields["image"].shape[0]):
    raise ConfigError(f"size is {size}; a digit of {side} x {side} pixels needs more to move.")
  if slowest > fastest:
    raise ConfigError(f"slowest is {slowest} and fastest {fastest}; the first must not be larger.")
  stills = stills if split == "train" else 0.0
  number = count if split == "train" else test_count
  settings = (seed, size, frames, number, digits, (slowest, fastest), stills)
  read = (
    tokenizer([" and ".join([f"a {n}{way}"] * digits) for n in NAMES for way in WAYS]) if captions else None
  )
  fingerprints = (read.fingerprint,) if read else ()
  key = fingerprint("moving_digits", split, *settings, scans.fingerprint, *fingerprints)
  return MovingDigits(scans, split, *settings, key, read)


def _of_file(path: str, split: str) -> ArraySource:
  """The digits of an npz."""
  scans = arrays("train", path, image=f"{split}_image", label=f"{split}_label", test_fraction=0.0)
  height, width, channels = scans.fields["image"].shape
  if height != width or channels != 1 or "label" not in scans.fields or scans.fields["label"].classes > 10:
    fields = ", ".join(f"{name} {list(field.shape)}" for name, field in scans.fields.items())
    raise ConfigError(
      f"path is {path!r}, whose {split} examples are {fields}; digits are square grey images with labels 0 to 9."
    )
  return scans
