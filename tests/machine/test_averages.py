"""Averages of the parameters: every entry against its recursion in NumPy, and against what its paper says of it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import config as configs
from diffjax import experiment, keys
from diffjax.data.source import Field
from diffjax.jobs.train_step import make_step
from diffjax.machine import state
from diffjax.machine.averages import AVERAGES, gamma_of, initial_share
from diffjax.models import MODELS

STEPS, B = 6, 4
# Name of an average that a config makes by its defaults -> its rate at a step, in NumPy.
RATES = {
  "ema_0.9999": lambda k: 0.9999,
  "ramp_0.9999": lambda k: min(0.9999, (1 + k) / (10 + k)),
  "half_life_0.9999": lambda k: min(0.9999, 0.5 ** (1 / (0.05 * k))) if k else 0.0,
  # gamma of the widths, Karras et al. 2024b, appendix C.1, in their table's digits
  "power_0.05": lambda k: (k / (k + 1)) ** (16.97 + 1),
  "power_0.1": lambda k: (k / (k + 1)) ** (6.94 + 1),
}


class Gain(nn.Module):
  """out = w x."""

  out_channels: int = 1
  conditions: tuple = ()
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x, time, cond=None, keys=None):
    return self.param("w", nn.initializers.constant(0.5), ()) * x


@pytest.fixture(scope="module")
def run():
  """The parameter before and after each step, and every average after each."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(MODELS, "gain", Gain)
    config = configs.base()
    config.model.name = "gain"
    config.train.batch_size, config.train.learning_rate = B, 0.1
    config.train.averages = tuple(AVERAGES)
    parts = experiment.create(config, {"image": Field((8, 8, 1), "uint8")})
  now = state.create(parts.task.init(keys.seed(0)), parts.optimizer, parts.averages, keys.seed(1))
  images = np.random.default_rng(0).integers(0, 256, (B, 8, 8, 1), np.uint8)
  batch = {"image": images, "index": np.arange(B, dtype=np.int32)}
  step = jax.jit(lambda now, batch: make_step(parts)(now, {}, batch, lambda tree: tree)[0])
  results = [now]
  for _ in range(STEPS):
    results.append(step(results[-1], batch))
  weight = lambda params: float(params["model"]["w"])
  averages = [{name: weight(params) for name, params in each.ema.items()} for each in results]
  return [weight(each.params) for each in results], averages


@pytest.mark.parametrize("entry", AVERAGES)
def test_every_average_follows_its_recursion(run, entry):
  params, averages = run
  assert len({round(w, 4) for w in params}) == STEPS + 1  # it moved
  names = list(AVERAGES[entry]())
  assert names and set(names) <= set(averages[0]) and set(names) <= set(RATES)
  for name in names:
    expected = params[0]
    assert averages[0][name] == expected
    for k in range(STEPS):
      rate = RATES[name](k)
      expected = rate * expected + (1 - rate) * params[k + 1]
      # the table's two decimals of gamma are worth 1e-3 of a rate
      np.testing.assert_allclose(averages[k + 1][name], expected, atol=1e-3 if entry == "power" else 1e-6)


def test_the_weights_of_power_averages_are_its_profile():
  n = 50
  for width in (0.05, 0.1, 0.2):
    (rate,) = AVERAGES["power"](widths=(width,)).values()
    rates = np.asarray([float(rate(k)) for k in range(n)])
    # After n steps step i has the weight (1 - rate_i) * the product of all later rates ...
    later = np.asarray([np.prod(rates[i + 1 :]) for i in range(n)])
    # ... and the profile (t / n)^gamma integrates over step i's share to a difference of powers.
    ends = (np.arange(n + 1) / n) ** (gamma_of(width) + 1)
    np.testing.assert_allclose((1 - rates) * later, np.diff(ends), atol=1e-6)
    assert ends[-1] == 1


@pytest.mark.parametrize("width, gamma", [(0.05, 16.97), (0.10, 6.94)])
def test_the_exponents_are_the_papers(width, gamma):
  assert gamma_of(width) == pytest.approx(gamma, abs=5e-3)


@pytest.mark.parametrize("width", [0.01, 0.05, 0.15, 0.25])
def test_the_width_is_the_profiles_standard_deviation(width):
  gamma, n = gamma_of(width), 400_000
  t = (np.arange(n) + 0.5) / n
  weight = t**gamma / np.sum(t**gamma)
  mean = np.sum(weight * t)
  assert np.sqrt(np.sum(weight * (t - mean) ** 2)) == pytest.approx(width, rel=1e-4)


def test_the_ramp_reaches_the_rate():
  (rate,) = AVERAGES["ramp"](rates=(0.99,)).values()
  np.testing.assert_allclose([rate(s) for s in (0, 8, 10**6)], [0.1, 0.5, 0.99], rtol=1e-6)
  (rate,) = AVERAGES["constant"](rates=(0.99,)).values()
  assert rate(0) == 0.99


def test_the_half_life_grows_with_the_steps():
  longest = 0.5 ** (1 / 1000)  # a half-life of 1000 steps
  rate = lambda step, **options: next(iter(AVERAGES["half_life"](rates=(longest,), **options).values()))(step)
  assert rate(0) == 0  # the first average is the first parameters
  for step, share, want in ((100, 0.05, 5), (20_000, 0.05, 1000), (10**6, 0.05, 1000), (100, 0.2, 20)):
    after = float(rate(step, share=share)) ** want  # what is left of a weight after so many steps
    assert abs(after - 0.5) < 1e-3


def test_what_an_average_still_holds_of_the_beginning_is_the_product_of_its_rates():
  for step in (1, 7, 300):
    assert initial_share(AVERAGES["constant"]((0.99,))["ema_0.99"], step) == pytest.approx(
      0.99**step, rel=1e-5
    )
  # of an average that starts at 1 while all that comes is 0
  for make in (AVERAGES["ramp"], AVERAGES["half_life"], AVERAGES["power"]):
    for rate in make().values():
      average = 1.0
      for step in range(20):
        average *= float(rate(jnp.int32(step)))
      assert initial_share(rate, 20) == pytest.approx(average, rel=1e-4)
  assert initial_share(AVERAGES["constant"]()["ema_0.9999"], 0) == 1.0
