"""A cascade of three tiny runs: the chain by index, in any batches, resumed; what each stage was told; its pictures."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

import diffjax
from diffjax import config as configs
from diffjax import experiment, keys
from diffjax.conditions import CONDITIONS
from diffjax.jobs import sampling, scoring, stages, trained, workdir
from diffjax.machine import parallel
from diffjax.machine.checkpoint import Checkpoints
from diffjax.machine.parallel import Parallel
from diffjax.machine.state import TrainState
from diffjax.models import MODELS
from diffjax.models.conditioning import Conditioning, Widths, with_planes
from diffjax.types import ConfigError


class Small(nn.Module):
  """A few numbers at every pixel."""

  out_channels: int = 1
  conditions: tuple = ()
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x, time, cond=None, keys=None):
    embedding = Conditioning(Widths(8, 8, 8, rows=1.0), 1.0, self.conditions, name="embedding")(
      time, cond or {}
    )
    h = nn.tanh(nn.Dense(8)(with_planes(x, embedding.planes)) + embedding.vector[:, None, None])
    return nn.Dense(self.out_channels)(h)


def saved(folder, **changes):
  """A workdir of a run with weights as they were drawn."""
  config = configs.base()
  config.data.source, config.model.name, config.schedule.name = "digits", "small", "cosine"
  config.objective.predict, config.train.averages, config.compile_cache = "v", (), False
  config.sample.sampler, config.sample.steps, config.sample.count, config.sample.batch_size = "ddim", 2, 5, 8
  config.sample.grid, config.sample.weights, config.eval.count = "trailing", "raw", 6
  config.update_from_flattened_dict({path.replace("__", "."): value for path, value in changes.items()})
  config, source = configs.settled(config), experiment.source(config, "train")
  find = functools.partial(trained.trained, devices=parallel.create())
  parts = experiment.create(config, source.fields, find)
  rng, shapes = np.random.default_rng(0), jax.eval_shape(parts.task.init, keys.seed(0))
  params = jax.tree.map(lambda leaf: jnp.asarray(0.3 * rng.normal(size=leaf.shape), leaf.dtype), shapes)
  about = workdir.about(configs.resolved(config))
  workdir.save(folder, about, source, parts.needs)
  with Checkpoints(folder / "checkpoints") as checkpoints:
    checkpoints.save(TrainState(jnp.zeros((), jnp.int32), params, {}, (), keys.seed(0)), about)
  return folder


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
  """The folder of a cascade: classes to 2x2 digits, those to 4x4, which names the first, 4x4 to 8x8."""
  folder = tmp_path_factory.mktemp("runs")
  with pytest.MonkeyPatch.context() as patch:
    one = Parallel("jit", Mesh(np.asarray(jax.devices()[:1]), ("data",)))
    patch.setattr(parallel, "create", lambda *_: one)
    patch.setitem(MODELS, "small", Small)
    base = {"condition__names": ("label",), "condition__label__request": "7"}
    saved(folder / "base", space__name="reduced", space__reduced__factor=4, **base)
    low = {"condition__names": ("low",), "data__augment": "flip", "condition__low__noise": 0.3}
    middle = {
      "condition__low__factor": 4,
      "condition__low__target": 2,
      "condition__low__run": str(folder / "base"),
    }
    saved(folder / "middle", space__name="reduced", **low, **middle)
    saved(folder / "top", **low)
    yield folder


def test_a_chain_goes_by_index_is_resumed_and_shows_every_stage(chain, tmp_path, monkeypatch):
  small = diffjax.load(chain / "base").sample(5)["image"]
  larger = diffjax.load(chain / "middle").sample(5, low=small)["image"]
  want = diffjax.load(chain / "top").sample(5, low=larger)["image"]
  assert small.shape == (5, 2, 2, 1) and larger.shape == (5, 4, 4, 1) and np.ptp(want, axis=0).max() > 5

  drawn, draw = [], stages.Sampling.draw

  def counted(self, params, key, request, *more):
    drawn.append(len(request["index"]))
    return draw(self, params, key, request, *more)

  monkeypatch.setattr(stages.Sampling, "draw", counted)
  monkeypatch.setattr(stages, "CHUNK", 3)
  config = workdir.load(chain / "top")
  config.condition.low.run = str(chain / "middle")
  sampling.sample(config, chain / "top", tmp_path / "out")
  file = np.load(next((tmp_path / "out").glob("*.npz")))
  np.testing.assert_array_equal(file["low_low"], small)
  np.testing.assert_allclose(file["low"].astype(int), larger.astype(int), atol=1)
  np.testing.assert_allclose(file["image"].astype(int), want.astype(int), atol=2)
  np.testing.assert_array_equal(file["label"], 7)  # what the base was told
  pictures = {path.name.split("_", 4)[4] for path in (tmp_path / "out").glob("*.png")}
  assert pictures == {"grid.png", "strip.png", "asked_low.png", "asked_low_low.png"}
  assert len([*(chain / "middle" / "samples").glob("*_grid.png")]) == 2  # a chunk each
  assert sum(drawn) == 5 + 5 + 5

  drawn.clear()
  config.sample.count, config.sample.batch_size = 3, 1
  sampling.sample(config, chain / "top", tmp_path / "fewer")
  fewer = np.load(next((tmp_path / "fewer").glob("*.npz")))
  np.testing.assert_allclose(fewer["image"].astype(int), file["image"][:3].astype(int), atol=1)
  assert sum(drawn) == 3  # the first chunks of the stages before were there


def test_a_stage_of_another_size_is_refused_before_anything_is_drawn(chain, tmp_path):
  config = workdir.load(chain / "top")
  config.condition.low.run = str(chain / "base")
  with pytest.raises(
    ConfigError, match=r"condition.low.run is .*base', whose samples are image \(2, 2, 1\); here"
  ):
    sampling.sample(config, chain / "top", tmp_path / "out")


def test_samples_of_rows_are_of_the_split_and_are_judged_beside_them(chain):
  run = diffjax.load(chain / "top")
  for split in ("train", "test"):
    request = sampling.requests(run.run, np.arange(6), split)
    source = run.run.data if split == "train" else run.run.test
    np.testing.assert_array_equal(request["image"], source.read(np.arange(6), ("image",))["image"])
    np.testing.assert_array_equal(request["label"], source.read(np.arange(6), ("label",))["label"])
  assert scoring.request_of(run.run).keys() == {"index", "image", "label", "low"}
  assert run.experiment.task.leads and not diffjax.load(chain / "base").experiment.task.leads


def test_in_training_the_small_image_is_of_the_image_as_it_was_flipped(chain, monkeypatch):
  run, seen, make = diffjax.load(chain / "top").run, [], CONDITIONS["low"]

  @functools.wraps(make)
  def spied(*arguments, **options):
    condition = make(*arguments, **options)
    return dataclasses.replace(
      condition, value=lambda data, draws: seen.append(data["image"]) or condition.value(data, draws)
    )

  monkeypatch.setitem(CONDITIONS, "low", spied)
  task = experiment.create(run.config, run.fields).task
  rows = run.data.read(np.arange(8), ("image",))["image"]
  params = task.init(jax.random.key(0))
  draws = keys.Draws(keys.seed(0), jnp.arange(8), 8)
  task.loss(params, {}, {"image": jnp.asarray(rows), "index": jnp.arange(8)}, draws, task.start())
  kept, mirrored = ((seen[-1] == image).all((1, 2, 3)) for image in (rows, rows[:, :, ::-1]))
  assert (kept | mirrored).all() and 0 < kept.sum() < 8
