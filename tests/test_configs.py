"""The configs in configs/: each builds and trains; the base holds every option; saved configs come back."""

import functools
import importlib
import inspect
import json
import sys
import types
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import config as configs
from diffjax import experiment, keys
from diffjax.choices import CHOICES, require_declared
from diffjax.data import encoded
from diffjax.data.source import Field
from diffjax.data.text import TOKENIZERS
from diffjax.jobs.train_step import make_step
from diffjax.machine import atomic, state
from diffjax.metrics import lpips
from diffjax.models import AUTOENCODERS, MODELS
from diffjax.models.autoencoder import moments_of
from diffjax.ranges import checked
from diffjax.schedules import SCHEDULES
from diffjax.types import ConfigError, Trained

NAMES = sorted(path.stem for path in (Path(__file__).parents[1] / "configs").glob("*.py"))
# What the data of a config's source hold, without the data.
FIELDS = {
  "digits": {"image": Field((8, 8, 1), "uint8"), "label": Field((), "int32", 10)},
  "tfds": {"image": Field((32, 32, 3), "uint8"), "label": Field((), "int32", 10)},
  "image_folder": {"image": Field((64, 64, 3), "uint8")},
  "arrays": {"image": Field((28, 28, 1), "uint8"), "label": Field((), "int32", 10)},
}
WORDS = TOKENIZERS["words"](("a two above a seven", "the digit 3"))
TEXT = {"text": Field((WORDS.length,), "int32", WORDS.vocabulary, tokenizer=WORDS)}
DIGITS = FIELDS["digits"]


LARGE = ("sd", "sd_clip", "sd_unet")  # to trace their steps takes minutes; their parameters are counted below


@functools.cache
def many_words():
  """The fields of data with as many tokens as CLIP knows."""
  words = TOKENIZERS["words"]([" ".join(f"a{n}" for n in range(49_405))], 49_408, 77)
  return {"text": Field((77,), "int32", words.vocabulary, tokenizer=words)}


def data_of(config):
  """The fields of a config's data."""
  if config.data.source == "captions":
    side = config.data.captions.size
    return {"image": Field((side, side, 3), "uint8")} | many_words()
  if config.data.source == "scenes":
    return {"image": Field((config.data.scenes.size, config.data.scenes.size, 1), "uint8")} | TEXT
  if config.data.source == "moving_digits":
    return experiment.source(config, "test").fields
  if config.data.source == "emoji":
    return {"image": Field((config.data.emoji.size, config.data.emoji.size, 3), "uint8")} | TEXT
  return FIELDS[config.data.source] | (TEXT if config.data.templates else {})


def get(name):
  return importlib.import_module(f"configs.{name}").get_config()


@functools.cache
def untrained(place):
  """A run that is not trained, in place of the one that a config uses."""
  if place in PUBLISHED:
    return Trained(place, PUBLISHED[place], {}, place)
  config = get(Path(place).name)
  parts = experiment.create(config, data_of(config), traced=False)
  rng = np.random.default_rng(1)
  params = jax.tree.map(
    lambda x: 0.1 * rng.normal(size=x.shape).astype(np.float32), jax.eval_shape(parts.task.init, keys.seed(0))
  )
  return Trained(place, parts.task.can, params, "fingerprint")


def find(place, wants):
  result = untrained(place)
  assert wants in result.can
  return result


PUBLISHED = {
  "runs/sd_autoencoder": {
    "encode": lambda params, x: dict.fromkeys(("mean", "std"), jnp.ones((len(x), 64, 64, 4))),
    "decode": lambda params, z: z,
    "statistics": lambda params: (np.zeros(4), np.ones(4)),
  },
  "runs/sd_clip": {
    "encode_text": lambda params, t: {
      "tokens": jnp.zeros((len(t), 77, 768)),
      "pooled": jnp.zeros((len(t), 768)),
    },
    "tokenizer": lambda params: many_words()["text"].tokenizer,
  },
}


