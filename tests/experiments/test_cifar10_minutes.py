"""Ten minutes of CIFAR-10: the clock's learning rate, guidance as an argument, and the command at a tiny size."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffjax import experiment, keys, optimization, parallel
from experiments.cifar10_minutes import __main__ as command
from experiments.cifar10_minutes import clock, drawing

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


def test_the_rate_rises_stays_and_falls_with_the_time():
  rates = [
    clock.rate(share, 8.0, warmup=0.25, decay=0.5) for share in (-0.1, 0, 0.125, 0.25, 0.5, 0.75, 1, 1.1)
  ]
  assert rates == [0, 0, 4, 8, 8, 4, 0, 0]


def test_the_clocks_optimizer_is_the_librarys_at_the_same_rate():
  made = experiment.create(command.configured(SMALL), (8, 8, 3), 10)
  assert made.config.train.clip == 1.0
  timed = clock.by_the_clock(made, optimization.adam()).optimizer
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
  config = command.configured(SMALL)
  config.sample.guidance, config.sample.guidance_interval = 0.5, (0.2, 3.0)
  made = experiment.create(config, (8, 8, 3), 10)
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(made.init, jax.random.key(0))
  return made, jax.tree.map(lambda x: 0.3 * rng.normal(size=x.shape).astype(np.float32), shapes)


def test_guidance_as_an_argument_is_the_configs(network):
  made, params = network
  cond, x = jnp.arange(3), jax.random.normal(jax.random.key(1), (3, 8, 8, 3))
  theirs = jax.jit(lambda x, t: made.sampling_denoiser(params, cond)(x, t).x0)
  ours = jax.jit(lambda x, t: drawing.guided_within(made, params, cond, jnp.float32(0.5))(x, t).x0)
  unguided = jax.jit(lambda x, t: made.denoiser(params, cond)(x, t).x0)
  for sigma, inside in ((0.1, False), (1.0, True), (10.0, False)):
    t = jnp.float32(made.schedule.t_of(-2 * np.log(sigma)))
    found, expected = ours(sigma * x, t), theirs(sigma * x, t)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (np.abs(found - unguided(sigma * x, t)).max() > 1e-3) == inside


def test_samples_do_not_hang_on_their_batch(network):
  made, params = network
  draw, key = drawing.drawing(made, parallel.create()), keys.seed(0)
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
