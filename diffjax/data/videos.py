"""A stranger's videos as frames, or refused by name. What lies in a folder is, by its kind,

    a folder     one video, its pictures in natural order: 1, 2, 10
    animations   GIF, WebP and APNG, one video each
    npz          its array `video`: uint8 [T, H, W, C], one video, or [N, T, H, W, C], N of them; C is 1 or 3
    films        MP4 and its like, one video each, where imageio-ffmpeg or PyAV is installed (machine/films.py)

and a frame is read as any picture is (images.py). What begins with a dot is passed over, and so are other files.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from diffjax.data import images, npz
from diffjax.data.images import ENDINGS, FORMATS, current_frame, opened, picture, square
from diffjax.data.listing import natural
from diffjax.data.source import fingerprint
from diffjax.machine import films
from diffjax.machine.byproducts import to_stderr
from diffjax.types import ConfigError, words

ANIMATIONS = (".gif", ".webp", ".apng")
FILMS = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi")
KINDS = (*ANIMATIONS, ".npz", *FILMS)
ARRAY = "video"


def rule() -> str:
  """A hash of how videos are read, which with a file's content decides the pixels."""
  return fingerprint(Path(__file__).read_bytes(), images.rule())


class Video(NamedTuple):
  """A video before it is decoded.

  Attributes:
    name: below the folder.
    files: that it lies in.
    count: of its frames.
    images: (numbers of frames, ascending, channels, background) -> their pictures as `images.opened` gives them.
  """

  name: str
  files: tuple[Path, ...]
  count: int
  images: Callable[[Sequence[int], int, int], Iterator[Image.Image]]

  def read(self, at: Sequence[int], size: int, channels: int, background: int) -> np.ndarray:
    """The central squares of these frames, uint8 [n, size, size, channels].

    Raises:
      ConfigError: a frame that cannot be read, or that has another size than the first of them.
    """
    frames, first = [], None
    for number, image in zip(at, self.images(at, channels, background), strict=True):
      first = first or (number, image.size)
      if image.size != first[1]:
        raise ConfigError(
          f"{self.name} mixes sizes: frame {first[0]} is {'{}x{}'.format(*first[1])} and frame {number} is "
          f"{'{}x{}'.format(*image.size)}; resize them all to one."
        )
      frames.append(square(image, size))
    return np.stack(frames)


def videos_of(root: Path, what: str) -> list[Video]:
  """The videos of a folder, in natural order.

  Args:
    root: the folder.
    what: how the message of an error begins.

  Raises:
    ConfigError: there are none, or one that is empty or cannot be read; pictures that lie in the folder itself.
  """
  videos, pictures, others = [], [], 0
  for path in sorted(root.iterdir(), key=lambda path: natural(path.name)):
    if path.name.startswith("."):
      continue
    ending = path.suffix.lower()
    if path.is_dir():
      videos.append(_of_folder(path))
    elif ending in KINDS:
      videos += _of_npz(path) if ending == ".npz" else [OPENED[ending](path)]
    elif ending in ENDINGS:
      pictures.append(path.name)
    else:
      others += 1
  if pictures:
    raise ConfigError(
      f"{what} holds the picture {pictures[0]!r} itself; put the frames of each video into a folder of their own."
    )
  if not videos:
    raise ConfigError(f"{what} holds no videos, which are folders of frames or files of {', '.join(KINDS)}.")
  if others:
    to_stderr(f"{what}: passed over {others} other files; {len(videos)} videos.")
  for video in videos:
    if not video.count:
      raise ConfigError(f"{root / video.name} holds no frames; remove it.")
  return videos


def _of_folder(path: Path) -> Video:
  files = [file for file in path.iterdir() if file.suffix.lower() in ENDINGS and file.name[0] != "."]
  files = tuple(sorted(files, key=lambda file: natural(file.name)))
  return Video(path.name, files, len(files), lambda at, *how: (opened(files[k], *how).image for k in at))


def _of_animation(path: Path) -> Video:
  def images(at, *how):
    with Image.open(path, formats=FORMATS) as image:
      for k in at:
        image.seek(k)
        yield current_frame(image, *how).image

  def count():
    with Image.open(path, formats=FORMATS) as image:
      return getattr(image, "n_frames", 1)

  def each(*arguments):
    pending = images(*arguments)
    while (image := _reading(path, lambda: next(pending, None))) is not None:
      yield image

  return Video(path.name, (path,), _reading(path, count), each)


def _reading(path: Path, read):
  try:
    return read()
  except Exception as error:  # whatever a decoder makes of a stranger's bytes
    raise ConfigError(
      f"{path} cannot be read as an animation ({words(error)}); mend, convert or remove it."
    ) from None


def _of_npz(path: Path) -> list[Video]:
  arrays, there = npz.read(path, (ARRAY,))
  if ARRAY not in arrays:
    raise ConfigError(f"{path} has no array {ARRAY!r} but {', '.join(there) or 'none'}; call the frames' so.")
  frames = arrays[ARRAY]
  if frames.dtype != np.uint8 or frames.ndim not in (4, 5) or frames.shape[-1] not in (1, 3):
    raise ConfigError(
      f"{path} holds {frames.dtype} {list(frames.shape)}; videos are uint8 [T, H, W, C], or [N, T, H, W, C], with 1 "
      "or 3 channels."
    )
  if frames.ndim == 4:
    return [_of_array(path.name, path, frames)]
  return [_of_array(f"{path.name}[{i}]", path, each) for i, each in enumerate(frames)]


def _of_array(name: str, path: Path, frames: np.ndarray) -> Video:
  image = lambda frame: Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame)
  images = lambda at, *how: (picture(image(frames[k]), *how).image for k in at)
  return Video(name, (path,), len(frames) if frames.size else 0, images)


def _of_film(path: Path) -> Video:
  def images(at, *how):
    numbers, count = {*at}, 0
    for k, frame in enumerate(itertools.islice(films.frames(path), max(at) + 1)):
      if k in numbers:
        count += 1
        yield picture(Image.fromarray(frame), *how).image
    if count < len(at):
      raise ConfigError(f"{path} ends before frame {at[count]}, though it says otherwise; mend or remove it.")

  return Video(path.name, (path,), films.count(path), images)


OPENED = dict.fromkeys(ANIMATIONS, _of_animation) | dict.fromkeys(FILMS, _of_film)
