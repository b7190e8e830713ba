"""Images with captions in the field's conventions: the same pairs whichever is read, and what is wrong is named."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from diffjax.data.captioned import captioned
from diffjax.data.captions import captions, pairs_of
from diffjax.data.digits import NAMES, digits
from diffjax.data.emoji import emoji
from diffjax.data.text import TOKENIZERS
from diffjax.types import ConfigError

PICTURES = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), np.uint8)
TEXTS = [f"picture number {i}" for i in range(9)]


def png(image):
  file = io.BytesIO()
  Image.fromarray(image).save(file, "PNG")
  return file.getvalue()


def metadata(root):
  for i, image in enumerate(PICTURES):
    (root / f"{i}.png").write_bytes(png(image))
  lines = [json.dumps({"file_name": f"{i}.png", "text": text}) for i, text in enumerate(TEXTS)]
  (root / "metadata.jsonl").write_text("\n".join(lines))


def beside(root):
  for i, (image, text) in enumerate(zip(PICTURES, TEXTS, strict=True)):
    (root / f"{i}.png").write_bytes(png(image))
    (root / f"{i}.txt").write_bytes(b"\xef\xbb\xbf" * (i % 2) + f"{text}\n".encode())


def tars(root):
  for shard in range(2):
    with tarfile.open(root / f"{shard}.tar", "w") as tar:
      for i in range(shard * 5, min(shard * 5 + 5, 9)):
        value = ("txt", TEXTS[i].encode()) if i % 2 else ("json", json.dumps({"caption": TEXTS[i]}).encode())
        for ending, data in (("png", png(PICTURES[i])), value):
          member = tarfile.TarInfo(f"{i:04d}.{ending}")
          member.size = len(data)
          tar.addfile(member, io.BytesIO(data))


def packed(root, members, end=None):
  """One tar file of these members, cut off after so many bytes."""
  file = io.BytesIO()
  with tarfile.open(fileobj=file, mode="w") as tar:
    for name, data in members.items():
      member = tarfile.TarInfo(name)
      member.size = len(data)
      tar.addfile(member, io.BytesIO(data))
  (root / "x.tar").write_bytes(file.getvalue()[:end])


def make(root, split="train", **options):
  options = {"size": 8, "test_fraction": 0.4, "cache_dir": str(root / "cache")} | options
  return captions(split, TOKENIZERS["words"], path=str(root), **options)


def caption_of(image):
  """The caption of one of PICTURES."""
  (caption,) = (text for text, picture in zip(TEXTS, PICTURES, strict=True) if np.array_equal(picture, image))
  return caption


@pytest.mark.parametrize("write", [metadata, beside, tars])
def test_every_convention_gives_the_pairs(write, tmp_path):
  write(tmp_path)
  seen = {}
  for split in ("train", "test"):
    source = make(tmp_path, split, memory=0)
    read = source.read(np.arange(len(source)))
    text = [source.fields["text"].tokenizer.text(tokens) for tokens in read["text"]]
    captions_of = [caption_of(image) for image in read["image"]]
    seen |= dict(zip(captions_of, read["image"], strict=True))
    if split == "train":
      assert text == captions_of
  assert seen.keys() == {*TEXTS}
  for text, image in zip(TEXTS, PICTURES, strict=True):
    np.testing.assert_array_equal(seen[text], image)


@pytest.mark.parametrize(
  "damage, words",
  [
    (lambda root: (root / "3.txt").unlink(), r"3\.png has no caption; write one into 3\.txt"),
    (lambda root: (root / "3.txt").write_text(" \n"), r"3\.png has an empty caption"),
    (lambda root: (root / "3.txt").write_bytes(b"caf\xe9"), r"3\.txt is not UTF-8"),
    (
      lambda root: (root / "metadata.jsonl").write_text('{"file_name": "3.png"}'),
      "metadata.jsonl:1 has no caption",
    ),
    (lambda root: (root / "metadata.jsonl").write_text("{"), "metadata.jsonl:1 is not JSON"),
    (
      lambda root: (root / "metadata.jsonl").write_text('{"file_name": "../x.png", "text": "x"}'),
      r"names the image '\.\./x\.png', which is no file in",
    ),
    (
      lambda root: (root / "metadata.jsonl").write_bytes(b'{"text": "caf\xe9"}'),
      "metadata.jsonl:1 is not UTF-8",
    ),
    (lambda root: (root / "x.tar").write_bytes(b"x" * 600), "x.tar cannot be read as a tar file"),
    (
      lambda root: packed(root, {"a.png": b"", "b.txt": b"x"}),
      r"x\.tar/a\.png has no caption; add the member a\.txt",
    ),
    (lambda root: packed(root, {"a.png": b"", "a.txt": b"caf\xe9"}), r"x\.tar:a\.txt is not UTF-8"),
    (lambda root: packed(root, {"a.png": b"", "a.txt": b" "}), r"x\.tar/a\.png has an empty caption"),
    (
      lambda root: packed(root, {"a.png": b"", "a.txt": b"word " * 400}, 1900),
      "x.tar cannot be read as a tar",
    ),
  ],
  ids=[
    *("missing", "empty", "not UTF-8", "no text", "no JSON", "elsewhere", "line not UTF-8", "no tar"),
    *("missing in a tar", "not UTF-8 in a tar", "empty in a tar", "without end"),
  ],
)
def test_what_is_wrong_is_named(damage, words, tmp_path):
  beside(tmp_path)
  damage(tmp_path)
  with pytest.raises(ConfigError, match=words):
    pairs_of(tmp_path)


def test_a_picture_that_is_none_is_named(tmp_path):
  beside(tmp_path)
  whole = make(tmp_path, memory=0)
  trained = any(np.array_equal(image, PICTURES[3]) for image in whole.read(np.arange(len(whole)))["image"])
  (tmp_path / "3.png").write_bytes(b"no picture")
  with pytest.raises(ConfigError, match=r"3\.png cannot be read as an image"):
    make(tmp_path, "train" if trained else "test")


def test_captions_of_classes_name_them():
  source, templates = digits("train"), ("a {}", "the digit {}!")
  result = captioned(source, templates, TOKENIZERS["words"])
  assert len(result) == 2 * len(source)
  rows = np.arange(len(result))
  read, text = result.read(rows), result.fields["text"].tokenizer.text
  message = [text(tokens) for tokens in read["text"]]
  labels = source.arrays["label"].tolist()
  assert message == [f"a {NAMES[k]}" for k in labels] + [f"the digit {NAMES[k]} !" for k in labels]
  np.testing.assert_array_equal(read["image"], np.concatenate([source.arrays["image"]] * 2))
  assert result.read(rows, ("text",)).keys() == {"text"} and result.fingerprint != source.fingerprint
  for bad, words in ((("a digit",), "must have one {}"), ((), "")):
    if bad:
      with pytest.raises(ConfigError, match=words):
        captioned(source, bad, TOKENIZERS["words"])
  with pytest.raises(ConfigError, match="data without captions"):
    captioned(result, templates, TOKENIZERS["words"])


def test_emoji_in_training_are_called_by_name_half_of_the_times_and_held_out_ones_always(tmp_path):
  strings = {
    "caption": np.array(["red heart", "cat", "flag: x", "dog"]),
    "captions": np.array(["red heart|heart", "cat|cat2", "flag: x", "dog"]),
    "keywords": np.array(["love|like|valentines", "", "x", "pet"]),
    "category": np.array(["Symbols", "Animals", "Flags", "Animals"]),
  }
  pictures = {f"image_{s}": np.arange(4 * s * s * 3).reshape(4, s, s, 3).astype(np.uint8) for s in (32, 64)}
  about = {"skin": np.zeros(4, np.uint8), "held_out": np.array([False, False, False, True])}
  np.savez(tmp_path / "emoji.npz", **strings, **pictures, **about)
  options = {"path": str(tmp_path / "emoji.npz"), "keywords": 2}
  train, test = (emoji(split, TOKENIZERS["words"], **options) for split in ("train", "test"))
  text = train.tokenizers["text"].text
  message = [text(tokens) for tokens in train.arrays["text"]]
  assert message[:8] == ["red heart"] * 4 + ["heart", "love", "like", "heart"]
  assert message[8:] == ["cat"] * 4 + ["cat2"] * 4  # and the flag is left out
  np.testing.assert_array_equal(
    train.arrays["image"][:8], np.broadcast_to(pictures["image_32"][0], (8, 32, 32, 3))
  )
  np.testing.assert_array_equal(test.arrays["image"], pictures["image_32"][3:])
  once, thrice = (emoji("train", TOKENIZERS["words"], captions=count, **options) for count in (1, 3))
  np.testing.assert_array_equal(once.arrays["image"], pictures["image_32"][:2])
  read = thrice.tokenizers["text"].text
  results = [read(tokens) for tokens in thrice.arrays["text"]]
  assert results == ["red heart", "red heart", "heart", "cat", "cat", "cat2"]
  with pytest.raises(ConfigError, match="size is 16; emoji are of 32 or 64"):
    emoji("train", TOKENIZERS["words"], size=16)
  np.savez(tmp_path / "odd.npz", **strings, **about, image_32=pictures["image_32"] / 255)
  with pytest.raises(ConfigError, match="is not the npz of emoji .no such pictures"):
    emoji("train", TOKENIZERS["words"], path=str(tmp_path / "odd.npz"))
  with pytest.raises(ConfigError, match="but the npz of emoji .* is not there"):
    emoji("train", TOKENIZERS["words"], path=str(tmp_path / "none.npz"))
