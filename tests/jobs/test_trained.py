"""Runs that use runs: places, weights alone, what a run is remembered by, fine-tuning, and a run in Python."""

import json
import re
import shutil
import textwrap
from pathlib import Path
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.sharding import Mesh
from PIL import Image

import diffjax
from diffjax import conditions, experiment, keys
from diffjax import config as configs
from diffjax.data.source import Field
from diffjax.jobs import drawing, results, runs, sampling, trained, training, workdir
from diffjax.machine import parallel
from diffjax.machine.checkpoint import Checkpoints
from diffjax.machine.parallel import Parallel
from diffjax.models import AUTOENCODERS, ENCODERS, MODELS, layers
from diffjax.models.autoencoder import Moments
from diffjax.models.conditioning import Conditioning, Widths
from diffjax.types import ConfigError

README = Path(__file__).parents[2] / "README.md"
STEPS = 2


class Small(nn.Module):
  """A network, or encoder, of a few numbers."""

  out_channels: int = 1
  outputs: int = 0
  conditions: tuple = ()
  dtype: str = "float32"
  width: int = 8

  @nn.compact
  def __call__(self, x, time, cond=None, keys=None):
    widths = Widths(self.width, self.width, self.width, rows=1.0)
    embedding = Conditioning(widths, 1.0, self.conditions, name="embedding")(time, cond or {}).vector
    h = jnp.tanh(nn.Dense(self.width)(x.reshape(len(x), -1)) + embedding)
    if self.outputs:
      return nn.Dense(self.outputs)(h)
    return nn.Dense(x[0, ..., 0].size * self.out_channels)(h).reshape(*x.shape[:-1], -1)


@pytest.fixture(scope="module", autouse=True)
def small():
  """One device and a small network."""
  with pytest.MonkeyPatch.context() as patch:
    one = Parallel("jit", Mesh(np.asarray(jax.devices()[:1]), ("data",)))
    patch.setattr(parallel, "create", lambda *_: one)
    patch.setitem(MODELS, "small", Small)
    patch.setitem(ENCODERS, "small", Small)
    yield


def devices():
  return parallel.create()


def tiny(**changes):
  config = configs.base()
  config.extensions = (__name__,)
  config.model.name = config.model.encoder = "small"
  config.condition.names = ("label",)
  config.train.steps, config.train.batch_size, config.train.learning_rate = STEPS, 8, 0.01
  config.train.averages = ("constant",)
  config.train.constant.rates = (0.5, 0.9)
  config.log.every, config.log.held_out, config.log.samples = 1, 0, 2
  config.checkpoint.every, config.checkpoint.keep = 1, 9
  config.sample.sampler, config.sample.steps, config.sample.count, config.sample.batch_size = "ddim", 3, 5, 8
  config.compile_cache = False
  for path, value in changes.items():
    *sections, field = path.split("__")
    section = config
    for name in sections:
      section = section[name]
    section[field] = value
  return config


@pytest.fixture(scope="module")
def done(tmp_path_factory, small):
  folder = tmp_path_factory.mktemp("trained") / "tiny"
  training.train(tiny(), folder)
  return folder


@pytest.fixture
def copy(done, tmp_path):
  """The same run, to be changed."""
  shutil.copytree(done, tmp_path / "copy")
  return tmp_path / "copy"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory, small):
  folder = tmp_path_factory.mktemp("trained") / "classifier"
  training.train(tiny(task__name="classifier"), folder)
  return folder


