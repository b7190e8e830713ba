"""Evaluations that are interrupted, several checkpoints, and folders of images."""

import json
import shutil
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.sharding import Mesh
from PIL import Image

from diffjax import config as configs
from diffjax.data.source import ArraySource
from diffjax.jobs import evaluation, report, results, sampling, training
from diffjax.jobs.drawing import Sampling
from diffjax.jobs.runs import Run
from diffjax.machine import parallel
from diffjax.machine.parallel import Parallel
from diffjax.metrics import METRICS
from diffjax.metrics.metric import Metric, needs, of_any_size
from diffjax.types import ConfigError


def tiny():
  config = configs.base()
  config.extensions, config.condition.names = (__name__,), ("label",)
  config.model.unet.channels, config.model.unet.multipliers = 8, (1,)
  config.model.unet.attention, config.model.unet.blocks = (), 1
  config.train.steps, config.train.batch_size = 4, 16
  config.log.every, config.log.held_out, config.log.samples = 2, 0, 8
  config.checkpoint.every = 2
  config.sample.sampler, config.sample.steps, config.sample.batch_size = "ddim", 2, 16
  config.eval.count, config.eval.shard, config.eval.seeds = 48, 16, 2
  return config


@pytest.fixture(scope="module", autouse=True)
def cheap():
  """One device, and a metric that needs no network."""

  def brightness(train, test, parallel):
    return Metric(
      fields=("image",),
      features=lambda samples, request: {"levels": samples["image"].mean((1, 2, 3))},
      score=lambda features: {"level": float(features["levels"].mean())},
      floor={"level": 0.0},
      settings={},
    )

  with pytest.MonkeyPatch.context() as patch:
    one = Parallel("jit", Mesh(np.asarray(jax.devices()[:1]), ("data",)))
    patch.setattr(parallel, "create", lambda *_: one)
    patch.setitem(METRICS, "classifier", brightness)
    yield


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, cheap):
  folder = tmp_path_factory.mktemp("run") / "tiny"
  training.train(tiny(), folder)
  return folder


def metrics_of(folder, step):
  return json.loads((folder / "eval" / str(step) / "metrics.json").read_text())["metrics"]


def test_an_interrupted_evaluation_goes_on_to_the_same_numbers(workdir, monkeypatch):
  evaluation.evaluate(tiny(), workdir)
  whole = metrics_of(workdir, 4)
  assert len(whole["classifier"]["values"]["level"]["of_seeds"]) == 2
  report = json.loads((workdir / "eval" / "4" / "metrics.json").read_text())
  assert report["asked"] == "what the condition says" and report["condition"]["label"]["shares"] == "even"
  shutil.rmtree(workdir / "eval")
  drawn, draw = [], Sampling.draw

  def dying(self, params, key, request, *rest):
    if len(drawn) == 4:
      raise KeyboardInterrupt
    drawn.append(request["index"][0])
    return draw(self, params, key, request, *rest)

  monkeypatch.setattr(Sampling, "draw", dying)
  with pytest.raises(KeyboardInterrupt):
    evaluation.evaluate(tiny(), workdir)
  place = workdir / "eval" / "4"
  shards = sorted(path for path in place.glob("samples-*/*.npz") if "." not in path.stem)
  assert len(shards) == 4
  shards[1].write_bytes(shards[1].read_bytes()[:-7])  # torn: it is drawn again
  monkeypatch.setattr(
    Sampling, "draw", lambda self, *rest: drawn.append(rest[2]["index"][0]) or draw(self, *rest)
  )
  evaluation.evaluate(tiny(), workdir)
  assert drawn[4:] == [16, 16, 32]
  assert metrics_of(workdir, 4) == whole


