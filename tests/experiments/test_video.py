"""Clips of moving digits: linear blending, and what a short training comes to."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from configs import moving_digits_unet
from experiments.video import extended
from experiments.video.between import blended, psnr

ROOT = Path(__file__).parents[2]


def test_blending_is_linear_between_given_frames_and_constant_outside():
  video = np.random.default_rng(0).integers(0, 256, (2, 6, 3, 3, 1)).astype(np.uint8)
  whole, of = blended(video, (1, 4)), video.astype(float)
  np.testing.assert_array_equal(whole[:, [0, 1, 4, 5]], video[:, [1, 1, 4, 4]])
  for t in (2, 3):
    share = (t - 1) / 3
    np.testing.assert_allclose(whole[:, t], (1 - share) * of[:, 1] + share * of[:, 4], atol=0.5)
  assert psnr(video // 2, video // 2 + 10) == pytest.approx(20 * np.log10(25.5))


def test_a_run_is_judged_by_its_own_data_in_whole_clips_without_captions(monkeypatch, tmp_path):
  config = moving_digits_unet.get_config()
  images, labels = np.full((2, 5, 5), 9, np.uint8), np.arange(2)
  np.savez(tmp_path / "own.npz", train_image=images, test_image=images, train_label=labels, test_label=labels)
  config.data.moving_digits.update(path=str(tmp_path / "own.npz"), seed=3, stills=0.5, captions=True)
  monkeypatch.setattr(extended.workdir, "load", lambda folder: config)
  source = extended.source(tmp_path, "train", frames=24)
  assert (source.side, source.seed, source.stills, source.size, source.frames) == (5, 3, 0.0, 12, 24)
  assert "text" not in source.fields


@pytest.mark.slow
def test_300_steps_learn_what_clips_are(tmp_path):
  """Two minutes on two cores: the mean loss of v over steps 201 to 300, of pixels in [-1, 1] and uniform times."""
  form = ("space.pixels.scale=1", "space.pixels.shift=0", "objective.times=discrete", "train.steps=300")
  arguments = [f"--config.{each}" for each in (*form, "log.sample_every=0")]
  command = [
    sys.executable,
    "main.py",
    "--config=configs/moving_digits_unet.py",
    f"--workdir={tmp_path / 'run'}",
  ]
  environment = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "NPROC")}
  subprocess.run([*command, *arguments], cwd=ROOT, env=environment, check=True, timeout=1800)
  lines = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
  losses = {line["step"]: line["loss"] for line in lines if "loss" in line}
  assert losses[300] <= 0.19
