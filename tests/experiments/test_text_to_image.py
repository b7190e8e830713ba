"""The picture of weights of guidance: what is asked of the run, and what stands where."""

import types

import numpy as np
from PIL import Image

from experiments.text_to_image import __main__ as page


def test_a_row_is_a_caption_and_a_column_a_weight(tmp_path, monkeypatch):
  def loaded(folder, w):
    def sample(count, text):
      assert (folder.name, count, text) == ("run", 2, ["a six", "a two"])
      grey = np.uint8([10 * w, 100 + 10 * w])
      return {"image": np.broadcast_to(grey[:, None, None, None], (count, 8, 8, 1))}

    return types.SimpleNamespace(sample=sample)

  monkeypatch.setattr(page, "loaded", loaded)
  page.main([str(tmp_path / "run"), f"--out={tmp_path / 'out.png'}", "--w=0,1.5,4", "--captions=a six|a two"])
  picture = np.asarray(Image.open(tmp_path / "out.png"))
  tile = picture[-64:-1, -64 * 3 :]
  assert [tile[40, 64 * k + 32] for k in range(3)] == [100, 115, 140]
  assert [picture[-100, -64 * 3 + 64 * k + 32] for k in range(3)] == [0, 15, 40]
