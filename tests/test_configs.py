"""The configs in configs/: each builds and trains; the base holds every option; saved configs come back."""

import functools
import importlib
import inspect
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from diffjax import config as configs
from diffjax import experiment, keys, state
from diffjax.data import SOURCES, order
from diffjax.data.augment import AUGMENTATIONS
from diffjax.data.source import ArraySource
from diffjax.metrics import METRICS
from diffjax.models import MODELS
from diffjax.objectives import WEIGHTS
from diffjax.optimization import DECAYS, OPTIMIZERS
from diffjax.predictions import INPUT_SCALES, ROWS, TIME_INPUTS
from diffjax.samplers import SAMPLERS
from diffjax.samplers.base import FINALS
from diffjax.samplers.grids import GRIDS
from diffjax.schedules import SCHEDULES
from diffjax.state import EMA_WARMUPS
from diffjax.times import REMEMBERING, TIMES
from diffjax.train_step import make_step
from diffjax.types import ConfigError

NAMES = sorted(path.stem for path in (Path(__file__).parents[1] / "configs").glob("*.py"))
CHOICES = {
  "data.source": SOURCES,
  "data.augment": AUGMENTATIONS,
  "schedule.name": SCHEDULES,
  "objective.predict": ROWS,
  "objective.times": TIMES | REMEMBERING,
  "objective.weight": WEIGHTS,
  "objective.input_scale": INPUT_SCALES,
  "objective.time_input": TIME_INPUTS,
  "model.name": MODELS,
  "train.optimizer": OPTIMIZERS,
  "train.decay": DECAYS,
  "train.ema_warmup": EMA_WARMUPS,
  "sample.sampler": SAMPLERS,
  "sample.grid": GRIDS,
  "sample.final": FINALS,
  "eval.metrics": METRICS,
}
# What no config sets: the run knows it from the data or from another field.
GIVEN = {"parent", "name", "out_channels", "num_classes", "augment_labels", "dtype"}


def get(name):
  return importlib.import_module(f"configs.{name}").get_config()


@pytest.fixture
def tiny_data(monkeypatch, tmp_path):
  """A TFDS that holds sixteen random images, and a folder of as many photographs."""
  rng = np.random.default_rng(0)

  @functools.wraps(SOURCES["tfds"])
  def fake(split, name, **options):
    assert name == "cifar10"
    images = rng.integers(0, 256, (16, 32, 32, 3), np.uint8)
    return ArraySource(images, rng.integers(0, 10, 16).astype(np.int32), 10, "fake")

  monkeypatch.setitem(SOURCES, "tfds", fake)
  for i in range(16):
    pixels = rng.integers(0, 256, (40, 50 + i, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"{i}.png")
  return str(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_every_config_builds_and_takes_a_step(name, tiny_data):
  config = get(name)
  assert config.is_locked
  if config.data.source == "image_folder":
    config.data.image_folder.path = tiny_data
    config.data.image_folder.size = 32
  source = experiment.source(config, "train")
  full = experiment.create(config, tuple(source.image_shape), source.num_classes)
  assert full.num_classes == (source.num_classes if config.model.conditional else 0)

  unet = config.model.unet
  unet.channels, unet.multipliers, unet.blocks, unet.attention = 4, unet.multipliers[:1], 1, ()
  config.train.batch_size, config.sample.steps = 2, 2
  config.model.dtype = (
    "float32"  # jaxlib 0.10.2 aborts on a CPU where a bfloat16 network is so narrow (ynn_emitter.cc)
  )
  made = experiment.create(config, tuple(source.image_shape), source.num_classes)
  batch = source.read(order.indices(0, 0, 2, len(source))) | {"index": np.arange(2, dtype=np.int32)}

  def run(params, batch):
    before = state.create(params, made.optimizer, config.train.ema, keys.seed(0))
    return make_step(made)(before, batch, lambda tree: tree)

  shapes = jax.eval_shape(made.init, jax.random.key(0))
  rng = np.random.default_rng(0)
  params = jax.tree.map(lambda x: 0.1 * rng.normal(size=x.shape).astype(np.float32), shapes)
  after, metrics = jax.jit(run, compiler_options={"xla_backend_optimization_level": 0})(params, batch)
  assert all(np.isfinite(value) for value in metrics.values()) and metrics["grad_norm"] > 0
  assert after.step == 1
  moved = jax.tree.map(lambda new, old: np.asarray(new) - old, after.params, params)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(moved))
  largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(moved))
  assert 0 < largest <= 1.01 * float(metrics["learning_rate"]) + 1e-6  # Adam's first step
  (rate,) = config.train.ema
  averages = jax.tree.map(lambda new, old: np.asarray(new) - old, after.ema[str(rate)], params)
  share = 1 if config.train.ema_warmup == "half_life" else 1 - rate  # of no steps the half-life is 0
  expected = jax.tree.map(lambda leaf: share * leaf, moved)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6), averages, expected)