def leaves(tree):
  return {
    jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def assert_same(one, other):
  one, other = leaves(one), leaves(other)
  assert one.keys() == other.keys()
  for name, value in one.items():
    assert value.tobytes() == other[name].tobytes(), name


def state_of(folder, step=STEPS):
  run = runs.start(workdir.load(folder), folder)
  with run.checkpoints() as checkpoints:
    return run.restore(checkpoints, step)


@pytest.mark.parametrize(
  "place, folder, step, weights",
  [
    ("runs/vae", "runs/vae", None, ""),
    ("runs/vae@40000", "runs/vae", 40000, ""),
    ("runs/vae@40000:ema_0.999", "runs/vae", 40000, "ema_0.999"),
    ("runs/vae:raw", "runs/vae", None, "raw"),
    ("/a b/x@y/vae@7:power_0.05", "/a b/x@y/vae", 7, "power_0.05"),
    ("runs/vae@latest", "runs/vae@latest", None, ""),
  ],
)
def test_a_place_is_a_workdir_a_step_and_weights(place, folder, step, weights):
  result = trained.parse(place)
  assert (str(result.folder), result.step, result.weights) == (folder, step, weights)


@pytest.mark.parametrize("weights", ["raw", "ema_0.5", "ema_0.9"])
@pytest.mark.parametrize("step", [1, STEPS])
def test_weights_alone_are_those_of_the_state_and_nothing_else_is_read(done, weights, step, monkeypatch):
  state, read = state_of(done, step), []
  handler = ocp.PyTreeCheckpointHandler.restore
  monkeypatch.setattr(
    ocp.PyTreeCheckpointHandler,
    "restore",
    lambda self, directory, args: read.append(args.item) or handler(self, directory, args=args),
  )
  monkeypatch.setattr(Checkpoints, "restore", lambda *_: pytest.fail("the whole state was read"))
  result = trained.restored(f"{done}@{step}:{weights}", devices())
  assert result[2:] == (step, weights)
  expected = state.params if weights == "raw" else state.ema[weights]
  assert_same(result[1], expected)
  (request,) = read
  assert list(request) == (["params"] if weights == "raw" else ["ema"])
  assert len(jax.tree.leaves(request)) == len(jax.tree.leaves(expected))


def test_by_default_they_are_the_newest_and_those_that_the_run_samples_with(done):
  _, params, step, weights = trained.restored(str(done), devices())
  assert (step, weights) == (STEPS, "ema_0.5")
  assert_same(params, state_of(done).ema["ema_0.5"])


@pytest.mark.parametrize(
  "end, message",
  [
    (":ema_0.7", "names the weights 'ema_0.7', and there are raw, ema_0.5, ema_0.9"),
    ("@7", "names step 7, and the checkpoints there are 1, 2"),
    ("-gone", "names no run: .*-gone holds no config.json"),
  ],
)
def test_places_where_nothing_is_are_told(done, end, message):
  with pytest.raises(ConfigError, match=message):
    trained.restored(f"{done}{end}", devices())
  with pytest.raises(ConfigError, match="''.* names no run"):
    trained.restored("", devices())


def test_a_run_that_cannot_do_what_is_wanted_is_told(done, classifier):
  result = trained.trained(str(classifier), "log_prob", devices())
  assert set(result.can) == {"log_prob", "request"} and result.place == str(classifier)
  with pytest.raises(ConfigError, match=f"the run '{done}' cannot log_prob; it can denoise"):
    trained.trained(str(done), "log_prob", devices())
  with pytest.raises(ConfigError, match="cannot denoise; it can log_prob"):
    trained.trained(str(classifier), "denoise", devices())


def guided(place, **changes):
  """A run whose guide uses another."""
  config = tiny(**changes)
  config.sample.guides = ("classifier", "clip")
  config.sample.classifier.run = str(place)
  return config


class Halves(nn.Module):
  """An autoencoder of a few numbers: the mean of 2x2 pixels, and these again."""

  out_channels: int = 1
  dtype: str = "float32"

  def setup(self):
    self.gain = self.param("gain", nn.initializers.ones, ())

  def encode(self, x):
    mean = self.gain * nn.avg_pool(x, (2, 2), (2, 2))
    return Moments(mean, jnp.full_like(mean, -5.0))

  def decode(self, z):
    return self.gain * z.repeat(2, axis=1).repeat(2, axis=2)

  def __call__(self, x):
    return self.decode(self.encode(x).mean)


@pytest.fixture
def latent(tmp_path, monkeypatch):
  """The workdir of an autoencoder, and one of diffusion on its latents."""
  monkeypatch.setitem(AUTOENCODERS, "halves", Halves)
  used, folder = tmp_path / "used", tmp_path / "user"
  first = tiny(task__name="autoencoder", model__autoencoder="halves", condition__names=(), sample__guides=())
  training.train(first, used)
  user = tiny(space__name="latent", space__latent__run=str(used), sample__guides=(), condition__names=())
  training.train(user, folder)
  return used, folder, first


def test_a_run_remembers_what_it_uses_and_refuses_others(latent):
  used, folder, config = latent
  uses = json.loads((folder / "config.json").read_text())["uses"]
  assert uses == {str(used): trained.trained(str(used), "decode", devices()).fingerprint}
  assert runs.start(workdir.load(folder), folder, "sample").experiment.needs == uses
  config.train.steps = STEPS + 1
  training.train(config, used)  # further
  for start in (lambda: runs.start(workdir.load(folder), folder, "sample"), lambda: diffjax.load(folder)):
    with pytest.raises(ConfigError, match=f"was trained with the weights .* of '{used}', and here are .* of"):
      start()
  named = workdir.load(folder)
  named.space.latent.run = f"{used}@{STEPS}"
  runs.start(named, folder, "sample")


def test_where_latents_lie_is_kept_with_the_run_that_was_trained_on_them(latent, monkeypatch):
  """By NumPy, of the training set; sampling reads it from the workdir, and refuses to guess it."""
  used, folder, _ = latent
  gain = np.asarray(trained.trained(str(used), "decode", devices()).params["model"]["gain"], np.float64)
  pixels = experiment.source(workdir.load(folder), "train").read(np.arange(1442), ("image",))["image"]
  means = gain * (pixels / 127.5 - 1).reshape(-1, 4, 2, 4, 2, 1).mean((2, 4))
  path = folder / "config.json"
  saved = json.loads(path.read_text())
  (mean,), (deviation,) = (saved["moments"]["latent"][part] for part in ("mean", "deviation"))
  np.testing.assert_allclose([mean, deviation], [means.mean(), np.sqrt(means.var() + np.exp(-5))], rtol=1e-5)
  monkeypatch.setattr(experiment, "source", None)  # no data
  run = diffjax.load(folder)
  np.testing.assert_array_equal(run.experiment.frozen["moments of latent"], np.float32([[mean], [deviation]]))
  path.write_text(json.dumps({name: part for name, part in saved.items() if name != "moments"}))
  for start in (lambda: diffjax.load(folder), lambda: trained.restored(str(folder), devices())):
    with pytest.raises(ConfigError, match=f"{folder} holds a run of an earlier version, .* train it anew"):
      start()


def test_a_used_run_may_lie_elsewhere(latent, tmp_path):
  used, folder, _ = latent
  before = diffjax.load(folder).sample(3)["image"]
  config = workdir.load(folder)
  config.space.latent.run = str(used.rename(tmp_path / "moved"))
  run = runs.start(config, folder, "sample")
  ((_, _, params),) = run.trained("latest", "config.sample.checkpoint")
  draws = drawing.Sampling(run.experiment, run.parallel, 3)
  request = sampling.requests(run, np.arange(3))
  np.testing.assert_array_equal(draws.draw(params, keys.seed(0), request)["image"], before)


def test_results_are_named_by_the_weights_that_guides_used(classifier, done, tmp_path):
  """And a run goes on with other guides than it was begun with."""
  used, names = tmp_path / "used", []
  shutil.copytree(classifier, used)
  for step in (STEPS, STEPS - 1):
    config = workdir.load(done)
    config.sample.guides, config.sample.classifier.run = ("classifier", "clip"), str(used)
    run = runs.start(config, done, "sample")
    assert run.experiment.needs == {} and list(run.experiment.uses) == [str(used)]
    ((_, _, params),) = run.trained("latest", "config.sample.checkpoint")
    names.append(results.name_of_samples(run.experiment, STEPS, "raw", params, {"index": np.arange(2)}))
    shutil.rmtree(used / "checkpoints" / str(step))
  assert names[0] != names[1]


@pytest.mark.parametrize(
  "request_, message",
  [
    ({"label": 10}, "label is 10; the classes are 0 to 9"),
    ({"label": -1}, "the classes are 0 to 9"),
    ({"label": 3.7}, "whole numbers"),
    ({"label": [1, 2]}, r"of shape \(2,\); it must be \(3,\)"),
    ({"index": 5}, "cannot ask for 'index'"),
    ({"lable": 5}, "cannot ask for 'lable'; they ask for label"),
  ],
)
def test_a_loaded_run_refuses_what_samples_cannot_ask_for(done, request_, message):
  loaded = diffjax.load(done)
  with pytest.raises(ConfigError, match=message):
    loaded.sample(3, **request_)
  for wrong, message in (
    ({"count": 0}, "count is 0; it must be at least 1"),
    ({"count": 2.0}, "count is 2.0; it must be a whole number"),
    ({"count": 1, "seed": 2**32}, "seed is 4294967296; it must be between 0 and 4294967295"),
    ({"count": 1, "seed": -1}, "seed is -1; it must be between"),
  ):
    with pytest.raises(ConfigError, match=message):
      loaded.sample(**wrong)


@pytest.mark.parametrize(
  "value, dtype, message",
  [
    ("x", "float32", r"light is 'x'; it must be of numbers, of shape \(3, 2\), or one for all"),
    (None, "float32", "light is None; it must be of numbers"),
    ([0.5, np.nan], "float32", "light is .*nan.*; it must be finite"),
    (256, "uint8", "light is 256; it must be from 0 to 255"),
    (-1, "uint8", "light is -1; it must be from 0 to 255"),
  ],
)
def test_a_request_that_is_no_such_number_is_refused(done, monkeypatch, value, dtype, message):
  monkeypatch.setattr(sampling, "requests", lambda *_: {"light": np.zeros((3, 2), dtype)})
  with pytest.raises(ConfigError, match=message):
    diffjax.load(done).sample(3, light=value)


def test_step_0_is_not_the_newest(done):
  with pytest.raises(ConfigError, match="names step 0, of which"):
    diffjax.load(f"{done}@0")
  with pytest.raises(ConfigError, match="names step 0, and the checkpoints there are 1, 2"):
    trained.restored(f"{done}@0", devices())


def test_a_checkpoint_that_is_named_stays_what_it_was_when_the_run_goes_on(classifier, tmp_path):
  used = tmp_path / "used"
  shutil.copytree(classifier, used)
  of = lambda place: trained.trained(place, "log_prob", devices()).fingerprint
  before = of(f"{used}@{STEPS}")
  assert before == of(str(used)) == of(str(classifier))  # nor does it hang on the folder
  training.train(tiny(task__name="classifier", train__steps=STEPS + 1, log__every=3), used)
  assert of(f"{used}@{STEPS}") == before != of(str(used))
  assert of(f"{used}@{STEPS}:raw") != before


def test_a_run_stays_what_it_was_for_a_version_with_more_options(classifier):
  parts, params, *_ = trained.restored(str(classifier), devices())
  of = lambda plain: trained.fingerprint(SimpleNamespace(config=parts.config, plain=plain), params)
  before, older = of(parts.plain), parts.plain
  assert older["schedule"].pop("linear") == configs.base().schedule.linear.to_dict()  # not known yet
  assert of(older) == before == trained.trained(str(classifier), "log_prob", devices()).fingerprint
  older["schedule"]["linear"] = {"steps": 7}
  assert of(older) != before


def test_a_used_run_that_is_missing_or_another_is_told_with_its_field(done, tmp_path):
  config = guided(tmp_path / "gone")
  with pytest.raises(ConfigError, match="config.sample.classifier.run is '.*gone': '.*gone' names no run"):
    runs.start(config, tmp_path / "new")
  config.sample.classifier.run = str(done)
  message = f"config.sample.classifier.run is '{done}': .* cannot log_prob; .*config.task.name=classifier can"
  with pytest.raises(ConfigError, match=message):
    runs.start(config, tmp_path / "new")
  config.sample.classifier.run = ""
  with pytest.raises(
    ConfigError, match="config.sample.classifier.run is empty; name the workdir of a run that can"
  ):
    runs.start(config, tmp_path / "new")


def test_fine_tuning_starts_at_the_weights_with_a_new_optimizer(done, tmp_path):
  config = tiny(train__start=f"{done}@1:ema_0.9", train__optimizer="adamw", train__learning_rate=0.5)
  run = runs.start(config, tmp_path / "new", "train")
  state, start = run.new_state(), state_of(done, 1).ema["ema_0.9"]
  assert state.step == 0
  assert_same(state.params, start)
  for average in run.experiment.averages:
    assert_same(state.ema[average], start)
  assert_same(state.opt_state, run.experiment.optimizer.init(state.params))
  training.train(config, tmp_path / "new")
  assert workdir.load(tmp_path / "new").train.start == f"{done}@1:ema_0.9"
  moved = leaves(state_of(tmp_path / "new", 1).params)
  assert any(np.any(value != leaves(start)[name]) for name, value in moved.items())


def test_weights_of_another_model_are_refused_with_names_and_shapes(done, tmp_path):
  run = runs.start(tiny(train__start=str(done), model__small__width=16), tmp_path, "train")
  with pytest.raises(
    ConfigError, match="config.train.start is .*, whose parameters are not this model's"
  ) as error:
    run.new_state()
  assert "['model']['Dense_0']['bias'] is (8,) there and (16,) here" in str(error.value)
  assert "; and " in str(error.value)
  run = runs.start(tiny(train__start=str(done), condition__names=()), tmp_path, "train")
  with pytest.raises(ConfigError, match=r"\['embedding'\] is \(11, 8\) there and missing here"):
    run.new_state()
  run = runs.start(tiny(train__start=f"{done}@9"), tmp_path, "train")
  with pytest.raises(ConfigError, match="config.train.start: .* names step 9"):
    run.new_state()


@pytest.mark.parametrize(
  ("name", "there", "here", "sees"),
  [
    ("['conv_in']['kernel']", (3, 3, 1, 8), (3, 3, 4, 8), True),
    ("['conv_in']['kernel']", (3, 3, 4, 8), (3, 3, 1, 8), False),
    ("['conv_in']['kernel']", (3, 3, 1, 8), (3, 3, 4, 9), False),
    ("['conv_in']['kernel']", (3, 3, 1, 8), (), False),
    ("['patches']['kernel']", (4, 8), (8, 8), False),  # whose rows are pixels and channels in one
    ("['label']['embedding']", (11, 8), (21, 8), False),  # where row 10 means another class
  ],
)
def test_a_convolution_alone_may_see_more(name, there, here, sees):
  assert trained._sees_more(name, there, here) == sees


def test_what_a_convolution_sees_more_does_not_change_what_it_was():
  layer, x = layers.Conv(4), jax.random.normal(jax.random.key(0), (1, 5, 5, 3))
  params = layer.init(jax.random.key(1), x[..., :2])
  target = jax.eval_shape(layer.init, jax.random.key(1), x)
  grown = jax.tree.map(trained._padded, params, target)
  np.testing.assert_allclose(layer.apply(grown, x), layer.apply(params, x[..., :2]), rtol=1e-6)


def npz(folder):
  (path,) = folder.glob("*.npz")
  with np.load(path, allow_pickle=False) as file:
    return {name: file[name] for name in file.files}


def test_a_loaded_run_samples_as_the_command_does(done, tmp_path):
  sampling.sample(workdir.load(done), done, tmp_path / "out")
  expected = npz(tmp_path / "out")
  assert len(list((tmp_path / "out").iterdir())) == 3 and set(expected) == {"image", "label"}
  run = diffjax.load(str(done))
  result = run.sample(5)
  assert set(result) == {"image"}
  np.testing.assert_array_equal(result["image"], expected["image"])
  assert (run.step, run.weights, run.config.train.steps) == (STEPS, "ema_0.5", STEPS)
  assert_same(run.params, state_of(done).ema["ema_0.5"])
  np.testing.assert_array_equal(run.sample(2)["image"], expected["image"][:2])
  assert np.any(run.sample(5, seed=1)["image"] != expected["image"])


def test_the_python_of_the_readme_runs(done):
  (code,) = re.findall(r"(?:^    run\b.*\n)+", README.read_text(), flags=re.M)
  first, then = textwrap.dedent(code).replace("runs/digits@500:raw", f"{done}@1:raw").splitlines()
  outputs = {"diffjax": diffjax}
  exec(first, outputs)
  run, images = outputs["run"], eval(then, outputs)
  assert (run.step, run.weights) == (1, "raw")
  assert images.shape == (10, 8, 8, 1) and images.dtype == np.uint8
  assert len({image.tobytes() for image in images}) == 10
  assert callable(run.denoiser) and run.params.keys() == {"model"} and run.config.train.steps == STEPS


def test_a_loaded_run_is_asked_for_fields(done):
  run = diffjax.load(f"{done}:raw")
  three = run.sample(4, label=3)["image"]
  np.testing.assert_array_equal(three[3], run.sample(4)["image"][3])  # sample i asks for class i by default
  np.testing.assert_array_equal(run.sample(4, label=[0, 1, 2, 3])["image"], run.sample(4)["image"])
  with pytest.raises(ConfigError, match="cannot ask for 'caption'; they ask for label"):
    run.sample(4, caption="a digit")


def test_a_loaded_runs_denoiser_is_that_of_its_task(done):
  run = diffjax.load(str(done))
  (schedule,) = (make() for make in experiment.makers(run.config, "schedule", "name").values())
  (other,) = (make() for make in experiment.makers(tiny(schedule__name="edm"), "schedule", "name").values())
  x, label = keys.normal(keys.of_examples(keys.seed(0), jnp.arange(3)), (8, 8, 1)), jnp.arange(3)
  t = jnp.full(3, 0.5)
  result = run.denoiser({"label": label})(x, t, schedule).x0
  conds = {"label": conditions.label({"label": Field((), "int32", 10)})}
  cond = conditions.values(conds, {"label": label})
  np.testing.assert_array_equal(
    result, run.experiment.task.can["denoise"](run.params, cond)(x, t, schedule).x0
  )
  # Of a schedule of another scale: the same data, the same noise, x_t multiplied.
  logsnr = schedule.logsnr(t)
  theirs = other.t_of(logsnr)
  scale = other.alpha_sigma(theirs)[0] / schedule.alpha_sigma(t)[0]
  moved = run.denoiser({"label": label})(x * scale[:, None, None, None], theirs, other).x0
  np.testing.assert_allclose(moved, result, rtol=1e-3, atol=1e-3)


def test_a_classifier_has_no_samples_and_no_denoiser(classifier):
  run = diffjax.load(str(classifier))
  with pytest.raises(ConfigError, match="config.task.name is 'classifier', which makes no samples"):
    run.sample(1)
  with pytest.raises(ConfigError, match="this run cannot denoise; it can log_prob"):
    run.denoiser()


def test_a_checkpoint_is_chosen_for_sampling(done, tmp_path):
  config = workdir.load(done)
  config.sample.checkpoint = 1
  sampling.sample(config, done, tmp_path / "out")
  (path,) = (tmp_path / "out").glob("*.npz")
  assert path.name.startswith("00000001_ema_0.5_seed0_")
  np.testing.assert_array_equal(npz(tmp_path / "out")["image"], diffjax.load(f"{done}@1").sample(5)["image"])
  config.sample.checkpoint = 7
  with pytest.raises(ConfigError, match="config.sample.checkpoint names step 7, of which .* there are 1, 2"):
    sampling.sample(config, done, tmp_path / "out")


def test_samples_need_the_workdir_alone_and_training_the_data(tmp_path):
  images, folder, random = tmp_path / "images", tmp_path / "run", np.random.default_rng(0)
  for name in ("cats", "dogs"):
    (images / name).mkdir(parents=True)
    for i in range(8):
      Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).save(images / name / f"{i}.png")
  config = tiny(data__source="image_folder")
  config.data.image_folder.path, config.data.image_folder.size = str(images), 8
  config.data.image_folder.test_fraction = 0.25
  training.train(config, folder)
  images.rename(tmp_path / "elsewhere")
  sampling.sample(workdir.load(folder), folder, tmp_path / "out")
  result = npz(tmp_path / "out")
  assert result["image"].shape == (5, 8, 8, 3)
  np.testing.assert_array_equal(result["label"], [0, 1, 0, 1, 0])
  np.testing.assert_array_equal(diffjax.load(str(folder)).sample(5)["image"], result["image"])
  with pytest.raises(ConfigError, match="which is not a folder"):
    training.train(workdir.load(folder), folder)


def test_checkpoints_without_a_config_are_refused(copy):
  before = sorted(path for path in copy.rglob("*"))
  (copy / "config.json").rename(copy / "moved.json")
  for call in (lambda: training.train(tiny(), copy), lambda: sampling.sample(tiny(), copy)):
    with pytest.raises(ConfigError, match=f"--workdir={copy} holds checkpoints but no config.json"):
      call()
  (copy / "moved.json").rename(copy / "config.json")
  assert sorted(path for path in copy.rglob("*")) == before