def fields_of(source, fields=None):
  """The fields of an experiment's data, with those that other runs make."""
  fields = fields or data_of(source.config)
  return fields | encoded.fields_of(fields, source.task.encodings)


def places(choices=CHOICES):
  return pytest.mark.parametrize("choice", choices, ids=lambda c: f"{c.section}.{c.field}")


class Small(nn.Module):
  """A network of a few numbers, which uses all that it is given."""

  out_channels: int = 1
  conditions: tuple = ()
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x, time, cond=None, keys=None):
    shift = sum(jnp.sum(jnp.reshape(value, (len(x), -1)), 1) for value in jax.tree.leaves(cond or {}))
    shift = jnp.broadcast_to(shift + time, (len(x),)).reshape(-1, *[1] * (x.ndim - 1))
    return nn.Dense(self.out_channels)(jnp.concatenate([x, jnp.tanh(shift) + 0 * x], axis=-1))


class SmallAutoencoder(nn.Module):
  """An autoencoder of a few numbers."""

  LAST = ("decoder", "kernel")
  out_channels: int = 1
  dtype: str = "float32"
  variational: bool = True

  def setup(self):
    self.encoder = nn.Dense(2 * (1 + self.variational))
    self.decoder = nn.Dense(self.out_channels)

  def encode(self, x):
    return moments_of(self.encoder(x), self.variational)

  def decode(self, z):
    return self.decoder(z)

  def __call__(self, x):
    return self.decode(self.encode(x).mean)


def no_weights(network, path=""):
  """LPIPS's VGG16 with weights of 0."""
  channels, before, tensors = (64, 64, 128, 128, *(256,) * 3, *(512,) * 6), 3, {}
  for layer, width in zip(lpips.NETWORKS[network], channels, strict=True):
    tensors[f"features.{layer.index}.weight"] = np.zeros((3, 3, before, width), np.float32)
    tensors[f"features.{layer.index}.bias"] = np.zeros(width, np.float32)
    before = width
  heads = {f"lin{k}.weight": np.zeros(width, np.float32) for k, width in enumerate((64, 128, 256, 512, 512))}
  return lpips.Weights(network, tensors | heads)


@pytest.fixture(autouse=True)
def weights(monkeypatch):
  monkeypatch.setattr(lpips, "load", no_weights)


def taken(parts, batch_size, fields=None):
  """A step of an experiment as a function of the parameters and a batch; and shapes of both."""
  fields = fields_of(parts, fields)
  like = {name: jax.ShapeDtypeStruct((batch_size, *f.shape), f.dtype) for name, f in fields.items()}
  like = {name: like[name] for name in parts.task.fields} | {
    "index": jax.ShapeDtypeStruct((batch_size,), jnp.int32)
  }

  def before(params):
    return state.create(params, parts.optimizer, parts.averages, keys.seed(0), parts.task.start())

  def run(params, batch):
    return make_step(parts)(before(params), parts.frozen, batch, lambda tree: tree)

  return before, run, jax.eval_shape(parts.task.init, jax.random.key(0)), like


@pytest.mark.parametrize("name", [name for name in NAMES if name not in LARGE])
def test_every_config_builds_and_its_whole_step_keeps_the_shape_of_the_state(name):
  config = get(name)
  assert config.is_locked
  parts = experiment.create(config, data_of(config), find, traced=False)  # it is traced below
  if config.task.name == "diffusion":
    assert ("label" in parts.task.fields) == ("label" in config.condition.names)
  before, run, params, batch = taken(parts, config.train.batch_size)
  after, metrics = jax.eval_shape(run, params, batch)
  same = lambda one, other: one.shape == other.shape and one.dtype == other.dtype
  assert jax.tree.all(jax.tree.map(same, after, jax.eval_shape(before, params)))
  assert {"loss", "grad_norm", "update_norm", "learning_rate"} <= set(metrics)
  assert all(value.shape == () and value.dtype == jnp.float32 for value in metrics.values())


