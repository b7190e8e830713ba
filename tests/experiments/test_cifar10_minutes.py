"""Ten minutes of CIFAR-10: the clock's learning rate, guidance as an argument, and the command at a tiny size."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffjax import experiment, guidance, keys
from diffjax.data.source import Field
from diffjax.guidance import Scene
from diffjax.machine import optimization, parallel
from diffjax.metrics.frechet import distance_to
from diffjax.metrics.kid import kid
from diffjax.metrics.moments import Moments
from experiments.cifar10_minutes import __main__ as command
from experiments.cifar10_minutes import clock, drawing, judge

SMALL = {
  "model.unet.channels": "4",
  "model.unet.multipliers": "(1,)",
  "model.unet.blocks": "1",
  "model.unet.attention": "()",
  "model.unet.heads": "1",
  "model.dtype": "float32",
  "compile_cache": "False",
  "train.batch_size": "8",
  "train.steps_per_call": "2",
  "sample.steps": "3",
  "sample.batch_size": "3",
}


FIELDS = {"image": Field((8, 8, 3), "uint8"), "label": Field((), "int32", 10)}


def test_the_rate_rises_stays_and_falls_with_the_time():
  rates = [
    clock.rate(share, 8.0, warmup=0.25, decay=0.5) for share in (-0.1, 0, 0.125, 0.25, 0.5, 0.75, 1, 1.1)
  ]
  assert rates == [0, 0, 4, 8, 8, 4, 0, 0]


def test_the_clocks_optimizer_is_the_librarys_at_the_same_rate():
  parts = experiment.create(command.configured(SMALL), FIELDS)
  assert parts.config.train.clip == 1.0
  timed = clock.by_the_clock(parts, optimization.adam()).optimizer
  plain = optimization.optimizer(optimization.adam(), lambda step: 0.25, 1.0)
  rng = np.random.default_rng(0)
  params = {"a": rng.normal(size=(3, 2)).astype(np.float32), "b": rng.normal(size=4).astype(np.float32)}
  state, other = timed.init(params)._replace(rate=jnp.float32(0.25)), plain.init(params)
  for _ in range(3):
    gradient = jax.tree.map(lambda x: 2 * rng.normal(size=x.shape).astype(np.float32), params)
    updates, state = timed.update(gradient, state, params)
    expected, other = plain.update(gradient, other, params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), updates, expected)
  stopped, _ = timed.update(gradient, state._replace(rate=jnp.float32(0.0)), params)
  assert optax.tree.norm(stopped) == 0


@pytest.fixture(scope="module")
def network():
  """A tiny experiment and parameters that are not the first ones."""
  parts = experiment.create(command.configured(SMALL), FIELDS)
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(parts.task.init, jax.random.key(0))
  return parts, jax.tree.map(lambda x: 0.3 * rng.normal(size=x.shape).astype(np.float32), shapes)


def test_guidance_that_is_asked_for_is_the_library_s(network):
  parts, params = network
  (schedule,) = (make() for make in experiment.makers(parts.config, "schedule", "name").values())
  denoise = lambda cond: lambda x, t: parts.task.can["denoise"](params, cond)(x, t, schedule)
  cond, null = {"label": jnp.arange(3)}, {"label": jnp.full(3, 10)}
  weights = jnp.asarray([0.5, 0.5, 2.0])
  scene = Scene(schedule, denoise, cond, null, {}, {drawing.FIELD: weights}, None)
  ours = drawing.request_guide(0.2, 3.0).apply(denoise(cond), scene)
  theirs = [guidance.GUIDES["classifier_free"](w, 0.2, 3.0).apply(denoise(cond), scene) for w in (0.5, 2.0)]
  x = jax.random.normal(jax.random.key(1), (3, 8, 8, 3))
  for sigma, inside in ((0.1, False), (1.0, True), (10.0, False)):
    t = jnp.float32(schedule.t_of(-2 * np.log(sigma)))
    half, two, unguided = (jax.jit(f)(sigma * x, t).x0 for f in (*theirs, denoise(cond)))
    result = jax.jit(ours)(sigma * x, t).x0
    np.testing.assert_allclose(result, jnp.concatenate([half[:2], two[2:]]), atol=1e-5)
    assert (np.abs(result - unguided).max() > 1e-3) == inside


def test_samples_do_not_hang_on_their_batch(network):
  parts, params = network
  draw, key = drawing.drawing(drawing.asking(parts, FIELDS), parallel.create()), keys.seed(0)
  whole = draw(params, key, 0.5, np.arange(5))
  assert whole.shape == (5, 8, 8, 3) and whole.dtype == np.uint8
  part = draw(params, key, 0.5, np.arange(3, 5))
  assert np.abs(whole[3:].astype(int) - part).max() <= 1
  assert np.abs(whole.astype(int) - draw(params, key, 3.0, np.arange(5))).max() > 1


def test_the_command_trains_until_its_time_is_up_and_keeps_samples(tmp_path, capsys):
  rng = np.random.default_rng(0)
  np.savez(
    tmp_path / "data.npz", images=rng.integers(0, 256, (20, 8, 8, 3), np.uint8), labels=np.arange(20) % 10
  )
  flags = [f"--config.{path}={value}" for path, value in SMALL.items()]
  flags += [f"--data={tmp_path / 'data.npz'}", f"--workdir={tmp_path / 'run'}", "--count=7", "--calls=3"]
  assert command.main([*flags, "--minutes=60", f"--inception={tmp_path / 'none.npz'}", "--wait=-3600"]) == 0
  results = json.loads((tmp_path / "run" / "results.json").read_text())
  assert results["steps"] == 8 and results["images_seen"] == 64 and len(results["losses"]) == 3
  assert all(np.isfinite(row).all() for row in np.array(results["losses"]))
  with np.load(tmp_path / "run" / "samples_0.npz") as file:
    assert file["images"].shape == (7, 8, 8, 3)
  with np.load(tmp_path / "run" / "ema.npz") as file:
    assert len(file.files) > 10
  assert "is not there: no FID" in capsys.readouterr().out


def test_a_rehearsal_of_one_stage_does_no_other(tmp_path, capsys):
  flags = [f"--config.{path}={value}" for path, value in SMALL.items()]
  assert command.main([*flags, "--rehearse=train", f"--workdir={tmp_path}", "--minutes=60", "--calls=1"]) == 0
  results = json.loads((tmp_path / "results.json").read_text())
  assert results["steps"] == 4 and "samples" not in results and not list(tmp_path.glob("*.npz"))
  with pytest.raises(SystemExit):
    command.main([*flags, "--rehearse=sampling", f"--workdir={tmp_path}"])
  assert "there is no stage sampling" in capsys.readouterr().err


def test_kept_samples_are_judged_against_all_images(tmp_path, monkeypatch, capsys):
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (3, 40, 8, 8, 3), np.uint8)
  directions = rng.normal(size=(16, 192)) / 100
  features = lambda x: x.reshape(len(x), -1) @ directions.T
  monkeypatch.setattr(judge, "POOL3", 16)
  monkeypatch.setattr(
    judge, "extractor", lambda *args, **settings: lambda x: SimpleNamespace(pool3=features(x))
  )
  monkeypatch.setattr(
    judge.inception_weights, "load", lambda path: SimpleNamespace(variables={}, digest="d", published=False)
  )
  np.savez(tmp_path / "data.npz", images=images[2])
  (tmp_path / "weights.npz").touch()
  places = [str(tmp_path), f"--data={tmp_path / 'data.npz'}", f"--inception={tmp_path / 'weights.npz'}"]
  with pytest.raises(SystemExit, match="samples_0"):
    judge.main(places)
  for number in range(2):
    np.savez(tmp_path / f"samples_{number}.npz", images=images[number])
  judge.main([*places, "--kid=60"])
  record = json.loads((tmp_path / "fid.json").read_text())
  moments = [Moments.empty(16).add(features(x)) for x in (images[:2].reshape(80, 8, 8, 3), images[2])]
  np.testing.assert_allclose(record["fid_80"], distance_to(moments[1])(moments[0]), rtol=1e-6)
  assert record["reference_images"] == 40 and not record["published"]
  expected = kid(features(images[:2].reshape(80, 8, 8, 3)[:60]), features(images[2]), subset_size=20)
  assert record["kid"] == expected._asdict() and expected.subsets == 2
