"""Results of other settings stay beside one another, and the samples that evaluations keep are bounded."""

import json
import os
from types import SimpleNamespace

import numpy as np

from diffjax.jobs import report, results


def test_a_report_of_other_settings_stays(tmp_path):
  picture = np.zeros((2, 2, 1), np.uint8)
  for name, value in (("one", 1), ("two", 2)):
    report.save(tmp_path, {"value": value}, {"grid": picture + value}, name)
  read = lambda name: json.loads((tmp_path / name).read_text())["value"]
  assert [read(f"metrics{ending}.json") for ending in ("-one", "-two", "")] == [1, 2, 2]
  assert {path.name for path in tmp_path.glob("*.png")} == {"grid.png", "grid-one.png", "grid-two.png"}


def test_the_last_sets_of_samples_are_kept(tmp_path):
  folders = [tmp_path / f"samples-{k}" for k in range(5)]
  for k, folder in enumerate(folders):
    folder.mkdir()
    (folder / "seed0.npz").write_text("x")
    os.utime(folder, (k, k))
  (tmp_path / "metrics.json").write_text("{}")
  results.bound(tmp_path, folders[0])  # which was used again
  assert {path.name for path in tmp_path.iterdir()} == {"metrics.json", "samples-0", "samples-3", "samples-4"}


def test_samples_under_another_level_of_noise_have_another_name():
  def name(level):
    plain = {"sample": {"steps": 2}, "condition": {"low": {"level": level}}}
    return results.of_samples(SimpleNamespace(uses={}, plain=plain), {}, {"index": np.arange(2)})

  assert name(0.0) == name(0.0) != name(0.1)
