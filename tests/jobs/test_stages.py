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
from diffjax.jobs import sampling, scoring, stages, training, workdir
from diffjax.machine import parallel
from diffjax.machine.parallel import Parallel
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
    said = Conditioning(Widths(8, 8, 8, rows=1.0), 1.0, self.conditions, name="embedding")(time, cond or {})
    h = nn.tanh(nn.Dense(8)(with_planes(x, said.planes)) + said.vector[:, None, None])
    return nn.Dense(self.out_channels)(h)


def tiny(**changes):
  config = configs.base()
  config.model.name, config.train.steps, config.train.batch_size = "small", 2, 8
  config.train.learning_rate, config.objective.predict, config.schedule.name = 0.05, "v", "cosine"
  config.log.every, config.log.held_out, config.log.samples, config.checkpoint.every = 1, 0, 2, 2
  config.sample.sampler, config.sample.steps, config.sample.count, config.sample.batch_size = "ddim", 2, 3, 8
  config.sample.grid = "trailing"
  config.sample.weights, config.compile_cache, config.eval.count = "raw", False, 6
  config.update_from_flattened_dict({path.replace("__", "."): value for path, value in changes.items()})
  return config


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
  """Workdirs: classes to 2x2 digits, 2x2 to 4x4, 4x4 to 8x8."""
  folder = tmp_path_factory.mktemp("runs")
  low = {"condition__names": ("low",), "data__augment": "flip", "condition__low__noise": 0.3}
  with pytest.MonkeyPatch.context() as patch:
    one = Parallel("jit", Mesh(np.asarray(jax.devices()[:1]), ("data",)))
    patch.setattr(parallel, "create", lambda *_: one)
    patch.setitem(MODELS, "small", Small)
    base = {"condition__names": ("label",), "condition__label__request": "7"}
    training.train(tiny(space__name="reduced", space__reduced__factor=4, **base), folder / "base")
    middle = {"space__name": "reduced", "condition__low__factor": 4, "condition__low__target": 2}
    training.train(tiny(**low, **middle), folder / "middle")
    training.train(tiny(**low), folder / "top")
    yield folder


def told(chain, **changes):
  """The chain's last stage, told by the others."""
  middle = workdir.load(chain / "middle")
  config = workdir.load(chain / "top")
  config.condition.low.run = str(chain / "middle")
  config.update_from_flattened_dict({path.replace("__", "."): value for path, value in changes.items()})
  return middle, config


def test_a_chain_goes_by_index_is_resumed_and_shows_every_stage(chain, tmp_path, monkeypatch):
  one, two = (diffjax.load(chain / name) for name in ("base", "middle"))
  small = one.sample(5)["image"]
  assert small.shape == (5, 2, 2, 1)
  larger = two.sample(5, low=small)["image"]
  want = diffjax.load(chain / "top").sample(5, low=larger)["image"]

  _, config = told(chain)
  config.condition.low.run = str(chain / "base")
  with pytest.raises(
    ConfigError, match=r"condition.low.run is .*base', whose samples are image \(2, 2, 1\); here"
  ):
    sampling.sample(config, chain / "top", tmp_path / "out")

  # the middle stage is told the base's samples because its own saved config says so
  saved = workdir.load(chain / "middle")
  saved.condition.low.run = str(chain / "base")
  monkeypatch.setattr(
    workdir,
    "load",
    lambda folder, load=workdir.load: (
      saved.copy_and_resolve_references() if folder == chain / "middle" else load(folder)
    ),
  )
  drawn = []
  monkeypatch.setattr(stages, "CHUNK", 2)
  draw = stages.Sampling.draw

  def counted(self, params, key, asked, *more):
    drawn.append(len(asked["index"]))
    return draw(self, params, key, asked, *more)

  monkeypatch.setattr(stages.Sampling, "draw", counted)
  _, config = told(chain, sample__count=5)
  sampling.sample(config, chain / "top", tmp_path / "out")
  assert sum(drawn) == 5 + 5 + 5  # base, middle, top
  (place,) = (tmp_path / "out").glob("*.npz")
  found = np.load(place)
  np.testing.assert_array_equal(found["low_low"], small)
  np.testing.assert_allclose(found["low"].astype(int), larger.astype(int), atol=1)
  np.testing.assert_allclose(found["image"].astype(int), want.astype(int), atol=1)
  np.testing.assert_array_equal(found["label"], 7)  # what the base was told
  pictures = {path.name.split("_", 4)[4] for path in (tmp_path / "out").glob("*.png")}
  assert pictures == {"grid.png", "strip.png", "asked_low.png", "asked_low_low.png"}
  assert len([*(chain / "base" / "samples").glob("*_grid.png")]) >= 3

  drawn.clear()
  config.sample.count, config.sample.batch_size = 3, 1  # others draw what is there already
  sampling.sample(config, chain / "top", tmp_path / "fewer")
  fewer = np.load(next((tmp_path / "fewer").glob("*.npz")))
  np.testing.assert_allclose(fewer["image"].astype(int), found["image"][:3].astype(int), atol=1)
  assert sum(drawn) <= 1 + 1 + 3  # the first chunk of each stage was there


def test_samples_of_rows_are_of_the_split_and_are_judged_beside_them(chain):
  run = diffjax.load(chain / "top")
  for split in ("train", "test"):
    asked = sampling.request(run.run, np.arange(6), split)
    source = run.run.data if split == "train" else run.run.test
    np.testing.assert_array_equal(asked["image"], source.read(np.arange(6), ("image",))["image"])
    np.testing.assert_array_equal(asked["label"], source.read(np.arange(6), ("label",))["label"])
  assert scoring.asked_for(run.run).keys() == {"index", "image", "label", "low"}
  assert run.experiment.task.leads and not diffjax.load(chain / "base").experiment.task.leads


def test_in_training_the_small_image_is_of_the_image_as_it_was_flipped(chain, monkeypatch):
  run, seen, make = diffjax.load(chain / "top").run, [], CONDITIONS["low"]

  @functools.wraps(make)
  def spied(*arguments, **options):
    made = make(*arguments, **options)
    return dataclasses.replace(
      made, value=lambda data, draws: seen.append(data["image"]) or made.value(data, draws)
    )

  monkeypatch.setitem(CONDITIONS, "low", spied)
  task = experiment.create(run.config, run.fields).task
  rows = run.data.read(np.arange(8), ("image",))["image"]
  params = task.init(jax.random.key(0))
  draws = keys.Draws(keys.seed(0), jnp.arange(8), 8)
  task.loss(params, {}, {"image": jnp.asarray(rows), "index": jnp.arange(8)}, draws, task.start())
  kept, mirrored = ((seen[-1] == image).all((1, 2, 3)) for image in (rows, rows[:, :, ::-1]))
  assert (kept | mirrored).all() and 0 < kept.sum() < 8
