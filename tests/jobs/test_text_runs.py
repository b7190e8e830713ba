"""Runs told by text: their tokenizer, what samples ask for, an encoder from another run; runs of the task "clip"."""

import json

import flax.linen as nn
import jax
import numpy as np
import pytest
from jax.sharding import Mesh

import diffjax
from diffjax import config as configs
from diffjax import experiment
from diffjax.jobs import evaluation, sampling, training, workdir
from diffjax.machine import parallel
from diffjax.machine.parallel import Parallel
from diffjax.models import MODELS
from diffjax.models.conditioning import Conditioning, Widths
from diffjax.types import ConfigError


class Small(nn.Module):
  """A few numbers, and the mean of the tokens."""

  out_channels: int = 1
  conditions: tuple = ()
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x, time, cond=None, keys=None):
    embedding = Conditioning(Widths(8, 8, 8, rows=1.0), 1.0, self.conditions, name="embedding")(
      time, cond or {}
    )
    tokens, mask = embedding.tokens
    shift = embedding.vector + (tokens * mask[..., None]).mean(1)
    return nn.Dense(self.out_channels)(nn.tanh(nn.Dense(8)(x) + shift[:, None, None]))


@pytest.fixture(scope="module", autouse=True)
def small():
  with pytest.MonkeyPatch.context() as patch:
    one = Parallel("jit", Mesh(np.asarray(jax.devices()[:1]), ("data",)))
    patch.setattr(parallel, "create", lambda *_: one)
    patch.setitem(MODELS, "small", Small)
    yield


def tiny(**changes):
  config = configs.base()
  config.data.source, config.data.scenes.count, config.data.scenes.test_count = "scenes", 40, 24
  config.extensions, config.model.name = (__name__,), "small"
  config.condition.names, config.condition.text.dropout = ("text",), 0.5
  config.condition.text.channels, config.condition.text.blocks, config.condition.text.heads = 8, 1, 2
  for tower in (config.model.transformer, config.model.vit):
    tower.channels, tower.blocks, tower.heads = 8, 1, 2
  config.model.vit.patch = 12
  config.train.steps, config.train.batch_size, config.train.learning_rate = 2, 8, 0.05
  config.log.every, config.log.held_out, config.log.samples, config.checkpoint.every = 1, 8, 2, 2
  config.sample.sampler, config.sample.steps, config.sample.count, config.sample.batch_size = "ddim", 2, 3, 8
  config.sample.guides, config.sample.weights, config.compile_cache = (), "raw", False
  config.eval.seeds, config.eval.count, config.eval.split = 1, 6, "test"
  config.update_from_flattened_dict({path.replace("__", "."): value for path, value in changes.items()})
  return config


@pytest.fixture(scope="module")
def clip(tmp_path_factory, small):
  folder = tmp_path_factory.mktemp("runs") / "clip"
  training.train(tiny(task__name="clip", eval__metrics=("retrieval", "clip_score")), folder)
  return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory, clip):
  """Runs that read by the clip run, made at the data's edge and in the step."""
  folder = tmp_path_factory.mktemp("runs")
  for name, edge in (("edge", True), ("step", False)):
    training.train(tiny(condition__text__run=str(clip), condition__text__edge=edge), folder / name)
  return folder


def test_encodings_at_the_edge_train_the_same_run(folder):
  runs = [diffjax.load(folder / name) for name in ("edge", "step")]
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *(run.params for run in runs)
  )
  one, other = (run.sample(2, text=["a six", "a two"])["image"].astype(int) for run in runs)
  np.testing.assert_allclose(one, other, atol=1)


def test_samples_are_told_in_words(tmp_path):
  training.train(tiny(), tmp_path / "run")
  assert (tmp_path / "run" / "samples").is_dir() and (tmp_path / "run" / "tokenizer_text.json").is_file()
  run = diffjax.load(tmp_path / "run")
  tokenizer = run.fields["text"].tokenizer
  request = [
    run.sample(2, text=text)["image"] for text in ("a six", ["a six", "a six"], tokenizer(["a six"]))
  ]
  np.testing.assert_array_equal(request[0], request[1])
  np.testing.assert_array_equal(request[0], request[2])
  assert (run.sample(2, text="a two above a six")["image"] != request[0]).any()
  with pytest.raises(ConfigError, match="text is 'a', 'b', 'c'|of shape"):
    run.sample(2, text=["a", "b", "c"])

  config = workdir.load(tmp_path / "run")
  config.condition.text.request = "a six|a two above a seven"
  sampling.sample(config, tmp_path / "run", tmp_path / "out")
  (result,) = (tmp_path / "out").glob("*.npz")
  assert [tokenizer.text(row) for row in np.load(result)["text"]] == ["a six", "a two above a seven", "a six"]
  for split in ("train", "test"):
    request = sampling.requests(run.run, np.arange(4), split)["text"]
    np.testing.assert_array_equal(request, experiment.source(run.config, split).read(np.arange(4))["text"])

  place = tmp_path / "run" / "tokenizer_text.json"
  place.write_text(place.read_text().replace('"seven"', '"sevens"'))
  with pytest.raises(ConfigError, match="is not the tokenizer that the run was trained with"):
    diffjax.load(tmp_path / "run")
  place.unlink()
  with pytest.raises(ConfigError, match="cannot be read"):
    diffjax.load(tmp_path / "run")


def test_a_clip_run_is_judged_on_real_examples(clip):
  config = workdir.load(clip)
  config.eval.count = 0
  evaluation.evaluate(config, clip)
  report = json.loads((clip / "eval/2/metrics.json").read_text())
  assert report["samples"] == 24
  for metric in ("retrieval", "clip_score"):
    for name, numbers in report["metrics"][metric]["values"].items():
      np.testing.assert_allclose(numbers["value"], numbers["floor"], rtol=1e-5, err_msg=name)


def test_a_run_that_made_the_samples_does_not_judge_them(folder, clip):
  config = workdir.load(folder / "edge")
  config.eval.metrics, config.eval.caption_retrieval.run = ("caption_retrieval",), str(clip)
  with pytest.raises(ConfigError, match="caption_retrieval.run is a run that these samples were made with"):
    evaluation.evaluate(config, folder / "edge")
