"""Order, sources and the pipeline."""

import contextlib
import importlib
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from diffjax.data import SOURCES
from diffjax.data.folder import images_of
from diffjax.data.order import indices
from diffjax.data.pictured import PicturedSource
from diffjax.data.pipeline import batches, in_order
from diffjax.data.source import ArraySource, Field
from diffjax.types import ConfigError

LEAST = 1e-12  # of files that are held out: none


@given(st.integers(0, 5), st.integers(1, 40), st.integers(1, 30))
def test_every_epoch_visits_each_row_once_whatever_the_batch(seed, size, batch_size):
  steps = -(-3 * size // batch_size)
  stream = np.concatenate([indices(seed, s, batch_size, size) for s in range(steps)])
  for epoch in range(3):
    assert sorted(stream[epoch * size : (epoch + 1) * size]) == list(range(size))
  one_by_one = np.concatenate([indices(seed, s, 1, size) for s in range(len(stream))])
  np.testing.assert_array_equal(stream, one_by_one)


def test_epochs_and_seeds_have_orders_of_their_own():
  orders = [indices(seed, step, 100, 100).tolist() for seed in (0, 1) for step in (0, 1)]
  assert len({tuple(order) for order in orders}) == 4


def test_digits_are_scikit_learns_and_split_by_class():
  train, test = SOURCES["digits"](split="train"), SOURCES["digits"](split="test")
  images, labels = load_digits(return_X_y=True)
  assert len(train) + len(test) == len(images) == 1797
  both = np.concatenate([train.arrays["image"], test.arrays["image"]]).reshape(-1, 64)
  expected = np.round(images * 255 / 16).astype(np.uint8)
  assert sorted(map(bytes, both)) == sorted(map(bytes, expected))
  for label in range(10):
    assert np.sum(test.arrays["label"] == label) == np.sum(labels == label) // 5


def test_digits_come_from_scikit_learn_s_loader_where_its_file_lies_elsewhere(monkeypatch):
  module = importlib.import_module("diffjax.data.digits")
  module._table.cache_clear()
  before = SOURCES["digits"](split="train")
  monkeypatch.setattr(module, "FILE", "moved.csv.gz")
  module._table.cache_clear()
  after = SOURCES["digits"](split="train")
  module._table.cache_clear()
  np.testing.assert_array_equal(after.arrays["image"], before.arrays["image"])
  np.testing.assert_array_equal(after.arrays["label"], before.arrays["label"])
  assert after.fingerprint == before.fingerprint


def take(source, count, **kwargs):
  with batches(source, seed=0, batch_size=8, **kwargs) as iterator:
    return [next(iterator) for _ in range(count)]


def test_resume_chunks_and_processes_cut_one_stream():
  source = SOURCES["digits"](split="train")
  whole = take(source, 6, start_step=0)
  later = take(source, 3, start_step=3)
  chunked = take(source, 2, start_step=0, chunk=3)
  for k in range(3):
    np.testing.assert_array_equal(later[k]["image"], whole[3 + k]["image"])
  for name in ("image", "label", "index"):
    stacked = np.concatenate([item[name] for item in chunked])
    np.testing.assert_array_equal(stacked, np.concatenate([item[name] for item in whole]))
  parts = [take(source, 1, start_step=2, rows=rows)[0] for rows in np.split(np.arange(8), 2)]
  for name in ("image", "label", "index"):
    joined = np.concatenate([part[name] for part in parts], axis=1)
    np.testing.assert_array_equal(joined, whole[2][name])


def test_threads_end_and_errors_arrive():
  class Broken:
    def __len__(self):
      return 10

    def read(self, rows, names=()):
      raise OSError("disk on fire")

  before = threading.active_count()
  take(SOURCES["digits"](split="test"), 2, start_step=0)
  with pytest.raises(OSError, match="disk on fire"):
    take(Broken(), 1, start_step=0)
  assert threading.active_count() == before


def test_in_order_reads_everything_once():
  source = SOURCES["digits"](split="test")
  parts = list(in_order(source, 100))
  np.testing.assert_array_equal(np.concatenate([p["image"] for p in parts]), source.arrays["image"])


def write(path, value, size=(12, 10), mode="RGB"):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.new(mode, size, value).save(path)


def test_image_folder_with_classes(tmp_path):
  for i in range(3):
    write(tmp_path / "cat" / f"{i}.png", (10, 20, 30))
    write(tmp_path / "dog" / f"{i}.png", (40, 50, 60))
  kwargs = {"path": str(tmp_path), "size": 4, "test_fraction": LEAST}
  source = SOURCES["image_folder"](split="train", **kwargs)
  assert source.fields == {
    "image": Field((4, 4, 3), "uint8"),
    "label": Field((), "int32", 2, ("cat", "dog"), counts=(3, 3)),
  }
  np.testing.assert_array_equal(source.arrays["label"], [0, 0, 0, 1, 1, 1])
  np.testing.assert_array_equal(source.arrays["image"][5], np.broadcast_to([40, 50, 60], (4, 4, 3)))
  lazy = SOURCES["image_folder"](split="train", memory=0, **kwargs)
  assert isinstance(lazy, PicturedSource)
  for one, other in zip(take(source, 3, start_step=1), take(lazy, 3, start_step=1), strict=True):
    np.testing.assert_array_equal(one["image"], other["image"])
    np.testing.assert_array_equal(one["index"], other["index"])


def test_other_pixels_in_files_of_the_same_size_are_other_data(tmp_path):
  kwargs = {"path": str(tmp_path), "size": 4, "test_fraction": LEAST}
  results = []
  for level in (10, 11):
    for i in range(3):
      write(tmp_path / f"{i}.bmp", (level, i, 0))
    results.append(SOURCES["image_folder"](split="train", **kwargs).fingerprint)
  assert results[0] != results[1]


def test_held_out_files_stay_held_out_when_files_are_added(tmp_path):
  for i in range(40):
    write(tmp_path / f"{i}.png", (i, i, i))
  kwargs = {"path": str(tmp_path), "size": 2, "test_fraction": 0.3}
  before = SOURCES["image_folder"](split="test", **kwargs)
  train = SOURCES["image_folder"](split="train", **kwargs)
  values = lambda source: set(source.arrays["image"][:, 0, 0, 0].tolist())
  assert values(before) | values(train) == set(range(40)) and not values(before) & values(train)
  for i in range(40, 80):
    write(tmp_path / f"{i}.png", (i, i, i))
  after = SOURCES["image_folder"](split="test", **kwargs)
  assert {v for v in values(after) if v < 40} == values(before)


def test_one_picture_or_ten_can_be_learned_by_heart(tmp_path, capsys):
  write(tmp_path / "1.png", (1, 2, 3))
  both = [SOURCES["image_folder"](split=split, path=str(tmp_path), size=4) for split in ("train", "test")]
  assert [len(source) for source in both] == [1, 1]
  assert "held-out numbers are of the training examples" in capsys.readouterr().err
  for i in range(9):
    write(tmp_path / f"more{i}.png", (i, i, i))
  train = SOURCES["image_folder"](split="train", path=str(tmp_path), size=4, test_fraction=0)
  assert len(train) == 10


def test_decoded_copies_of_older_versions_of_a_folder_are_removed(tmp_path):
  cached = tmp_path / "cache"
  sizes = []
  for i in range(4):
    write(tmp_path / "set" / f"{i}.png", (i, i, i))
    for split in ("train", "test"):
      SOURCES["image_folder"](split=split, path=str(tmp_path / "set"), size=4, cache_dir=str(cached))
    sizes.append(len([*cached.iterdir()]))
  assert len({*sizes}) == 1


@pytest.mark.parametrize("memory", [0, 2**20], ids=["lazy", "in memory"])
def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, memory, capsys):
  write(tmp_path / "set" / "1.png", (1, 2, 3))
  (tmp_path / "file").write_text("")
  options = {"path": str(tmp_path / "set"), "size": 4, "memory": memory}
  source = SOURCES["image_folder"](split="train", cache_dir=str(tmp_path / "file" / "cache"), **options)
  np.testing.assert_array_equal(source.read(np.arange(1))["image"][0, 0, 0], [1, 2, 3])
  output = capsys.readouterr().err
  assert (
    f"warning: keeping what was computed in {tmp_path / 'file' / 'cache'} failed, and the run goes on"
    in output
  )