def test_an_evaluation_keeps_the_last_sets_of_samples(workdir, tmp_path, monkeypatch):
  draw = lambda self, params, key, request, *_: {
    "image": np.zeros((len(request["index"]), 8, 8, 1), np.uint8)
  }
  monkeypatch.setattr(Sampling, "draw", draw)
  monkeypatch.setattr(results, "KEPT", 1)
  config, kept = tiny(), []
  config.eval.count, config.eval.seeds = 2, 1
  for config.sample.seed in range(2):
    evaluation.evaluate(config, workdir, tmp_path)
    kept.append([path.name for path in (tmp_path / "4").glob("samples-*")])
  assert [len(names) for names in kept] == [1, 1] and kept[0] != kept[1]


@pytest.mark.parametrize("job", (sampling.sample, evaluation.evaluate))
def test_what_may_not_be_meant_is_said_before_samples_are_drawn(job, workdir, tmp_path, monkeypatch, capsys):
  def draw(*_):
    raise MemoryError

  monkeypatch.setattr(Run, "warnings", lambda _: ["this is odd"])
  monkeypatch.setattr(Sampling, "draw", draw)
  with pytest.raises(MemoryError):
    job(tiny(), workdir, tmp_path)
  assert "warning: this is odd" in capsys.readouterr().err


def test_a_metric_is_named_before_it_is_made(workdir, monkeypatch):
  def make(*_, **__):
    raise ConfigError((workdir / "log.txt").read_text().splitlines()[-1])

  monkeypatch.setitem(METRICS, "classifier", make)
  with pytest.raises(ConfigError, match="preparing classifier: what real data give"):
    evaluation.evaluate(tiny(), workdir)


def test_what_is_there_is_written_before_the_next_is_begun(workdir, tmp_path, monkeypatch):
  def likelihoods(*_):
    yield (
      "one",
      {"bits_per_dim": 3.5, "standard_error": 0.5, "images": 2, "evaluations": 1.0, "clipped": False},
    )
    raise MemoryError

  monkeypatch.setattr(evaluation, "_likelihoods", likelihoods)
  config = tiny()
  config.eval.seeds, config.eval.likelihood = 1, ("discrete_vlb",)
  with pytest.raises(MemoryError):
    evaluation.evaluate(config, workdir, tmp_path)
  report = json.loads((tmp_path / "4" / "metrics.json").read_text())
  assert report["metrics"]["classifier"]["values"]["level"]["value"] > 0
  assert report["likelihood"]["one"]["bits_per_dim"] == 3.5


def test_how_far_a_solver_may_be_off_is_in_a_likelihood_s_error():
  def measure(params, frozen, batch, sample_keys):
    number = batch["index"].astype(float)
    return {"bits": number, "tolerance": 0 * number + 0.5, "nfe": 0 * number + 7}

  config = configs.base()
  config.eval.likelihood_images, config.sample.batch_size = 5, 2
  source = ArraySource({"image": np.zeros((5, 2, 2, 1), np.uint8)}, "0123")
  task = SimpleNamespace(likelihoods={"ode": measure}, fields=("image",))
  parts = SimpleNamespace(task=task, frozen={}, plain={"sample": {}})
  run = SimpleNamespace(config=config, test=source, experiment=parts, parallel=parallel.create())
  ((name, result),) = evaluation._likelihoods(run, {}, lambda *_: None)
  assert (name, result["bits_per_dim"], result["evaluations"], result["images"]) == ("ode", 2, 7, 5)
  np.testing.assert_allclose(
    result["standard_error"], np.hypot(np.std(range(5), ddof=1) / 5**0.5, 0.5), rtol=1e-6
  )


def test_several_checkpoints_make_a_curve(workdir):
  config = tiny()
  config.eval.checkpoints, config.eval.seeds = "all", 1
  evaluation.evaluate(config, workdir)
  header, *rows = (workdir / "eval" / "curve.csv").read_text().splitlines()
  assert header == "step,classifier level"
  assert [row.split(",")[0] for row in rows] == ["2", "4"]
  for row, step in zip(rows, (2, 4), strict=True):
    values = metrics_of(workdir, step)["classifier"]["values"]
    assert float(row.split(",")[1]) == values["level"]["value"]
  assert (workdir / "eval" / "curve_classifier_level.png").is_file()
  config.eval.checkpoints = "2,3"
  with pytest.raises(ConfigError, match="names step 3, of which .* has no checkpoint; there are 2, 4"):
    evaluation.evaluate(config, workdir)


