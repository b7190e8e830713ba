"""A run and its training data: sampling needs none, and changed ones are told and refused, or taken if so said."""

import json

import flax.linen as nn
import pytest
from PIL import Image

from diffjax import config as configs
from diffjax.config import resolved
from diffjax.data.source import ArraySource
from diffjax.data.text import words
from diffjax.jobs import runs, workdir
from diffjax.models import MODELS
from diffjax.types import ConfigError


class Scale(nn.Module):
  """The smallest network."""

  out_channels: int
  conditions: object = None
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x, time, cond=None, keys=None):
    return x * self.param("gain", nn.initializers.ones, ())


def put(folder, *names, level=0):
  for name in names:
    place = folder / f"{name}.png"
    place.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), level).save(place)


@pytest.fixture
def started(tmp_path, monkeypatch):
  """(mode, changed) -> the run of a workdir that was trained on a folder of cats and dogs."""
  monkeypatch.setitem(MODELS, "mine", Scale)
  put(tmp_path / "set", "cat/1", "cat/2", "dog/1")
  config = configs.base()
  config.extensions = (__name__,)
  config.model.name, config.data.source = "mine", "image_folder"
  config.data.image_folder.path, config.data.image_folder.size = str(tmp_path / "set"), 4
  config.data.image_folder.test_fraction = 0.0

  def start(mode="train", changed=False):
    config.data.changed = changed
    run = runs.start(config, tmp_path / "run", mode)
    if mode == "train":
      workdir.save(run.folder, workdir.about(resolved(config)), run.source, {})
      (run.folder / "checkpoints" / "1").mkdir(parents=True, exist_ok=True)
    return run

  start()
  return start


def saved(tmp_path):
  return json.loads((tmp_path / "run" / "config.json").read_text())


def test_names_and_counts_of_classes_are_in_config_json(started, tmp_path):
  label = saved(tmp_path)["fields"]["label"]
  assert label["names"] == ["cat", "dog"] and label["counts"] == [2, 1]
  assert workdir.data_of(tmp_path / "run")[0] == started().source.fields


def test_sampling_needs_the_workdir_alone(started, tmp_path):
  (tmp_path / "set").rename(tmp_path / "moved")
  assert started("sample").fields["label"].names == ("cat", "dog")
  with pytest.raises(ConfigError, match="config.data.image_folder.path is .*which is not a folder"):
    started()


def test_changed_data_are_told_and_taken_only_if_so_said(started, tmp_path):
  before = saved(tmp_path)["data"]
  put(tmp_path / "set", "dog/2")
  what = r"there are 4 examples here and were 3 \(2 of dog and were 1\)"
  for mode in ("train", "sample"):
    with pytest.raises(ConfigError, match=f"trained on other data: {what}.*--config.data.changed=True"):
      started(mode).source  # noqa: B018 (which opens them)
  warning = started(changed=True).warnings()[0]  # which the log says
  assert "trained on other data" in warning and "It goes on with these" in warning
  assert saved(tmp_path)["config"]["data"]["changed"] and saved(tmp_path)["data_before"] == [before]
  assert not any("trained on" in warning for warning in started(changed=True).warnings())
  assert saved(tmp_path)["data_before"] == [before]


def test_changed_pixels_are_other_data(started, tmp_path):
  put(tmp_path / "set", "dog/1", level=1)
  with pytest.raises(ConfigError, match="there are 3 examples here and were 3"):
    started()


def test_a_class_never_comes_to_mean_another(started, tmp_path):
  put(tmp_path / "set", "cow/1")
  what = (
    r"the field 'label' is int32 \[\] of 3 classes \(cat, cow, dog\) here and was int32 \[\] of 2 classes"
  )
  with pytest.raises(ConfigError, match=what):
    started(changed=True)


def test_a_token_that_means_another_word_is_refused(tmp_path):
  def source(*captions):
    read = words(captions, length=4)
    tokens = read(captions)
    return ArraySource({"text": tokens}, str(captions), tokenizers={"text": read})

  workdir.save(tmp_path, {}, source("red cat", "red dog"), {})
  others = source("red dog", "red cow")
  for changed in (False, True):
    with pytest.raises(ConfigError, match="the tokenizer of 'text' is another one here"):
      workdir.require_data(tmp_path, others, changed)
  assert len(workdir.require_data(tmp_path, others, True, by_text=True)) == 1
  assert not workdir.require_data(tmp_path, source("red cat", "red dog"), False)
