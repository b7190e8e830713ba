"""Tokenizers: what they make of texts, how long they are, and CLIP's against an independent implementation."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from diffjax.data.text import TOKENIZERS
from diffjax.types import ConfigError

CAPTIONS = ("a six", "a two above a seven", "an eight, right of a zero")
TRAINED = ("words", "bpe")


def clip_folder(root):
  """CLIP's kind of files with bytes and two merges, by hand."""
  letters = [chr(c) for c in range(97, 123)]
  tokens = [*letters, *(f"{c}</w>" for c in letters), "ca", "cat</w>", "<|startoftext|>", "<|endoftext|>"]
  (root / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
  (root / "merges.txt").write_text("#version: 0.2\nc a\nca t</w>\n")
  return tokens


@pytest.mark.parametrize("name", TOKENIZERS)
def test_every_tokenizer_frames_a_text_within_its_length_and_vocabulary(name, tmp_path):
  clip_folder(tmp_path)
  (tmp_path / "kept.json").write_text(TOKENIZERS["words"](("a cat",)).json)
  path = {"file": {"path": str(tmp_path / "kept.json")}, "clip": {"path": str(tmp_path)}}.get(name, {})
  tokenizer, again = (TOKENIZERS[name](("a cat",), length=4, **path) for _ in range(2))
  assert tokenizer == again and tokenizer.fingerprint == again.fingerprint
  tokens = tokenizer(["a cat", "a cat a cat a cat", ""])
  assert tokens.dtype == np.int32 and tokens.shape == (3, 4) and tokens.max() < tokenizer.vocabulary
  assert tokenizer.text(tokens[0]) == "a cat" and tokenizer.text(tokens[2]) == ""
  for row in tokens:
    there = row[row >= 0]
    assert there[0] == tokens[0, 0] and there[-1] == tokenizer.end
    assert (row[len(there) :] == tokenizer.fill).all()


@pytest.mark.parametrize("name", TRAINED)
def test_a_text_comes_back_and_is_framed_and_filled(name):
  tokenizer = TOKENIZERS[name](CAPTIONS)
  tokens = tokenizer(CAPTIONS)
  assert (
    tokens.dtype == np.int32 and tokens.shape == (3, tokenizer.length) and tokens.max() < tokenizer.vocabulary
  )
  for row, caption in zip(tokens, CAPTIONS, strict=True):
    there = row[row >= 0]
    assert tokenizer.text(row).replace(" ,", ",") == caption
    assert (
      (row[len(there) :] == -1).all()
      and there[0] == tokens[0, 0]
      and there[-1] == tokens[0][tokens[0] >= 0][-1]
    )
  assert (tokens >= 0).sum(1).max() == tokenizer.length  # as long as the longest
  assert tokenizer.text(tokenizer([""])[0]) == ""
  np.testing.assert_array_equal(tokenizer(["A  SIX"]), tokenizer(["a six"]))


def test_words_are_those_of_the_captions_most_frequent_first():
  tokenizer = TOKENIZERS["words"](
    CAPTIONS, vocabulary=5
  )  # unknown, start, end, and a (4 times), then , or above ...
  np.testing.assert_array_equal(tokenizer(["a six"])[0][:4], [1, 3, 0, 2])
  full = TOKENIZERS["words"](CAPTIONS)
  assert full.vocabulary == 3 + len(
    {"a", "six", "two", "above", "seven", "an", "eight", ",", "right", "of", "zero"}
  )


def test_another_order_of_words_is_another_text():
  tokenizer = TOKENIZERS["words"](CAPTIONS)
  assert (tokenizer(["a two above a seven"]) != tokenizer(["a seven above a two"])).any()


@pytest.mark.parametrize("name", TRAINED)
def test_what_is_too_long_loses_its_end_and_that_is_said(name, capsys):
  tokenizer = TOKENIZERS[name](CAPTIONS, length=5)
  tokens = tokenizer([*CAPTIONS, "a two"], "prompts")
  assert tokens.shape == (4, 5)
  end = tokens[0][tokens[0] >= 0][-1]
  assert (tokens[1:3, -1] == end).all() and tokenizer.text(tokens[1]) == "a two above"
  assert "prompts: 2 of 4 longer than 5 tokens" in capsys.readouterr().err
  tokenizer(["a six"])
  assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", TOKENIZERS)
def test_no_length_is_beyond_what_memory_holds(name):
  with pytest.raises(ConfigError, match="length is 2147483648"):
    TOKENIZERS[name](CAPTIONS, length=2**31)


def test_words_without_a_token_are_said(capsys):
  tokenizer = TOKENIZERS["words"](CAPTIONS)
  tokenizer(["a Zebra above a six", "zwei six", "a Zebra"], "prompts")
  assert (
    capsys.readouterr().err == "prompts: words that no training caption has mean nothing here: Zebra, zwei\n"
  )
  TOKENIZERS["bpe"](CAPTIONS)(["a zebra"])
  assert "zebra" not in capsys.readouterr().err


def test_a_kept_tokenizer_is_the_same_one(tmp_path):
  tokenizer = TOKENIZERS["bpe"](CAPTIONS)
  (tmp_path / "kept.json").write_text(tokenizer.json)
  again = TOKENIZERS["file"]((), path=str(tmp_path / "kept.json"), length=tokenizer.length)
  assert again == tokenizer and again.fingerprint == tokenizer.fingerprint
  assert TOKENIZERS["bpe"](CAPTIONS).fingerprint == tokenizer.fingerprint
  others = TOKENIZERS["bpe"](CAPTIONS, length=8), TOKENIZERS["words"](CAPTIONS)
  assert len({tokenizer.fingerprint, *(other.fingerprint for other in others)}) == 3


def test_clip_joins_pairs_within_words(tmp_path):
  tokens = clip_folder(tmp_path)
  tokenizer = TOKENIZERS["clip"]((), path=str(tmp_path), length=6)
  expected = ["<|startoftext|>", "cat</w>", "c", "o", "t</w>", "<|endoftext|>"]
  assert [tokens[i] for i in tokenizer(["Cat  COT"])[0]] == expected
  assert tokenizer.text(tokenizer(["cat"])[0]) == "cat"
  filled = TOKENIZERS["clip"]((), path=str(tmp_path), length=6, fill_with_end=True)
  np.testing.assert_array_equal(filled(["cat"])[0][2:], tokens.index("<|endoftext|>"))


@pytest.mark.parametrize("name", ["file", "clip"])
@pytest.mark.parametrize("content, words", [(None, "cannot be read"), ("{}", "which is no|are not CLIP's")])
def test_files_that_are_none_are_refused(name, content, words, tmp_path):
  with pytest.raises(ConfigError, match="path is empty"):
    TOKENIZERS[name](())
  place = tmp_path / "tokenizer.json"
  for file in (place, tmp_path / "vocab.json", tmp_path / "merges.txt"):
    if content is not None:
      file.write_text(content)
  with pytest.raises(ConfigError, match=words):
    TOKENIZERS[name]((), path=str(place if name == "file" else tmp_path))


@pytest.mark.assets
def test_clip_is_an_independent_tokenizer():
  """DIFFJAX_CLIP_BPE: the folder of vocab.json and merges.txt; DIFFJAX_GOLDEN: that of clip_bpe_golden.json."""
  golden = json.loads((Path(os.environ["DIFFJAX_GOLDEN"]) / "clip_bpe_golden.json").read_text())
  tokenizer = TOKENIZERS["clip"]((), path=os.environ["DIFFJAX_CLIP_BPE"])
  assert tokenizer.vocabulary == 49_408
  same = [case for case in golden if case["tokenizers_equal"]]
  assert len(same) == 18
  for case in same:
    result = tokenizer([case["text"]])[0]
    assert result[result >= 0].tolist() == case["ids"], case["text"]