PAPER = {
  "data.source": "tfds",
  "data.tfds.name": "cifar10",
  "data.flip": True,
  "schedule.name": "linear",
  "schedule.linear.steps": 1000,
  "schedule.linear.beta_start": 1e-4,
  "schedule.linear.beta_end": 0.02,
  "schedule.linear.scale": "vp",
  "objective.predict": "eps",
  "objective.times": "discrete",
  "objective.weight": "simple",
  "objective.input_scale": "none",
  "objective.time_input": "index",
  "objective.label_dropout": 0.0,
  "model.name": "unet",
  "model.conditional": False,
  "model.dtype": "float32",
  "model.unet.channels": 128,
  "model.unet.multipliers": (1, 2, 2, 2),
  "model.unet.blocks": 2,
  "model.unet.attention": (16,),
  "model.unet.heads": 1,
  "model.unet.dropout": 0.1,
  "model.unet.time_scale": 1.0,
  "train.steps": 800_000,
  "train.batch_size": 128,
  "train.accumulate": 1,
  "train.optimizer": "adam",
  "train.adam.b1": 0.9,
  "train.adam.b2": 0.999,
  "train.adam.eps": 1e-8,
  "train.learning_rate": 2e-4,
  "train.warmup": 5000,
  "train.decay": "constant",
  "train.clip": 1.0,
  "train.ema": (0.9999,),
  "train.ema_warmup": "none",
  "sample.weights": "ema",
  "sample.sampler": "ancestral",
  "sample.ancestral.variance": "fixed_large",
  "sample.grid": "leading",
  "sample.steps": 1000,
  "sample.clip": True,
  "sample.final": "denoise",  # no noise in the last step
  "sample.guidance": 0.0,
}


def test_the_cifar10_recipe_is_the_papers():
  found = dict(configs.leaves(configs.resolved(get("cifar10_ddpm"))))
  assert {path: found.get(path) for path in PAPER} == PAPER
  made = experiment.create(get("cifar10_ddpm"), (32, 32, 3), 10)
  shapes = jax.eval_shape(made.init, jax.random.key(0))
  assert sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes)) == 35_746_307
  assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
  np.testing.assert_allclose(made.grid, np.arange(1000, 0, -1) / 1000, rtol=1e-12)
  rates = [float(made.learning_rate(step)) for step in (0, 2499, 4999, 5000, 799_999)]
  np.testing.assert_allclose(rates, [2e-4 / 5000, 1e-4, 2e-4, 2e-4, 2e-4], rtol=1e-6)
  assert [float(made.ema_rate(step, 0.9999)) for step in (0, 10)] == [0.9999, 0.9999]
  log_alpha_bar = np.cumsum(np.log1p(-np.linspace(1e-4, 0.02, 1000)))
  alpha, sigma = made.schedule.alpha_sigma(jnp.float32(1.0))
  np.testing.assert_allclose([alpha, sigma], np.sqrt([np.exp(log_alpha_bar[-1]), 1]), rtol=1e-4)


