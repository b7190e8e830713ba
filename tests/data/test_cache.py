"""What is kept between runs: named by all that decides it, and no longer than it is of use."""

import os
import time

import numpy as np
import pytest

from diffjax.data import cache
from diffjax.data.source import Field
from diffjax.types import ConfigError

FIELDS = {"image": Field((2, 2, 1), "uint8"), "label": Field((), "int32", 9)}


def decode(i):
  return {"image": np.full((2, 2, 1), i, np.uint8), "label": i}, ("odd",) if i % 2 else ()


def test_a_set_is_decoded_once_and_again_where_it_is_not_whole(tmp_path, capsys):
  calls = []

  def counted(i):
    calls.append(i)
    return decode(i)

  def run():
    return cache.decoded("set", cache.place("decoded", "set", 1, str(tmp_path)), 5, FIELDS, counted)

  first = run()
  assert calls == [*range(5)] and "decoding set: 5 of 5, 2 odd" in capsys.readouterr().err
  again = run()
  assert len(calls) == 5
  for name in FIELDS:
    np.testing.assert_array_equal(first[name], again[name])
  for file in tmp_path.iterdir():
    whole = file.read_bytes()
    for damaged in (whole[:-3], b"", whole.replace(b"(5", b"(4"), b"\x80\x04K\x01."):
      before = len(calls)
      file.write_bytes(damaged)
      np.testing.assert_array_equal(run()["image"], first["image"])
      assert len(calls) == before + 5


def test_of_many_broken_examples_the_first_are_named():
  def broken(i):
    raise ConfigError(f"{i}.png is broken.")

  with pytest.raises(ConfigError, match=r"^0.png is broken. 1.png .* 2.png is broken. There are 47 more.$"):
    cache.decoded("set", cache.place("decoded", "set"), 50, FIELDS, broken)


def test_the_newest_version_takes_the_place_of_others_of_the_same(tmp_path):
  def keep(of, version):
    place = cache.place("decoded", of, version, str(tmp_path))
    cache.decoded("set", place, 3, FIELDS, decode)
    return {place.file(f".{name}.npy") for name in FIELDS}

  other, old, new = keep("other", 1), keep("set", 1), keep("set", 2)
  assert {*tmp_path.iterdir()} == other | new and not old & new


def test_what_nobody_reads_does_not_stay_for_ever(tmp_path):
  unread, read, theirs = (
    tmp_path / "statistics-x-y.npz",
    tmp_path / "encoded-x-y.npy",
    tmp_path / "weights.npz",
  )
  long_ago = time.time() - (cache.UNREAD + 1) * 24 * 3600
  for path in (unread, read, theirs):
    cache.save(path, np.zeros(3))
    os.utime(path, (long_ago, long_ago))
  assert cache.load(read, 3, mapped=True) is not None
  cache.decoded("set", cache.place("decoded", "set", 1, str(tmp_path)), 3, FIELDS, decode)
  assert not unread.exists() and read.exists() and theirs.exists()


def test_contents_are_read_again_when_a_file_is_another(tmp_path):
  files = [tmp_path / name for name in "ab"]
  for file in files:
    file.write_bytes(b"content of " + file.name.encode())
  first = cache.contents("set", files, str(tmp_path / "cache"))
  np.testing.assert_array_equal(cache.contents("set", files, str(tmp_path / "cache")), first)
  times = files[0].stat()
  time.sleep(0.02)  # the clock of files
  files[0].write_bytes(b"CONTENT of a")
  os.utime(files[0], ns=(times.st_atime_ns, times.st_mtime_ns))  # of the same size and time
  other = cache.contents("set", files, str(tmp_path / "cache"))
  assert (other != first).any(axis=1).tolist() == [True, False]
  assert len([*(tmp_path / "cache").iterdir()]) == 1


def test_places_tell_everything_apart(tmp_path):
  places = {
    cache.place(kind, of, version, str(folder)).file(".npy")
    for kind in cache.KINDS
    for of in ("a", ("a",), ("a", 1), ("a", "1"))
    for version in ((), 1, "1")
    for folder in (tmp_path, tmp_path / "other")
  }
  assert len(places) == 4 * 4 * 3 * 2


def test_the_hashes_of_both_splits_of_a_folder_are_kept(tmp_path, monkeypatch):
  splits = [[tmp_path / f"{split}-{k}" for k in range(2)] for split in ("train", "test")]
  for file in (file for files in splits for file in files):
    file.write_text(file.name)
  read = lambda: [cache.contents(files[0].name, files, str(tmp_path / "cache")) for files in splits]
  first = read()
  monkeypatch.setattr(cache.hashlib, "file_digest", None)  # nothing is hashed again
  np.testing.assert_array_equal(read(), first)
