"""By-products fail alone and say so once; the file system's errors and numbers that are none, in words and JSON."""

import errno
import json
import math
import os

import pytest

from diffjax.machine import atomic, disk, reporting
from diffjax.machine.byproducts import ByProducts
from diffjax.types import ConfigError


def test_a_failure_ends_its_block_alone_and_is_said_the_first_time():
  lines = []
  byproducts = ByProducts(lines.append)
  for _ in range(3):
    with byproducts.may_fail("the preview"):
      raise OSError(errno.EROFS, "Read-only file system", "/data/x")
  with byproducts.may_fail("the cache", (OSError, ConfigError)):
    raise ConfigError("2 of 4 samples are not finite.")
  assert lines == [
    "warning: the preview failed, and the run goes on without: /data/x: Read-only file system",
    "warning: the cache failed, and the run goes on without: 2 of 4 samples are not finite.",
  ]
  for error in (ValueError, KeyboardInterrupt):  # others are none of its business
    with pytest.raises(error), byproducts.may_fail("the preview"):
      raise error


@pytest.mark.parametrize("name", ["log.txt", "metrics.jsonl", "tensorboard"])
def test_a_run_outlives_every_file_that_tells_of_it(name, tmp_path, capsys):
  (tmp_path / name).write_text("x") if name == "tensorboard" else (tmp_path / name).mkdir()
  with reporting.create(tmp_path) as reporter:
    reporter.resumed(0)
    for step in (1, 2):
      reporter.metrics(step, {"loss": 1.0})
      reporter.line(f"hello {step}")
  output = capsys.readouterr().err
  assert output.count(f"warning: {name} failed") == 1 == output.count("hello 2")
  written = {path.name for path in tmp_path.iterdir() if path.name != name}
  assert written == {"log.txt", "metrics.jsonl", "tensorboard"} - {name}
  if name != "metrics.jsonl":
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_json_holds_numbers_or_null(tmp_path):
  value = {"a": math.nan, "b": [1.5, math.inf, (-math.inf, 2)], "c": {"d": "nan"}, "e": None}
  atomic.write_json(tmp_path / "new" / "x.json", value)

  def refuse(constant):
    raise AssertionError(f"{constant} is not JSON")

  record = json.loads((tmp_path / "new" / "x.json").read_text(), parse_constant=refuse)
  assert record == {"a": None, "b": [1.5, None, [None, 2]], "c": {"d": "nan"}, "e": None}
  with pytest.raises(TypeError):
    atomic.write_json(tmp_path / "new" / "x.json", {"a": object()})
  assert record == json.loads((tmp_path / "new" / "x.json").read_text())  # all or nothing
  assert [path.name for path in (tmp_path / "new").iterdir()] == ["x.json"]


@pytest.mark.parametrize(
  "number, remedy",
  [(errno.ENOSPC, "make room"), (errno.EROFS, "by --workdir or --out"), (errno.EIO, "look at this place")],
)
def test_an_error_of_the_file_system_names_place_reason_and_remedy(number, remedy):
  text = disk.paragraph(OSError(number, os.strerror(number), "/data/run"))
  assert text.startswith(f"/data/run: {os.strerror(number)}. ") and remedy in text and "Errno" not in text


def test_a_folder_that_cannot_be_is_refused_before_anything_is_made(tmp_path, monkeypatch):
  (tmp_path / "file").write_text("x")
  for place in ("file", "file/deep/run"):
    with pytest.raises(ConfigError, match=f"--out=x cannot be made: {tmp_path / 'file'} is a file"):
      disk.require_folder(tmp_path / place, "--out=x")
  disk.require_folder(tmp_path / "a" / "b", "--out=x")
  monkeypatch.setattr(os, "access", lambda path, how: False)  # root may write everywhere
  with pytest.raises(ConfigError, match=f"cannot be written to: {tmp_path} is read-only"):
    disk.require_folder(tmp_path / "a" / "b", "--out=x")
  disk.require_folder(tmp_path / "a" / "b", "--out=x", writes=False)
  assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_sizes_are_readable():
  assert [disk.size(n) for n in (0, 999, 1500, 2.34e9, 5e13)] == [
    *("0 bytes", "999 bytes", "1.5 kB", "2.34 GB", "50 TB")
  ]
