"""A folder of a published CLIP in the place of a run: it sees scaled pixels and reads texts as the model does."""

import shutil

import jax
import numpy as np
from fixtures import published

from diffjax.data.text import TOKENIZERS
from diffjax.interop import folders

IO = published.arrays("clip")


def test_a_clip_folder_encodes_images_and_text(tmp_path):
  shutil.copytree(published.ROOT / "clip", tmp_path / "clip")
  words = TOKENIZERS["words"](["a cat", " ".join(f"word{i:03d}" for i in range(200))], vocabulary=100)
  (tmp_path / "clip" / "tokenizer.json").write_text(words.json)
  (tmp_path / "clip" / "tokenizer_config.json").write_text('{"pad_token": "<end>"}')
  (tmp_path / "clip" / "preprocessor_config.json").write_text(
    '{"image_mean": [0, 0, 0], "image_std": [0.5, 1, 2]}'
  )
  can, params = folders.published(tmp_path / "clip")
  # What the fixture was given, as pixels that this scaling makes it of; they need not be whole numbers.
  pixels = 255 * IO["images"] * np.asarray([0.5, 1, 2], np.float32)
  np.testing.assert_allclose(jax.jit(can["encode"])(params, pixels), IO["image_embeds"], atol=1e-5)
  result = jax.jit(can["encode_text"])(params, IO["ids"])
  np.testing.assert_allclose(result["pooled"], IO["text_embeds"], atol=1e-5)
  tokenizer = can["tokenizer"](params)
  assert tokenizer.length == 9 and tokenizer.text(tokenizer(["a cat"])[0]) == "a cat"
  assert tokenizer(["a cat"])[0, -1] == tokenizer.end  # it is filled up with what is looked at