def programs():
  """Configs that between them choose every entry of a training step that any does; the others are in make test-slow."""
  left = {}
  for name in NAMES:
    config = get(name)
    left[name] = {
      (choice.section, choice.field, entry)
      for choice in CHOICES
      if choice.belongs(config) and choice.section not in ("sample", "eval", "parallel")
      if (choice.section, choice.field) not in (("data", "source"), ("model", "name"), ("model", "dtype"))
      for entry in choice.names(config)
    }
  for name in ("sd_clip", "sd_unet"):
    del left[name]
  kinds, first = dict(left), []
  while any(left.values()):
    first.append(max(left, key=lambda name: len(left[name])))
    left = {name: entries - kinds[first[-1]] for name, entries in left.items()}
  return [pytest.param(name, marks=() if name in first else pytest.mark.slow) for name in kinds]


@pytest.mark.parametrize("name", programs())
def test_every_kind_of_config_takes_a_step(name, monkeypatch):
  monkeypatch.setitem(MODELS, "small", Small)
  monkeypatch.setitem(AUTOENCODERS, "small", SmallAutoencoder)
  config = get(name)
  config.model.name = "small"
  if config.model.autoencoder == "kl":
    config.model.autoencoder, config.model.patch.width = "small", 4
    config.objective.terms = tuple(term for term in config.objective.terms if term != "lpips")
  config.model.unet_encoder.channels, config.model.unet_encoder.multipliers = 8, (1,)
  config.model.unet_encoder.attention = ()
  for tower in (config.model.transformer, config.model.vit):
    tower.channels, tower.blocks, tower.heads = 8, 1, 2
  config.model.realnvp.couplings, config.model.realnvp.hidden, config.model.pixelcnn.depth = 1, (6,), 1
  config.train.batch_size, config.sample.steps = 2, 20
  parts = experiment.create(config, data_of(config), find, traced=False)
  _, run, shapes, like = taken(parts, 2)
  rng = np.random.default_rng(0)
  params = jax.tree.map(lambda x: 0.1 * rng.normal(size=x.shape).astype(np.float32), shapes)
  fields = fields_of(parts)
  most = {name: fields[name].classes or 256 for name in parts.task.fields}
  batch = {k: rng.integers(0, most.get(k, 1), v.shape).astype(v.dtype) for k, v in like.items()}
  batch["index"] = np.arange(2, dtype=np.int32)
  after, metrics = jax.jit(run)(params, batch)
  assert all(np.isfinite(value) for value in metrics.values()) and after.step == 1
  moved = jax.tree.map(lambda new, old: np.asarray(new) - old, after.params, params)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(moved))
  assert any(leaf.any() for leaf in jax.tree.leaves(moved))
  by_record = config.task.name in ("mixture", "texture")
  assert (metrics["grad_norm"] == 0) == by_record
  if by_record:
    return
  by_gradient = {player: tree for player, tree in moved.items() if player != "codebook"}
  largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(by_gradient))
  fastest = max([1.0, *parts.task.rates.values()]) * float(metrics["learning_rate"])
  decay = config.train.adamw.weight_decay if config.train.optimizer == "adamw" else 0.0
  away = max(np.abs(leaf).max() for leaf in jax.tree.leaves(params))
  assert 0 < largest <= fastest * (1.01 + decay * away) + 1e-6  # Adam's first step, and the decay of weights
  ((average, rate),) = parts.averages.items()
  averages = jax.tree.map(lambda new, old: np.asarray(new) - old, after.ema[average], params)
  expected = jax.tree.map(lambda leaf: (1 - float(rate(0))) * leaf, moved)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6), averages, expected)


def test_stable_diffusions_networks_have_the_published_numbers_of_parameters():
  def parameters(name):
    config = get(name)
    parts = experiment.create(config, data_of(config), find)
    return jax.eval_shape(parts.task.init, keys.seed(0))["model"]

  count = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))
  clip = parameters("sd_clip")
  assert count(clip) == 427_616_513
  assert count(clip["text"]) - clip["text"]["projection"]["kernel"].size == 123_060_480
  assert count(parameters("sd_autoencoder")) == 83_653_863
  assert count(parameters("sd")) == 859_520_964
  assert get("sd").model == get("sd_unet").model


