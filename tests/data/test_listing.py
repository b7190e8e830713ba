"""What a folder of pictures holds, and what is passed over."""

import pytest
from PIL import Image

from diffjax.data.listing import listed
from diffjax.types import ConfigError


def put(root, *names):
  for name in names:
    place = root / name
    place.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (2, 2)).save(place, "PNG")


def test_classes_are_numbered_in_natural_order(tmp_path):
  put(tmp_path, *(f"{i}/a.png" for i in range(12)), "x10/a.png", "x9/a.png", "cat/a.png")
  there = listed(tmp_path, "it")
  assert there.classes == (*map(str, range(12)), "cat", "x9", "x10")
  for name, label in zip(there.names, there.labels, strict=True):
    assert there.classes[label] == name.split("/")[0]


def test_what_is_hidden_or_no_picture_is_passed_over_and_said(tmp_path, capsys):
  put(
    tmp_path,
    "cat/1.png",
    "dog/2.JPG",
    ".ipynb_checkpoints/1.png",
    "cat/.3.png",
    "cat/._1.png",
    "dog/.x/4.png",
  )
  for name in ("dog/5.heic", "dog/notes.txt", "README"):
    (tmp_path / name).write_text("")
  (tmp_path / "dog/6.png").symlink_to(tmp_path / "nowhere.png")
  there = listed(tmp_path, "it")
  assert there.classes == ("cat", "dog") and there.names == ("cat/1.png", "dog/2.JPG")
  there.say("the folder")
  output = capsys.readouterr().err
  for part in ("4 hidden", "1 .heic", "1 .txt", "1 without an ending", "1 broken links", "2 pictures"):
    assert part in output
  put(tmp_path / "clean", "1.png")
  listed(tmp_path / "clean", "it").say("the folder")
  assert not capsys.readouterr().err


def test_links_are_followed_but_not_for_ever(tmp_path):
  put(tmp_path / "elsewhere", "1.png")
  put(tmp_path / "set", "cat/1.png")
  (tmp_path / "set/dog").symlink_to(tmp_path / "elsewhere")
  (tmp_path / "elsewhere/again").symlink_to(tmp_path / "set")
  assert listed(tmp_path / "set", "it").names == ("cat/1.png", "dog/1.png")


def test_pictures_at_other_depths_are_named(tmp_path):
  put(tmp_path / "a", "1.png", "cat/2.png")
  with pytest.raises(ConfigError, match="it has images at different depths, such as 1.png and cat/2.png"):
    listed(tmp_path / "a", "it")
  put(tmp_path / "b", "train/cat/1.png", "train/dog/2.png")
  with pytest.raises(ConfigError, match="folders within folders, such as train/cat/1.png; name the folder"):
    listed(tmp_path / "b", "it")
  (tmp_path / "c").mkdir()
  (tmp_path / "c/1.heic").write_text("")
  with pytest.raises(ConfigError, match="it holds no images but 1 .heic"):
    listed(tmp_path / "c", "it")
