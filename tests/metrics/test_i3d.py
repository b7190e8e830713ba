"""I3D: its names and size, its input by a formula of its own, its file, and another implementation's logits."""

import os

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from diffjax.machine.parallel import Parallel
from diffjax.metrics import i3d, i3d_weights
from diffjax.types import ConfigError

PARALLEL = Parallel("jit", Mesh(np.asarray(jax.devices()[:1]), ("data",)))


def test_the_network_is_as_large_as_published():
  """230 tensors and 12,704,544 numbers are in the published file."""
  shapes, kept = i3d_weights.shapes(), {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
    kept[i3d_weights.name_of(path)] = leaf.shape
  assert len(kept) == 230 and sum(map(np.prod, kept.values())) == 12_704_544
  assert kept["Conv3d_1a_7x7.conv.weight"] == (7, 7, 7, 3, 64)
  assert kept["Mixed_4d.branch_2.0b.conv.weight"] == (3, 3, 3, 24, 64)
  assert kept["Mixed_5c.branch_3.0b.bn.var"] == (128,) and kept["logits.bias"] == (400,)


@pytest.mark.parametrize(("resize", "centre"), [("pytorch", 0.5), ("tf1", 0.0)])
def test_clips_are_enlarged_between_two_pixels(resize, centre):
  video = np.random.default_rng(0).integers(0, 256, (1, 2, 3, 5, 1), np.uint8)
  seen = i3d.preprocess(video, resize, 7)
  assert seen.shape == (1, 2, 7, 7, 3)
  rows, columns = ((np.arange(7) + centre) * (n / 7) - centre for n in (3, 5))
  along = lambda line, at: np.interp(at, np.arange(len(line)), line)  # which repeats the edges
  wide = np.apply_along_axis(along, 2, video[0, ..., 0].astype(float), columns)
  want = np.apply_along_axis(along, 1, wide, rows) / 127.5 - 1
  for colour in range(3):
    np.testing.assert_allclose(seen[0, ..., colour], want, atol=1e-5)


def test_other_clips_and_files_are_refused(tmp_path, monkeypatch):
  with pytest.raises(ConfigError, match="resize is 'clean'; it must be one of pytorch, tf1"):
    i3d.extractor({}, PARALLEL, "clean")
  for shape in ((1, 8, 8, 8, 3), (1, 16, 8, 8, 2), (16, 8, 8, 3)):
    with pytest.raises(ConfigError, match=r"the clips are uint8 \[.*of at least 9 frames"):
      i3d.extractor({}, PARALLEL)(np.zeros(shape, np.uint8))
  monkeypatch.setenv("DIFFJAX_I3D", str(tmp_path / "none.npz"))
  with pytest.raises(ConfigError, match="weights_file: .*none.npz, which is not there; put the npz there"):
    i3d_weights.load()
  np.savez(tmp_path / "other.npz", **{"logits.bias": np.zeros(400, np.float32)})
  with pytest.raises(ConfigError, match="other.npz are not I3D's published ones"):
    i3d_weights.load(str(tmp_path / "other.npz"))


@pytest.mark.assets
def test_logits_are_those_of_another_implementation():
  """DIFFJAX_I3D_GOLDEN names an npz of clips `clip_*` uint8 [T, H, W, 3], their names and logits [N, 400]."""
  golden = np.load(os.environ["DIFFJAX_I3D_GOLDEN"])
  extract = i3d.extractor(i3d_weights.load(), PARALLEL, batch_size=1)
  for name, want in zip(golden["clip_names"], golden["logits"], strict=True):
    np.testing.assert_allclose(extract(golden[f"clip_{name}"][None])[0], want, atol=1e-3)