PAPER = {
  "data.source": "tfds",
  "data.tfds.name": "cifar10",
  "data.augment": "flip",
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
  "condition.names": (),
  "model.name": "unet",
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
  "train.averages": ("constant",),
  "train.constant.rates": (0.9999,),
  "sample.weights": "average",
  "sample.sampler": "ancestral",
  "sample.ancestral.variance": "fixed_large",
  "sample.grid": "leading",
  "sample.steps": 1000,
  "sample.guides": ("clip",),
  "sample.final": "denoise",  # no noise in the last step
}


def schedule_of(name):
  (make,) = experiment.makers(get(name), "schedule", "name").values()
  return make()


def grid(parts):
  """The times that samples walk along, before they are rounded to the plan's float32."""
  config, drawing = parts.config, parts.task.draw
  (make,) = experiment.makers(config, "sample", "grid").values()
  (schedule,) = experiment.makers(config, "schedule", "name").values()
  result = make(schedule(), config.sample.steps)
  np.testing.assert_array_equal(drawing.plan[: drawing.stops + 1], np.float32(result))
  return result


def test_the_cifar10_recipe_is_the_papers():
  result = dict(configs.leaves(configs.resolved(get("cifar10_ddpm"))))
  assert {path: result.get(path) for path in PAPER} == PAPER
  parts = experiment.create(get("cifar10_ddpm"), FIELDS["tfds"])
  shapes = jax.eval_shape(parts.task.init, jax.random.key(0))
  assert sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes)) == 35_746_307
  assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
  np.testing.assert_allclose(grid(parts), np.arange(1000, 0, -1) / 1000, rtol=1e-12)
  rates = [float(parts.learning_rate(step)) for step in (0, 2499, 4999, 5000, 799_999)]
  np.testing.assert_allclose(rates, [2e-4 / 5000, 1e-4, 2e-4, 2e-4, 2e-4], rtol=1e-6)
  assert [float(parts.averages["ema_0.9999"](step)) for step in (0, 10)] == [0.9999, 0.9999]
  log_alpha_bar = np.cumsum(np.log1p(-np.linspace(1e-4, 0.02, 1000)))
  alpha, sigma = schedule_of("cifar10_ddpm").alpha_sigma(jnp.float32(1.0))
  np.testing.assert_allclose([alpha, sigma], np.sqrt([np.exp(log_alpha_bar[-1]), 1]), rtol=1e-4)


def test_the_cosine_v_recipe_differs_from_it_as_it_says():
  paper, other = (dict(configs.leaves(configs.resolved(get(f"cifar10_{n}")))) for n in ("ddpm", "cosine_v"))
  changed = {path for path in paper if path in other and paper[path] != other[path]}
  assert changed == {
    *("schedule.name", "objective.predict", "condition.names", "train.steps"),
    *("sample.sampler", "sample.grid", "sample.steps", "sample.guides"),
  }


EDM = {
  "data.augment": "nonleaking",  # mirroring is one of them
  "data.nonleaking.probability": 0.12,
  "schedule.name": "edm",
  "schedule.edm.sigma_min": 0.002,
  "schedule.edm.sigma_max": 80.0,
  "schedule.edm.rho": 7.0,
  "schedule.edm.scale": "ve",
  "objective.predict": "edm",
  "space.pixels.std": 0.5,
  "objective.times": "log_normal",
  "objective.log_normal.mean": -1.2,
  "objective.log_normal.std": 1.2,
  "objective.weight": "edm",
  "objective.input_scale": "unit",
  "objective.time_input": "log_sigma",
  "condition.names": (),
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
  "train.averages": ("half_life",),
  "train.half_life.share": 0.05,
  "sample.sampler": "heun",
  "sample.heun.churn": 0.0,
  "sample.grid": "karras",
  "sample.karras.rho": 7.0,
  "sample.guides": (),
  "sample.final": "denoise",
}


