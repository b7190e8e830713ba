"""FVD: its covariances, its frames, its name; what it refuses; and memory beside it."""

import numpy as np
import pytest
import scipy.linalg

from diffjax.data import SOURCES
from diffjax.metrics import fvd
from diffjax.types import ConfigError

KNOWN = 30


@pytest.fixture
def build(monkeypatch, tmp_path):
  """The metric with three features of 16 frames in the place of I3D's, and the clips."""
  seen = []

  def extract(video):
    seen.append(video.shape)
    return video.reshape(len(video), 16, -1)[:, [0, 7, 15]].astype(np.float32).mean(2)

  monkeypatch.setenv("DIFFJAX_CACHE", str(tmp_path))
  monkeypatch.setattr(fvd.i3d_weights, "load", lambda path: {})
  monkeypatch.setattr(fvd, "extractor", lambda variables, parallel, resize, batch_size: extract)

  def make(frames=18, **options):
    clips = {"frames": frames, "count": 60, "test_count": 40}
    train, test = (SOURCES["moving_digits"](split=split, **clips) for split in ("train", "test"))
    return fvd.metric(train, test, None, **options), train, test, seen

  return make


def test_it_is_the_distance_of_population_moments_of_the_first_16_frames(build):
  metric, train, test, seen = build(known=60)
  samples = test.read(np.arange(40), ("video",))
  values = metric.judge(samples, {})
  of = lambda video: video[:, [0, 7, 15]].reshape(len(video), 3, -1).astype(float).mean(2)
  (a, c), (b, d) = (
    (x.mean(0), np.cov(x.T, bias=True))
    for x in (of(samples["video"]), of(train.read(np.arange(60), ("video",))["video"]))
  )
  want = ((a - b) ** 2).sum() + np.trace(c + d - 2 * scipy.linalg.sqrtm(c @ d).real)
  np.testing.assert_allclose(values["fvd_40"], want, rtol=1e-3)
  assert values["memory_ratio"] == 1 and values.keys() == {"fvd_40", "memory_ratio", "memory_share"}
  assert metric.settings["frames"] == 16 and metric.settings["reference"].startswith("60 clips of ")
  there = len(seen)
  build(known=60)
  assert len(seen) == there  # the training clips' features were kept
  build(known=KNOWN)
  assert seen[-1] == (KNOWN, 16, 16, 16, 1)


def test_what_is_no_fvd_is_refused(build):
  with pytest.raises(ConfigError, match="of 16 frames, and the data's have 8; .* Take clips of at least 16"):
    build(8)
  with pytest.raises(ConfigError, match="it is for clips, and the data are image, label; leave it out"):
    fvd.metric(*(SOURCES["digits"](split=split) for split in ("train", "test")), None)
