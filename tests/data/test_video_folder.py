"""Videos of every kind give the frames that were written, clips are their stretches, and others are told by name."""

import numpy as np
import pytest
from PIL import Image

from diffjax.data import SOURCES, videos
from diffjax.data.videos import videos_of
from diffjax.machine import films
from diffjax.types import ConfigError

FRAMES = np.kron(np.random.default_rng(0).integers(0, 256, (6, 2, 3, 1)), np.ones((8, 8, 1))).astype(np.uint8)


def as_folder(root, name="clip", frames=FRAMES):
  (root / name).mkdir(parents=True)
  for t, frame in enumerate(frames):  # 10 comes after 9
    Image.fromarray(frame[..., 0]).save(root / name / f"{t + 8}.png")
  return root


def as_gif(root):
  first, *others = (Image.fromarray(frame[..., 0]) for frame in FRAMES)
  first.save(root / "clip.gif", save_all=True, append_images=others, loop=0, duration=100)


def as_npz(root):
  np.savez(root / "clips.npz", video=np.stack([FRAMES, FRAMES]))


def source(root, **options):
  given = {
    "frames": 3,
    "size": 16,
    "channels": 1,
    "test_fraction": 0.0,
    "cache_dir": str(root.parent / "cache"),
  }
  return SOURCES["video_folder"](split="train", path=str(root), **(given | options))


@pytest.fixture
def root(tmp_path):
  (tmp_path / "set").mkdir()
  return tmp_path / "set"


@pytest.mark.parametrize("write", [as_folder, as_gif, as_npz])
@pytest.mark.parametrize("memory", [0, 2**20])
def test_clips_are_the_stretches_of_what_was_written(root, write, memory):
  write(root)
  result = source(root, stride=2, memory=memory)
  middle = FRAMES[:, :, 4:20]  # the central square
  want = np.stack([middle[first : first + 5 : 2] for first in range(2)])
  several = 2 if write is as_npz else 1
  assert len(result) == 2 * several and result.fields.keys() == {"video"}
  np.testing.assert_array_equal(
    result.read(np.arange(len(result)))["video"], np.concatenate([want] * several)
  )
  np.testing.assert_array_equal(result.read(np.array([1]))["video"][0], want[1])
  whole = source(root, frames=6, memory=memory)  # which an other stretch of the same cached frames is
  np.testing.assert_array_equal(whole.read(np.array([0]))["video"][0], middle)


def test_what_is_no_set_of_videos_is_told(root):
  refused = lambda match: pytest.raises(ConfigError, match=match)
  with refused("path is '', which is not a folder"):
    SOURCES["video_folder"](split="train")
  with refused("holds no videos, which are folders of frames or files of .gif"):
    source(root)
  as_folder(root)
  with refused("frames is 4 and stride 2, which needs videos of 7 frames, and clip in .* has 6; take fewer"):
    source(root, frames=4, stride=2)
  Image.new("L", (8, 8)).save(root / "clip" / "99.png")
  with refused("clip mixes sizes: frame 0 is 24x16 and frame 6 is 8x8; resize them all to one"):
    source(root)
  (root / "clip" / "99.png").write_bytes(b"no picture")
  with refused("99.png cannot be read as an image"):
    source(root)
  (root / "empty").mkdir()
  with refused("empty holds no frames; remove it"):
    source(root)
  (root / "empty").rmdir()
  Image.new("L", (8, 8)).save(root / "a.png")
  with refused("holds the picture 'a.png' itself; put the frames of each video into a folder"):
    source(root)


@pytest.mark.parametrize(
  ("arrays", "message"),
  [
    ({"frames": FRAMES}, "has no array 'video' but frames"),
    ({"video": FRAMES / 255}, r"holds float64 \[6, 16, 24, 1\]; videos are uint8"),
    ({"video": FRAMES[:0]}, "holds no frames"),
  ],
)
def test_an_npz_of_other_things_is_told(root, arrays, message):
  np.savez(root / "a.npz", **arrays)
  with pytest.raises(ConfigError, match=f"a.npz {message}"):
    source(root)


def test_a_cut_animation_is_told(root):
  as_gif(root)
  whole = (root / "clip.gif").read_bytes()
  for length in (0, 5, len(whole) // 2):
    (root / "clip.gif").write_bytes(whole[:length])
    with pytest.raises(
      ConfigError, match=r"clip\.gif .*(cannot be read as an animation|needs videos of 6)|has [0-5];"
    ):
      source(root, frames=6)


def test_frames_of_16_bits_are_those_of_8(root):
  first, *others = (Image.fromarray(frame[..., 0].astype(np.uint16) * 257) for frame in FRAMES[:3])
  first.save(root / "clip.apng", "PNG", save_all=True, append_images=others)
  np.testing.assert_array_equal(source(root).read(np.array([0]))["video"][0], FRAMES[:3, :, 4:20])


def test_an_animation_is_told_by_its_content(root):
  """Pillow would start Ghostscript for this one."""
  (root / "clip.gif").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
  with pytest.raises(ConfigError, match=r"clip\.gif cannot be read as an animation \(cannot identify"):
    source(root)


def test_a_film_names_what_it_needs(root, monkeypatch):
  (root / "clip.mp4").write_bytes(b"")
  monkeypatch.setattr(films, "PACKAGES", ())
  with pytest.raises(
    ConfigError, match="clip.mp4 is a film, which needs imageio-ffmpeg or PyAV, and neither is"
  ):
    source(root)


@pytest.mark.slow
@pytest.mark.parametrize("package", films.PACKAGES)
def test_a_film_comes_back(root, monkeypatch, package):
  pytest.importorskip(package)
  monkeypatch.setattr(films, "PACKAGES", (package,))
  films.save(root / "clip.mp4", [np.pad(frame, ((0, 1), (0, 0), (0, 0))) for frame in FRAMES])
  (video,) = videos_of(root, "it")
  assert video.count == 6
  for at in (range(6), [1, 4]):
    read = video.read(at, 16, 1, 255)
    assert np.abs(read.astype(int) - FRAMES[at][:, :, 4:20]).mean() < 6
  (root / "clip.mp4").write_bytes((root / "clip.mp4").read_bytes()[:700])
  with pytest.raises(ConfigError, match="clip.mp4 cannot be read as a film"):
    source(root, frames=6)


def test_another_way_to_read_videos_decodes_them_anew(root, monkeypatch, tmp_path):
  as_folder(root)
  there = lambda: [path.name for path in (tmp_path / "cache").glob("decoded-*.npy")]
  source(root)
  first = there()
  source(root)
  assert there() == first and len(first) == 1
  (tmp_path / "videos.py").write_text("another")
  monkeypatch.setattr(videos, "__file__", str(tmp_path / "videos.py"))
  source(root)
  assert there() != first