def test_a_folder_of_images_is_judged(tmp_path):
  images = np.random.default_rng(0).integers(0, 255, (4, 8, 8), np.uint8)
  (tmp_path / "made").mkdir()
  for i, image in enumerate(images):
    Image.fromarray(image).save(tmp_path / "made" / f"{i}.png")
  evaluation.score(tiny(), tmp_path / "out", tmp_path / "made")
  report = json.loads((tmp_path / "out" / "eval" / "images-made" / "metrics.json").read_text())
  assert report["samples"] == 4
  values = report["metrics"]["classifier"]["values"]
  assert values["level"]["value"] == images.mean()
  assert report["shape"] == report["shape_of_data"] == [8, 8, 1]


def test_what_is_odd_about_a_folder_of_images_is_said(tmp_path, monkeypatch, capsys):
  for name in ("three", "0", "nine"):
    (tmp_path / "made" / name).mkdir(parents=True)
    Image.new("RGB", (8, 8), "white").save(tmp_path / "made" / name / "1.png")
  (tmp_path / "made" / ".DS_Store").write_text("")
  heard = []

  def hears(train, test, parallel):
    def features(samples, request):
      assert (samples["image"].shape[3], samples["image"].dtype) == (1, np.uint8)  # grey, as the digits are
      heard.append(request)
      return {"n": np.zeros(len(samples["image"]))}

    return Metric(("image",), features, lambda features: {"n": float(len(features["n"]))}, {}, {})

  monkeypatch.setitem(METRICS, "classifier", hears)
  evaluation.score(tiny(), tmp_path / "out", tmp_path / "made")
  np.testing.assert_array_equal(heard[0]["label"], [0, 9, 3])  # in the order 0, nine, three
  output = capsys.readouterr()
  assert "passed over 1 hidden; 3 pictures" in output.err
  (tmp_path / "made" / "three").rename(tmp_path / "made" / "thirty")
  evaluation.score(tiny(), tmp_path / "other", tmp_path / "made")
  assert heard[1] == {} and "is thirty; the data's classes are 0 to 9 (zero," in capsys.readouterr().err
  monkeypatch.setitem(METRICS, "classifier", lambda *_: pytest.fail("it was made"))
  for name in ("0", "nine", "thirty"):
    Image.new("RGB", (5, 6)).save(tmp_path / "made" / name / "1.png")
  with pytest.raises(
    ConfigError, match=r"--images=.*made holds .* \[6, 5, 1\], .* \[8, 8, 1\], .* resize them"
  ):
    evaluation.score(tiny(), tmp_path / "third", tmp_path / "made")
  monkeypatch.setitem(METRICS, "classifier", of_any_size(hears))
  evaluation.score(tiny(), tmp_path / "third", tmp_path / "made")
  assert "are [6, 5, 1] and the data's [8, 8, 1]: a distance between them" in capsys.readouterr().err


def test_a_score_is_called_as_people_write_it():
  assert report.title("classifier frechet_40 rank_deficient") == "classifier Fréchet_40 rank_deficient"


def test_too_few_samples_are_refused_before_a_metric_is_made(tmp_path, monkeypatch):
  monkeypatch.setitem(METRICS, "classifier", needs(2)(lambda *data: pytest.fail("it was made")))
  (tmp_path / "one").mkdir()
  Image.new("L", (8, 8)).save(tmp_path / "one" / "1.png")
  config = tiny()
  config.eval.count = 1
  rest = ", but config.eval.metrics names 'classifier', which needs at least 2 samples."
  with pytest.raises(ConfigError, match=f"config.eval.count is 1{rest}"):
    evaluation.evaluate(config, tmp_path / "run")
  with pytest.raises(ConfigError, match=f"--images={tmp_path / 'one'} holds 1{rest}"):
    evaluation.score(config, tmp_path / "run", tmp_path / "one")