def test_the_cosine_v_recipe_differs_from_it_as_it_says():
  paper, other = (dict(configs.leaves(configs.resolved(get(f"cifar10_{n}")))) for n in ("ddpm", "cosine_v"))
  changed = {path for path in paper if path in other and paper[path] != other[path]}
  assert changed == {
    *("schedule.name", "objective.predict", "objective.label_dropout", "model.conditional", "train.steps"),
    *("sample.sampler", "sample.grid", "sample.steps", "sample.guidance"),
  }


EDM = {
  "data.flip": False,  # mirroring is one of the augmentations
  "data.augment": "nonleaking",
  "data.nonleaking.probability": 0.12,
  "schedule.name": "edm",
  "schedule.edm.sigma_min": 0.002,
  "schedule.edm.sigma_max": 80.0,
  "schedule.edm.rho": 7.0,
  "schedule.edm.scale": "ve",
  "objective.predict": "edm",
  "objective.edm.sigma_data": 0.5,
  "objective.times": "log_normal",
  "objective.log_normal.mean": -1.2,
  "objective.log_normal.std": 1.2,
  "objective.weight": "edm",
  "objective.input_scale": "unit",
  "objective.unit.sigma_data": 0.5,
  "objective.time_input": "log_sigma",
  "model.conditional": False,
  "model.unet.channels": 128,
  "model.unet.multipliers": (2, 2, 2),
  "model.unet.blocks": 4,
  "model.unet.attention": (16,),
  "model.unet.dropout": 0.13,
  "model.unet.time_scale": 1.0,
  "train.batch_size": 512,
  "train.learning_rate": 1e-3,
  "train.decay": "constant",
  "train.clip": 0.0,
  "train.adam.b2": 0.999,
  "train.ema_warmup": "half_life",
  "train.half_life.share": 0.05,
  "sample.sampler": "heun",
  "sample.heun.churn": 0.0,
  "sample.grid": "karras",
  "sample.karras.rho": 7.0,
  "sample.clip": False,
  "sample.final": "denoise",
}


