"""A folder of videos (videos.py): every stretch of so many frames is an example."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import numpy as np

from diffjax.data import cache, decoding
from diffjax.data import split as splits
from diffjax.data.folder import MEMORY
from diffjax.data.images import WHITE, Background, Channels, broken
from diffjax.data.listing import root_of
from diffjax.data.source import Field, fingerprint
from diffjax.data.videos import Video, rule, videos_of
from diffjax.ranges import FREE, LOCAL, Count, Whole, half_open
from diffjax.types import ConfigError


@dataclasses.dataclass(frozen=True)
class VideoSource:
  """Clips of videos, cut out when they are read.

  Attributes:
    clips: [n, 2], the number of a video and the first frame of each -> uint8 [n, T, S, S, C].
    begins: [N, 2], these two of every clip.
    fields, fingerprint: see Source.
  """

  clips: Callable[[np.ndarray], np.ndarray]
  begins: np.ndarray
  fields: Mapping[str, Field]
  fingerprint: str

  def __len__(self) -> int:
    """Number of clips."""
    return len(self.begins)

  def read(self, indices: np.ndarray, names: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """The clips of these indices."""
    return {name: self.clips(self.begins[indices]) for name in names or self.fields}


def video_folder(
  split: str,
  path: Annotated[str, LOCAL, FREE] = "",
  frames: Count = 16,
  stride: Count = 1,
  size: Count = 32,
  channels: Channels = 3,
  background: Background = WHITE,
  test_fraction: Annotated[float, half_open(0, 1)] = 0.05,
  cache_dir: Annotated[str | None, LOCAL, FREE] = None,
  memory: Annotated[Whole, FREE] = MEMORY,
) -> VideoSource:
  """Clips of the videos of a folder; each begins one frame after another, so that a longer video has more.

  Args:
    split: "train" or "test".
    path: the folder.
    frames: of a clip.
    stride: of so many frames a clip takes one.
    size: frames are cropped to the central square and resized to size x size.
    channels: 3 or 1.
    background: the grey value on which transparent frames lie.
    test_fraction: share of the videos that are held out; 0, or where none is held out: the training videos are.
    cache_dir: see cache.folder.
    memory: sets of at most this many decoded bytes are decoded once and kept in memory.

  Raises:
    ConfigError: no such folder, no videos, or one that is too short, empty, mixes sizes or cannot be read.
  """
  root = root_of(path, "videos")
  there, span = videos_of(root, f"path is {path!r}, which"), (frames - 1) * stride + 1
  if short := [video for video in there if video.count < span]:
    more = f", and {len(short) - 1} more are as short" if len(short) > 1 else ""
    raise ConfigError(
      f"frames is {frames} and stride {stride}, which needs videos of {span} frames, and {short[0].name} in {path!r} "
      f"has {short[0].count}{more}; take fewer frames, or remove it."
    )
  rows = splits.rows(split, (video.name.encode() for video in there), test_fraction)
  files = sorted({file for video in there for file in video.files})
  contents = dict(zip(files, cache.contents(path, files, cache_dir), strict=True))
  videos = [there[i] for i in rows]
  digests = [(video.name, [contents[file].tobytes() for file in video.files]) for video in videos]
  form = (size, channels, background)
  key = fingerprint("video_folder", split, frames, stride, *form, digests)
  begins = np.array([(k, first) for k, video in enumerate(videos) for first in range(video.count - span + 1)])
  fields = {"video": Field((frames, size, size, channels), "uint8")}
  total, step = sum(video.count for video in videos), np.arange(frames) * stride
  if total * size**2 * channels > memory:
    one = lambda begin: videos[begin[0]].read(begin[1] + step, *form)
    return VideoSource(lambda begins: np.stack([*decoding.each(one, begins)]), begins, fields, key)
  entry = cache.place("decoded", (str(root.resolve()), split, *form, "videos"), (digests, rule()), cache_dir)
  whole = _decoded(videos, total, form, entry)
  at = np.cumsum([0, *(video.count for video in videos)])
  stretches = lambda begins: whole[(at[begins[:, 0]] + begins[:, 1])[:, None] + step]
  return VideoSource(stretches, begins, fields, key)


def _decoded(videos: Sequence[Video], total: int, form: tuple[int, ...], entry: cache.Place) -> np.ndarray:
  """All frames of all videos, uint8 [total, S, S, C], from the cache or decoded into it."""
  clips = cache.load(entry.file(".npy"), total)
  if clips is not None and clips.shape[1:] == (form[0], form[0], form[1]):
    return clips
  parts, errors = [], []
  for video in videos:
    try:
      parts.append(video.read(range(video.count), *form))
    except ConfigError as error:
      errors.append(error)
  if errors:
    raise broken(errors)
  clips = np.concatenate(parts)
  with cache.keeping(entry.folder):
    cache.save(entry.file(".npy"), clips)
    cache.tidy(entry)
  return clips