def test_transparent_pictures_lie_on_the_background(tmp_path, capsys):
  write(tmp_path / "1.png", (9, 9, 9), mode="RGB")
  write(tmp_path / "2.png", (200, 0, 0, 0), mode="RGBA")
  kwargs = {"path": str(tmp_path), "size": 4, "test_fraction": 0}
  results = [SOURCES["image_folder"](split="train", **kwargs, background=level) for level in (255, 7)]
  assert [source.arrays["image"][1, 0, 0].tolist() for source in results] == [[255] * 3, [7] * 3]
  assert results[0].fingerprint != results[1].fingerprint
  assert "2 of 2, 1 transparent" in capsys.readouterr().err


def test_bad_folders_are_named(tmp_path):
  def refuse(match, **kwargs):
    with pytest.raises(ConfigError, match=match):
      SOURCES["image_folder"](split="train", **kwargs)

  refuse("not a folder", path=str(tmp_path / "missing"))
  refuse("holds no images", path=str(tmp_path))
  write(tmp_path / "a" / "1.png", (1, 1, 1))
  refuse("channels is 2", path=str(tmp_path), channels=2)
  write(tmp_path / "2.png", (1, 1, 1))
  refuse("different depths", path=str(tmp_path))
  (tmp_path / "2.png").unlink()
  whole = (tmp_path / "a" / "1.png").read_bytes()
  (tmp_path / "a" / "3.png").write_bytes(whole[: len(whole) // 2])
  refuse("3.png cannot be read", path=str(tmp_path), test_fraction=LEAST)
  refuse("channels is 4; it must be 1 .grey. or 3", path=str(tmp_path), channels=4)
  refuse("path is 'gs://bucket/set'; it must be a path", path="gs://bucket/set")


def test_a_tfds_set_that_is_not_there_says_what_to_do(tmp_path):
  with pytest.raises(ConfigError, match="tfds build mnist"):
    SOURCES["tfds"](split="train", name="mnist", data_dir=str(tmp_path))


def test_images_of_any_origin_are_taken_as_they_are(tmp_path):
  write(tmp_path / "a" / "1.png", (1, 2, 3))
  write(tmp_path / "b" / "2.png", (4, 5, 6))
  images, labels, classes = images_of(tmp_path)
  np.testing.assert_array_equal(images[:, 0, 0], [[1, 2, 3], [4, 5, 6]])
  assert images.shape == (2, 10, 12, 3) and labels.tolist() == [0, 1] and classes == ("a", "b")
  Image.new("L", (12, 10), 7).save(tmp_path / "b" / "3.png")
  np.testing.assert_array_equal(images_of(tmp_path)[0][2, 0, 0], [7, 7, 7])
  grey = tmp_path / "grey"
  grey.mkdir()
  Image.new("L", (3, 2), 7).save(grey / "1.png")
  assert images_of(grey)[0].shape == (1, 2, 3, 1) and images_of(grey)[2] == ()
  Image.new("L", (4, 2), 7).save(grey / "2.png")
  with pytest.raises(ConfigError, match="mixes sizes: 1.png is 3x2 and 2.png 4x2"):
    images_of(grey)
  with pytest.raises(ConfigError, match="is not a folder"):
    images_of(tmp_path / "none")
  (tmp_path / "empty").mkdir()
  with pytest.raises(ConfigError, match="holds no images"):
    images_of(tmp_path / "empty")
  (grey / "2.png").write_bytes(b"no image")
  with pytest.raises(ConfigError, match="2.png cannot be read"):
    images_of(grey)


def test_a_reading_ends_while_its_thread_waits_for_room():
  class Counted(ArraySource):
    reads, ahead = 0, threading.Event()

    def read(self, indices, names=()):
      Counted.reads += 1
      if Counted.reads == 4:  # one is taken, two are ready: this one finds no room
        Counted.ahead.set()
      return super().read(indices, names)

  opened = contextlib.ExitStack()
  source = Counted({"image": np.zeros((8, 2, 2, 1), np.uint8)}, "zeros")
  next(opened.enter_context(batches(source, seed=0, start_step=0, batch_size=4, prefetch=2)))
  assert Counted.ahead.wait(20)
  closing = threading.Thread(target=opened.close, daemon=True)
  closing.start()
  closing.join(20)
  assert not closing.is_alive()
  assert Counted.reads == 4  # nothing is begun after the end


def test_a_class_is_called_by_its_name_and_by_its_number_where_no_number_is_a_name():
  words, numbers = (Field((), "int32", 3, names) for names in (("cat", "dog", "10"), ("0", "2", "10")))
  assert [words.number("request", message) for message in ("dog", "1", 2, "10")] == [1, 1, 2, 2]
  assert [numbers.number("request", message) for message in ("2", 10)] == [1, 2]
  for field, text in ((numbers, "1"), (words, "3"), (words, "cow")):
    with pytest.raises(ConfigError, match=rf"^request is {text}; the data's classes are 0 to 2"):
      field.number("request", text)