def test_the_edm_recipe_is_the_papers():
  result = dict(configs.leaves(configs.resolved(get("cifar10_edm"))))
  assert {path: result.get(path) for path in EDM} == EDM
  assert result["train.steps"] * 512 == 200e6 and round(10e6 / 512) == result["train.warmup"]
  parts = experiment.create(get("cifar10_edm"), FIELDS["tfds"])
  (augmentation,) = experiment.makers(get("cifar10_edm"), "data", "augment").values()
  assert parts.task.draw.evaluations == 35 and augmentation().labels == 9
  shapes = jax.eval_shape(parts.task.init, jax.random.key(0))
  assert sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes)) == 55_733_891
  sigma = np.asarray(schedule_of("cifar10_edm").alpha_sigma(jnp.asarray(grid(parts), jnp.float32))[1])
  i = np.arange(18) / 17  # Karras et al. 2022, eq. 5
  np.testing.assert_allclose(sigma, (80 ** (1 / 7) + i * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7, rtol=1e-4)
  (rate,) = result["train.half_life.rates"]
  (average,) = parts.averages.values()
  assert 512 * np.log(0.5) / np.log(rate) == pytest.approx(0.5e6, rel=1e-3)  # the half-life in images
  assert float(average(1000)) == pytest.approx(0.5 ** (1 / 50), rel=1e-6)
  assert float(average(100_000)) == pytest.approx(rate)


@pytest.mark.parametrize("name", NAMES)
def test_a_docstring_gives_the_command(name):
  text = importlib.import_module(f"configs.{name}").__doc__
  assert f"python main.py --config=configs/{name}.py --workdir=runs/" in text


@places()
def test_the_base_holds_every_option_with_its_default(choice):
  base = configs.base()
  assert base.is_locked
  assert set(choice.names(base)) <= set(choice.entries)
  for name, entry in choice.entries.items():
    parameters = inspect.signature(entry).parameters.values() if callable(entry) else ()
    for parameter in parameters:
      if parameter.default is inspect.Parameter.empty or parameter.name in choice.arguments:
        continue
      assert base[choice.section][name][parameter.name] == parameter.default, f"{name} {parameter.name}"


def test_options_are_many_locked_and_typed():
  base = configs.base()
  assert len(CHOICES) >= 25
  assert sum(len(choice.options(name)) for choice in CHOICES for name in choice.entries) > 80
  assert len({(choice.section, choice.field) for choice in CHOICES}) == len(CHOICES)
  with pytest.raises(AttributeError):
    base.train.adam.b3 = 1.0
  with pytest.raises(TypeError):
    base.train.adam.b1 = "high"


def test_what_can_be_unset_has_a_type_all_the_same():
  config = configs.base()
  config.data.tfds.size = 32
  config.data.tfds.data_dir = "here"
  config.condition.label.request = "three"
  for section, field, wrong in ((config.data.tfds, "size", "x"), (config.condition.label, "request", 2.5)):
    with pytest.raises(TypeError):
      section[field] = wrong


def test_an_option_reaches_what_it_belongs_to():
  config = configs.base()
  config.schedule.linear.steps, config.schedule.linear.beta_end = 7, 0.9
  config.objective.predict = "edm"
  config.space.pixels.std = 2.0
  config.sample.steps = 7
  config.model.unet.channels, config.model.unet.multipliers, config.model.unet.attention = 8, (1,), ()
  parts = experiment.create(config, DIGITS)
  (make,) = experiment.makers(config, "schedule", "name").values()
  schedule = make()
  assert schedule.steps == len(grid(parts)) == 7
  alpha, sigma = (np.asarray(x) for x in schedule.alpha_sigma(jnp.float32(0.5)))
  x = jnp.linspace(-1, 1, 64).reshape(1, 8, 8, 1)
  denoise = parts.task.can["denoise"](parts.task.init(keys.seed(0)), {})
  result = denoise(x, jnp.full(1, 0.5), schedule).x0  # a new network answers 0
  np.testing.assert_allclose(result, 4 * alpha * x / (4 * alpha**2 + sigma**2), rtol=1e-4)  # c_skip of EDM


def through_json(config):
  return configs.from_resolved(json.loads(atomic.as_json(configs.resolved(config))))


@pytest.mark.parametrize("name", [*NAMES, None])
def test_a_resolved_config_comes_back(name):
  config = get(name) if name else configs.base()
  back = through_json(config)
  assert configs.resolved(configs.settled(back)) == configs.resolved(config)
  assert back.is_locked


def changed(value):
  """Another value of the same type."""
  if isinstance(value, bool):
    return not value
  if isinstance(value, str):
    return f"{value}x"
  if isinstance(value, tuple):
    return (*value, 16)
  return value + 1


@places()
def test_only_the_options_of_what_is_chosen_are_saved_and_they_come_back(choice):
  beside = {field for c in CHOICES if c.section == choice.section for field in (*c.entries, c.field)}
  for name, entry in choice.entries.items():
    config = configs.base()
    if (choice.section, choice.field) != ("task", "name"):
      config.task.name = task_with(choice.part)
    if choice.field == "tokenizer":
      config.data.source = "scenes"
    config[choice.section][choice.field] = (name,) if choice.many else name
    for other in choice.entries:
      for option in choice.options(other):
        if (value := config[choice.section][other][option]) is not None:
          config[choice.section][other][option] = changed(value)
    saved = configs.resolved(config)[choice.section]
    assert saved[choice.field] == ((name,) if choice.many else name)
    chosen = {
      n for c in CHOICES if c.section == choice.section and c.belongs(config) for n in c.names(config)
    }
    assert set(saved) & (beside & set(choice.entries)) <= chosen
    parameters = set(inspect.signature(entry).parameters) if callable(entry) else set()
    back = through_json(config)
    for option, value in saved.get(name, {}).items() if set(saved.get(name, ())) <= parameters else ():
      assert back[choice.section][name][option] == config[choice.section][name][option] == value
    assert set(choice.options(name)) <= set(saved.get(name, ()))
    for other in choice.entries:
      if other not in chosen and other in config[choice.section]:
        assert back[choice.section][other].to_dict() == configs.base()[choice.section][other].to_dict()


def task_with(part):
  """A task that takes a part."""
  (tasks,) = (choice.entries for choice in CHOICES if choice.section == "task")
  takes = [name for name, make in tasks.items() if part in inspect.signature(make).parameters]
  return takes[0] if part else next(iter(tasks))


def test_what_another_task_takes_is_not_saved():
  config = configs.base()
  config.task.name = "classifier"
  saved = dict(configs.leaves(configs.resolved(config)))
  assert saved["task.name"] == "classifier" and "model.encoder" in saved and "schedule.name" in saved
  for path in (
    "sample.sampler",
    "sample.steps",
    "sample.guides",
    "objective.name",
    "model.name",
    "condition.names",
  ):
    assert path in dict(configs.leaves(configs.base())) and path not in saved
  assert configs.resolved(through_json(config)) == configs.resolved(config)


@pytest.mark.parametrize(
  "path, message",
  [
    ("train.stepz", "config.train.stepz does not exist; did you mean config.train.steps?"),
    ("trian.batch_size", "did you mean config.train.batch_size?"),
    ("beta_end", "did you mean config.schedule.linear.beta_end?"),
    ("steps", "did you mean config.train.steps?"),
    ("warmup", "did you mean config.train.warmup?"),
    ("train.lr", "did you mean config.train.learning_rate?"),
    ("bs", "did you mean config.train.batch_size?"),
    ("train.steps.more", "config.train.steps.more does not exist"),
    ("qqq.www", "config.qqq.www does not exist."),
  ],
)
def test_a_field_that_does_not_exist_is_told_with_its_nearest(path, message):
  with pytest.raises(ConfigError) as error:
    configs.require_path(configs.base(), path)
  assert message in str(error.value)


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


@pytest.mark.parametrize("path", configs.RENAMED)
def test_a_field_of_earlier_versions_is_told_what_it_became(path):
  with pytest.raises(ConfigError, match=f"config.{path} is now ") as error:
    configs.require_path(configs.base(), path)
  known = [field for field, _ in configs.leaves(configs.base())]
  named = [word.partition("=")[0] for word in str(error.value).split() if word.startswith("--config.")]
  assert named and all(name.removeprefix("--config.").strip(".,") in known for name in named)


def test_extensions_are_imported_before_a_saved_config_is_read(tmp_path, monkeypatch):
  (tmp_path / "of_mine.py").write_text(
    "from diffjax.machine.optimization import DECAYS\n"
    "def halved(warmup, steps, half: float = 0.5):\n"
    "  return lambda step: half\n"
    "DECAYS['halved'] = halved\n"
  )
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, "path", list(sys.path))
  (decays,) = (choice.entries for choice in CHOICES if choice.field == "decay")
  plain = configs.resolved(configs.base()) | {"extensions": ["of_mine"]}
  plain["train"] |= {"decay": "halved", "halved": {"half": 0.25}}
  try:
    config = configs.from_resolved(plain)
    assert config.extensions == ("of_mine",) and config.train.halved.half == 0.25
    configs.check(config)
    assert configs.resolved(config)["train"]["halved"] == {"half": 0.25}
  finally:
    decays.pop("halved", None)
    sys.modules.pop("of_mine", None)