def test_the_edm_recipe_is_the_papers():
  found = dict(configs.leaves(configs.resolved(get("cifar10_edm"))))
  assert {path: found.get(path) for path in EDM} == EDM
  assert found["train.steps"] * 512 == 200e6 and round(10e6 / 512) == found["train.warmup"]
  made = experiment.create(get("cifar10_edm"), (32, 32, 3), 10)
  assert made.evaluations == 35 and made.augmentation.labels == 9
  shapes = jax.eval_shape(made.init, jax.random.key(0))
  assert sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes)) == 55_733_891
  sigma = np.asarray(made.schedule.alpha_sigma(jnp.asarray(made.grid, jnp.float32))[1])
  i = np.arange(18) / 17  # Karras et al. 2022, eq. 5
  np.testing.assert_allclose(sigma, (80 ** (1 / 7) + i * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7, rtol=1e-4)
  (rate,) = found["train.ema"]
  assert 512 * np.log(0.5) / np.log(rate) == pytest.approx(0.5e6, rel=1e-3)  # the half-life in images
  assert float(made.ema_rate(1000, rate)) == pytest.approx(0.5 ** (1 / 50), rel=1e-6)
  assert float(made.ema_rate(100_000, rate)) == pytest.approx(rate)


@pytest.mark.parametrize("name", NAMES)
def test_a_docstring_gives_the_command(name):
  text = importlib.import_module(f"configs.{name}").__doc__
  assert f"python main.py --config=configs/{name}.py --workdir=runs/" in text


def test_the_base_holds_every_option_with_its_default():
  base, seen = configs.base(), 0
  for place, entries in CHOICES.items():
    section, field = place.split(".")
    assert base[section][field] in entries or all(name in entries for name in base[section][field])
    for name, entry in entries.items():
      for parameter in inspect.signature(entry).parameters.values():
        if parameter.default is inspect.Parameter.empty or parameter.name in GIVEN:
          continue
        assert base[section][name][parameter.name] == parameter.default, f"{place} {name} {parameter.name}"
        seen += 1
  assert seen > 40 and base.is_locked
  with pytest.raises(AttributeError):
    base.train.adam.b3 = 1.0
  with pytest.raises(TypeError):
    base.train.adam.b1 = "high"


def test_what_can_be_unset_has_a_type_all_the_same():
  config = configs.base()
  config.data.tfds.size = 32
  config.data.tfds.data_dir = "here"
  config.sample.label = 3
  for section, field, wrong in ((config.data.tfds, "size", "x"), (config.sample, "label", 2.5)):
    with pytest.raises(TypeError):
      section[field] = wrong


def test_an_option_reaches_what_it_belongs_to():
  config = configs.base()
  config.schedule.linear.steps = 7
  config.objective.predict = "edm"
  config.objective.edm.sigma_data = 2.0
  config.sample.steps = 7
  config.model.unet.attention = ()
  made = experiment.create(config, (8, 8, 1), 0)
  assert made.schedule.steps == 7
  alpha, sigma = (float(x) for x in made.schedule.alpha_sigma(jnp.float32(0.5)))
  a, _ = made.row(made.schedule, jnp.float32(0.5))
  assert float(a) == pytest.approx(sigma / (2.0 * np.sqrt(sigma**2 + 4.0 * alpha**2)), rel=1e-5)


def through_json(config):
  return configs.from_resolved(json.loads(json.dumps(configs.resolved(config))))


@pytest.mark.parametrize("name", [*NAMES, None])
def test_a_resolved_config_comes_back(name):
  config = get(name) if name else configs.base()
  assert configs.resolved(through_json(config)) == configs.resolved(config)
  assert through_json(config).is_locked


def changed(value):
  """Another value of the same type."""
  if isinstance(value, bool):
    return not value
  if isinstance(value, str):
    return f"{value}x"
  if isinstance(value, tuple):
    return (*value, 16)
  return value + 1


@pytest.mark.parametrize("place", [place for place in CHOICES if place != "eval.metrics"])
def test_only_the_options_of_what_is_chosen_are_saved_and_they_come_back(place):
  section, field = place.split(".")
  for name, entry in CHOICES[place].items():
    config = configs.base()
    config[section][field] = name
    for other in CHOICES[place]:
      for option, value in config[section].get(other, {}).items():
        if value is not None:
          config[section][other][option] = changed(value)
    saved = configs.resolved(config)[section]
    assert saved[field] == name and not [o for o in CHOICES[place] if o != name and o in saved]
    parameters = set(inspect.signature(entry).parameters)
    assert set(saved.get(name, ())) <= parameters
    back = through_json(config)
    for option, value in saved.get(name, {}).items():
      assert back[section][name][option] == config[section][name][option] == value
    for other in CHOICES[place]:
      if other != name and other in config[section]:
        assert back[section][other].to_dict() == configs.base()[section][other].to_dict()


@pytest.mark.parametrize(
  "path, said",
  [
    ("train.stepz", "config.train.stepz does not exist; did you mean config.train.steps?"),
    ("trian.batch_size", "did you mean config.train.batch_size?"),
    ("beta_end", "did you mean config.schedule.linear.beta_end?"),
    ("steps", "did you mean config.train.steps?"),
    ("warmup", "did you mean config.train.warmup?"),
    ("train.steps.more", "config.train.steps.more does not exist"),
    ("qqq.www", "config.qqq.www does not exist."),
  ],
)
def test_a_field_that_does_not_exist_is_told_with_its_nearest(path, said):
  with pytest.raises(ConfigError) as error:
    configs.require_path(configs.base(), path)
  assert said in str(error.value)


def test_every_field_exists():
  config = configs.base()
  paths = [path for path, _ in configs.leaves(config)]
  assert len(paths) == len(set(paths)) > 80
  for path in paths:
    configs.require_path(config, path)


def test_a_saved_field_that_is_gone_is_named():
  plain = configs.resolved(configs.base())
  plain["train"]["learning_rat"] = 1.0
  with pytest.raises(
    ConfigError, match="learning_rat does not exist; did you mean config.train.learning_rate"
  ):
    configs.from_resolved(plain)
