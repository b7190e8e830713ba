"""Films (MP4 and its like), read and written by PyAV or imageio-ffmpeg, whichever is installed; neither is required."""

import importlib.util
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from diffjax.machine import atomic
from diffjax.types import ConfigError, words

PACKAGES = ("av", "imageio_ffmpeg")


def package() -> str:
  """The package that is at hand; "" for none."""
  return next((name for name in PACKAGES if importlib.util.find_spec(name)), "")


def _required(path: Path) -> str:
  name = package()
  if not name:
    raise ConfigError(
      f"{path} is a film, which needs imageio-ffmpeg or PyAV, and neither is installed; pip install imageio-ffmpeg, "
      "or make a folder of its frames."
    )
  return name


def count(path: Path) -> int:
  """Frames of a film, which are not decoded.

  Raises:
    ConfigError: neither package is there, or the file is no film.
  """
  if _required(path) == "av":
    return _reading(path, lambda: _count_by_av(path))
  import imageio_ffmpeg

  return _reading(path, lambda: imageio_ffmpeg.count_frames_and_secs(str(path))[0])


def frames(path: Path) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
  """The frames of a film, one by one.

  Raises:
    ConfigError: as `count`, when the frame that cannot be read is asked for.
  """
  read = _frames_by_av(path) if _required(path) == "av" else _frames_by_ffmpeg(path)
  while (frame := _reading(path, lambda: next(read, None))) is not None:
    yield frame


def save(
  path: str | os.PathLike, sheets: Sequence[UInt8[np.ndarray, "h w c"]], frames_per_second: int = 8
) -> None:
  """Writes pictures of one size, grey or RGB, as an H.264 film; sides that are odd lose a row or a column."""
  path = Path(path)
  height, width = (side - side % 2 for side in sheets[0].shape[:2])
  whole = [np.ascontiguousarray(np.broadcast_to(s, (*s.shape[:2], 3))[:height, :width]) for s in sheets]
  write = _save_by_av if _required(path) == "av" else _save_by_ffmpeg
  with tempfile.TemporaryDirectory() as folder:
    film = Path(folder, "film.mp4")
    write(str(film), whole, frames_per_second)
    with atomic.writing(path) as file:
      file.write(film.read_bytes())


def _reading(path: Path, read):
  try:
    return read()
  except Exception as error:  # whatever a decoder makes of a stranger's bytes
    message = words(error).splitlines()[0]
    raise ConfigError(f"{path} cannot be read as a film ({message}); mend, convert or remove it.") from None


def _count_by_av(path: Path) -> int:
  import av

  with av.open(str(path)) as film:
    return sum(packet.size > 0 for packet in film.demux(video=0))


def _frames_by_av(path: Path):
  import av

  with av.open(str(path)) as film:
    for frame in film.decode(video=0):
      yield frame.to_ndarray(format="rgb24")


def _frames_by_ffmpeg(path: Path):
  import imageio_ffmpeg

  read = imageio_ffmpeg.read_frames(str(path), pix_fmt="rgb24")
  width, height = next(read)["size"]
  for frame in read:
    yield np.frombuffer(frame, np.uint8).reshape(height, width, 3)


def _save_by_av(path: str, sheets, frames_per_second: int) -> None:
  import av

  with av.open(path, "w") as film:
    stream = film.add_stream("libx264", rate=frames_per_second)
    stream.height, stream.width, stream.pix_fmt = *sheets[0].shape[:2], "yuv420p"
    for sheet in sheets:
      film.mux(stream.encode(av.VideoFrame.from_ndarray(sheet, format="rgb24")))
    film.mux(stream.encode())


def _save_by_ffmpeg(path: str, sheets, frames_per_second: int) -> None:
  import imageio_ffmpeg

  size = sheets[0].shape[1::-1]
  writer = imageio_ffmpeg.write_frames(path, size, fps=frames_per_second, macro_block_size=2)
  writer.send(None)
  for sheet in sheets:
    writer.send(sheet)
  writer.close()