def test_extensions_that_are_missing_fail_or_come_late_are_told(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, "path", list(sys.path))
  plain = configs.resolved(configs.base())
  with pytest.raises(ConfigError, match=r"config.extensions names the module 'not_there.at_all'"):
    configs.from_resolved(plain | {"extensions": ["not_there.at_all"]})
  (tmp_path / "that_fails.py").write_text("import nothing_of_this_name\n")
  with pytest.raises(ModuleNotFoundError, match="nothing_of_this_name"):  # its own mistake is not hidden
    configs.from_resolved(plain | {"extensions": ["that_fails"]})
  config = configs.base()
  config.extensions = ("that_comes_late",)
  with pytest.raises(ConfigError, match="'that_comes_late', which must be imported before config.base"):
    configs.check(config)


def test_entries_from_outside_are_declared_by_a_module_that_brings_them(monkeypatch):
  def entry_of(module, added, *named):
    bent = lambda: None
    bent.__module__ = module
    monkeypatch.setitem(SCHEDULES, "bent", added(bent))
    config = configs.base()
    config.schedule.name, config.extensions = "bent", named
    return config

  brings = types.ModuleType("brings")  # the entry's module is another, which it imports
  brings.curve = types.ModuleType("package.curve")
  monkeypatch.setitem(sys.modules, "brings", brings)
  monkeypatch.setitem(sys.modules, "package", types.ModuleType("package"))
  require_declared(configs.base())
  for added in (lambda entry: entry, functools.partial, lambda entry: checked({"": entry})[""]):
    for module, named in (("brings", "brings"), ("package.curve", "package"), ("package.curve", "brings")):
      require_declared(entry_of(module, added, "json", named))
    with pytest.raises(
      ConfigError, match=r"'bent', which the module 'json.tool' has added, .* is \('os',\)"
    ) as error:
      require_declared(entry_of("json.tool", added, "os"))
    assert "write c.extensions = ('os', 'json.tool') there" in str(error.value)
    with pytest.raises(
      ConfigError, match="Put it into a module NAME of its own"
    ):  # a notebook's, or a config file's
      require_declared(entry_of("__main__", added))
    require_declared(entry_of("__main__", added, "__main__"))
  with pytest.raises(
    ConfigError, match="'bent', which something has added"
  ):  # one of the package's by another name
    require_declared(entry_of("diffjax.schedules", functools.partial))
