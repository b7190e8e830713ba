"""Objectives on Gaussian data against closed forms; examples do not couple."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from variants import UNSHIFTED, VARIANTS

from diffjax import config as configs
from diffjax import experiment, keys, objectives, predictions
from diffjax.data.source import Field
from diffjax.denoisers import gaussian_denoiser
from diffjax.gaussian import expand
from diffjax.objectives import OBJECTIVES, chain_nll
from diffjax.predictions import INPUT_SCALES, ROWS, TIME_INPUTS, Prediction, target
from diffjax.schedules import SCHEDULES, parameters, rebuilt
from diffjax.times import TIMES, Drawn, at
from diffjax.types import ConfigError, Unsuitable
from diffjax.weights import WEIGHTS

VAR = 0.25


def draws(count, key=0):
  return keys.Draws(keys.seed(key), jnp.arange(count), count)


def perfect(schedule, row):
  """The network that answers as the exact denoiser of N(0, VAR) does; its time input is t."""

  def network(xt, t, dropout_keys):
    x0 = gaussian_denoiser(schedule, 0.0, VAR)(xt, t).x0
    alpha, sigma = (expand(c, xt) for c in schedule.alpha_sigma(t))
    return target(row, schedule, x0, (xt - alpha * x0) / sigma, t)

  return network


def kind(row):
  return Prediction(ROWS[row], INPUT_SCALES["none"], TIME_INPUTS["t"])


def make(times, weight, row, name="regular", **options):
  """(network, schedule, x0, draws) -> loss [B], its times drawn as a step draws them."""
  times, objective, prediction = TIMES[times](), OBJECTIVES[name](WEIGHTS[weight](), **options), kind(row)

  def loss(network, schedule, x0, draws):
    drawn = times.draw(schedule, draws, times.start(schedule))
    return objective.loss(network, schedule, prediction, x0, drawn, draws)

  return loss


@pytest.mark.parametrize("row", ["eps", "x0", "v", "score", "flow", "edm"])
@pytest.mark.parametrize("weight, cap", [("snr", np.inf), ("min_snr", 5.0)])
def test_snr_weights_have_their_closed_form_in_every_kind(row, weight, cap):
  with jax.enable_x64(True):
    schedule = SCHEDULES["continuous_cosine"](-6.0, 6.0)
    x0 = np.sqrt(VAR) * keys.normal(draws(4096).keys("data"), (16,))
    loss = make("stratified", weight, row)(perfect(schedule, ROWS[row]), schedule, x0, draws(4096))
    snr = np.exp(schedule.logsnr(np.linspace(0, 1, 20001)))
  expected = np.mean(np.minimum(snr, cap) * VAR / (1 + snr * VAR))  # posterior variance of x0
  np.testing.assert_allclose(loss.mean(), expected, rtol=0.02)


@pytest.mark.parametrize("row", ["eps", "x0", "v"])
def test_continuous_vlb_is_half_the_log_of_the_two_ends(row):
  with jax.enable_x64(True):
    schedule = SCHEDULES["continuous_cosine"](-6.0, 6.0)
    x0 = np.sqrt(VAR) * keys.normal(draws(4096).keys("data"), (16,))
    loss = make("stratified", "vlb", row)(perfect(schedule, ROWS[row]), schedule, x0, draws(4096))
  expected = 0.5 * np.log((1 + VAR * np.exp(6.0)) / (1 + VAR * np.exp(-6.0)))
  np.testing.assert_allclose(loss.mean(), expected, rtol=0.03)


def test_simple_is_the_squared_error_of_the_kind():
  schedule = SCHEDULES["linear"]()
  x0 = keys.normal(draws(512).keys("data"), (64,))
  network = lambda xt, t, dropout_keys: jnp.zeros_like(xt)
  loss = make("discrete", "simple", "eps")(network, schedule, x0, draws(512))
  eps = keys.normal(draws(512).keys("eps"), (64,))
  np.testing.assert_allclose(loss, np.mean(np.square(eps), axis=1), rtol=1e-5)


CASES = [("regular", weight) for weight in WEIGHTS]
CASES += [("hybrid", "simple"), ("learned_vlb", "vlb"), ("sliced", "snr"), ("vdm", "vlb")]


def test_every_objective_is_among_the_cases():
  assert {name for name, _ in CASES} == set(OBJECTIVES)


@pytest.mark.parametrize("name, weight", CASES)
def test_losses_of_examples_do_not_couple_and_are_finite(name, weight):
  few = SCHEDULES["linear"](
    steps=4, beta_start=0.1, beta_end=0.5
  )  # so that row 0, the decoder's, is drawn too
  schedule = SCHEDULES["learned"]() if name == "vdm" else few
  times = "uniform" if name == "vdm" else "discrete"
  outputs = OBJECTIVES[name](WEIGHTS[weight]()).outputs
  network = lambda xt, t, dropout_keys: jnp.tile(0.9 * xt, outputs)
  objective = make(times, weight, "eps", name)
  run = jax.jit(lambda x0, index: objective(network, schedule, x0, keys.Draws(keys.seed(0), index, 64)))
  levels = jnp.round(keys.uniform(draws(64).keys("data")) * 255)[:, None] * jnp.ones(4)
  x0, index = levels / 127.5 - 1, jnp.arange(64)
  whole = run(x0, index)
  moved = run(jnp.concatenate([x0[5:9], 0 * x0[:60]]), jnp.concatenate([index[5:9], index[:60]]))
  assert whole.shape == (64,) and np.all(np.isfinite(whole))
  np.testing.assert_allclose(whole[5:9], moved[:4], rtol=1e-5)
  alone = run(x0.at[7].set(-x0[7, ::-1] / 2), index)  # one example is another, and no loss but its own
  changed = np.abs(alone - whole) > 1e-5 * np.abs(whole)
  np.testing.assert_array_equal(np.flatnonzero(changed), [7])


@pytest.mark.parametrize("variant", UNSHIFTED)
def test_every_allowed_loss_and_its_gradient_are_finite_up_to_both_ends(variant):
  """With one weight each: what another makes of the error is in test_weights.py (sliced: as the kind `score`)."""
  schedule = VARIANTS[variant]()
  steps, x0 = schedule.steps, jnp.asarray([[-1.0, 0.2, 1.0]] * 4)
  t = np.array([1, 2, steps // 2, steps]) / steps if steps else np.array([schedule.t_min, 0.01, 0.5, 1])
  drawn = Drawn(jnp.asarray(t, jnp.float32), jnp.full(4, 1 / (steps or 1)))
  times = TIMES["discrete" if steps else "uniform"]()
  refused = {"vdm"} if steps else {"hybrid", "learned_vlb"}
  if parameters(schedule) is not None:
    refused = set(OBJECTIVES) - {"vdm"}
  elif schedule.ends_without_signal:
    refused |= {"sliced"}
  for name, weight in [("regular", "vlb"), *CASES[len(WEIGHTS) :]]:
    objective = OBJECTIVES[name](WEIGHTS[weight]())
    if name in refused:
      with pytest.raises(Unsuitable):
        objectives.check(schedule, objective, times, WEIGHTS[weight]())
      continue
    objectives.check(schedule, objective, times, WEIGHTS[weight]())
    answer = jnp.linspace(-0.9, 0.9, 12 * objective.outputs).reshape(4, -1)

    def loss(out, objective=objective):
      network = lambda xt, t, keys: out + 0.1 * jnp.resize(xt, out.shape)
      each = objective.loss(network, schedule, kind("v"), x0, drawn, draws(4))
      return each.sum(), each

    gradient, each = jax.grad(loss, has_aux=True)(answer)
    assert np.all(np.isfinite(each)) and np.all(np.isfinite(gradient)), (name, each, gradient)
    assert np.all(each >= 0) or name in ("sliced", "vdm"), (name, each)


def nll_of_pixels(x0, mean, std):
  """Ho et al. 2020, eq. 13, elementwise."""
  cdf = np.vectorize(lambda x: 0.5 * math.erfc(-x / np.sqrt(2)))
  upper = np.where(x0 > 0.999, 1.0, cdf((x0 + 1 / 255 - mean) / std))
  return -np.log(upper - np.where(x0 < -0.999, 0.0, cdf((x0 - 1 / 255 - mean) / std)))


def chain_bits(schedule, x0, eps, guess, rows):
  """Bits per dimension of each row from the chain's own Gaussians, with beta-tilde (Ho et al. 2020, eq. 5)."""
  (alpha, sigma), count = (
    schedule.alpha_sigma(np.arange(1, schedule.steps + 1) / schedule.steps),
    schedule.steps,
  )
  alpha, sigma = np.asarray(alpha), np.asarray(sigma)
  for row in rows:
    s, t = max(row, 1) - 1, max(row, 1)
    step = alpha[t] / alpha[s]
    noise = sigma[t] ** 2 - step**2 * sigma[s] ** 2  # of x_t given x_s
    var = noise * sigma[s] ** 2 / sigma[t] ** 2
    estimate = guess(alpha[row] * x0 + sigma[row] * eps, (row + 1) / count)
    gap = alpha[s] * noise / sigma[t] ** 2 * (x0 - estimate)
    nats = nll_of_pixels(x0, estimate, np.sqrt(var)) if row == 0 else gap**2 / (2 * var)
    yield nats.mean() / np.log(2)


def rate_bits(schedule, x0, eps, guess, times, h=1e-6):
  """Bits per dimension and unit of time, the SNR's slope by differences (Kingma et al. 2021, eq. 17)."""
  for t in times:
    low, high = (float(np.exp(schedule.logsnr(t + d))) for d in (-h, h))
    alpha, sigma = (float(c) for c in schedule.alpha_sigma(t))
    error = np.mean((x0 - guess(alpha * x0 + sigma * eps, t)) ** 2)
    yield (low - high) / (2 * h) / 2 * error / np.log(2)


@pytest.mark.parametrize("variant", UNSHIFTED)
def test_the_vlb_weight_has_the_same_bits_through_every_prediction_kind(variant):
  """One estimate of x0, said in each kind that the schedule allows, against the bound from its own Gaussians."""
  with jax.enable_x64(True):
    schedule = VARIANTS[variant]()
    rows = np.unique([0, 1, 2, (schedule.steps or 9) // 2, (schedule.steps or 9) - 1])
    t = (rows + 1) / schedule.steps if schedule.steps else np.array([0.05, 0.2, 0.5, 0.8, 0.95])
    x0 = np.array([-1.0, 1.0, 0.2, -0.4]) + np.zeros((len(t), 1))
    eps = np.asarray(keys.normal(draws(len(t)).keys("eps"), (4,), float))
    guess = lambda xt, t: xt - 0.3 * t * np.tanh(xt + t)
    bits = chain_bits if schedule.steps else rate_bits
    places = rows if schedule.steps else t
    expected = [
      next(iter(bits(schedule, *pair, guess, [at]))) for *pair, at in zip(x0, eps, places, strict=True)
    ]
    kinds = [name for name in ROWS if permitted(schedule, name)]
    assert {"x0", "v", "edm"} < set(kinds) and ("posterior" in kinds) == bool(schedule.steps)

    for name in kinds:

      def network(xt, t, dropout_keys, row=ROWS[name]):
        alpha, sigma = (expand(c, xt) for c in schedule.alpha_sigma(t))
        estimate = xt - 0.3 * expand(t, xt) * jnp.tanh(xt + expand(t, xt))
        return target(row, schedule, estimate, (xt - alpha * estimate) / sigma, t)

      objective = OBJECTIVES["regular"](WEIGHTS["vlb"]())
      loss = objective.loss(network, schedule, kind(name), jnp.asarray(x0), at(jnp.asarray(t)), draws(len(t)))
      np.testing.assert_allclose(loss / np.log(2), expected, rtol=1e-6, err_msg=name)


def permitted(schedule, name):
  try:
    predictions.check(schedule, kind(name))
  except Unsuitable:
    return False
  return True


def test_times_are_uniform_and_strata_are_even():
  schedule = SCHEDULES["linear"](steps=10)
  t, density = TIMES["discrete"]().draw(schedule, draws(20000), ())
  counts = np.bincount(np.round(np.asarray(t) * 10).astype(int), minlength=11)[1:]
  np.testing.assert_allclose(counts, 2000, atol=5 * np.sqrt(1800))
  np.testing.assert_allclose(density, 0.1)
  t, _ = TIMES["stratified"]().draw(schedule, draws(40), ())
  np.testing.assert_array_equal(np.bincount(np.round(np.asarray(t) * 10).astype(int))[1:], 4)


def test_ncsn_is_a_triple():
  """Song & Ermon 2019, eq. 5 and 6, with lambda = sigma^2, twice and per dimension."""
  schedule = SCHEDULES["geometric"](sigma_min=0.01, sigma_max=1.0, steps=10)
  levels = np.geomspace(0.01, 1.0, 10)
  x0 = keys.normal(draws(64).keys("data"), (8,))
  network = lambda xt, t, dropout_keys: -xt / (1 + 2 * t[:, None])
  loss = make("discrete", "snr", "score")(network, schedule, x0, draws(64))
  t = np.asarray(TIMES["discrete"]().draw(schedule, draws(64), ()).t, np.float64)[:, None]
  sigma = levels[np.round(t * 10).astype(int) - 1]
  noisy = x0 + sigma * np.asarray(keys.normal(draws(64).keys("eps"), (8,)), np.float64)
  expected = sigma**2 * (-noisy / (1 + 2 * t) + (noisy - x0) / sigma**2) ** 2
  np.testing.assert_allclose(loss, expected.mean(1), rtol=1e-3)


def test_sliced_score_matching_is_half_the_negative_fisher_information():
  """With the exact score of N(0, V): E = l (1 / 2V - 1 / V) per dimension, l = sigma^2."""
  with jax.enable_x64(True):
    schedule = SCHEDULES["continuous_cosine"](-6.0, 6.0)
    x0 = np.sqrt(VAR) * keys.normal(draws(4096).keys("data"), (16,))
    objective = make("stratified", "snr", "score", "sliced")
    run = jax.jit(lambda x0: objective(perfect(schedule, ROWS["score"]), schedule, x0, draws(4096)))
    loss = np.asarray(run(x0))
    alpha, sigma = schedule.alpha_sigma(np.linspace(0, 1, 20001))
    expected = float(np.mean(-(sigma**2) / (2 * (alpha**2 * VAR + sigma**2))))
  np.testing.assert_allclose(loss.mean(), expected, atol=4 * loss.std() / 64)
  assert 4 * loss.std() / 64 < 0.1 * abs(expected)


def iddpm_term(x0, xt, estimate, frac, i):
  """L_i of Nichol & Dhariwal 2021 on DDPM's betas, in nats, elementwise, in float64."""
  beta = np.linspace(1e-4, 0.02, 1000)
  bar = np.cumprod(1 - beta)
  before = np.append(1.0, bar[:-1])
  small = beta * (1 - before) / (1 - bar)
  small[0] = small[1]
  mean = lambda data: (
    np.sqrt(before[i]) * beta[i] / (1 - bar[i]) * data
    + np.sqrt(1 - beta[i]) * (1 - before[i]) / (1 - bar[i]) * xt
  )
  logvar = frac * np.log(beta[i]) + (1 - frac) * np.log(small[i])
  if i == 0:
    cdf = lambda x: 0.5 * (1 + np.vectorize(math.erf)(x / np.sqrt(2)))
    gap, std = x0 - mean(estimate), np.exp(logvar / 2)
    return -np.log(cdf((gap + 1 / 255) / std) - cdf((gap - 1 / 255) / std))
  ratio = small[i] / np.exp(logvar)
  return 0.5 * (logvar - np.log(small[i]) - 1 + ratio + (mean(x0) - mean(estimate)) ** 2 / np.exp(logvar))


X0 = np.array([[0.2], [-0.4]])


@pytest.fixture(scope="module")
def learned_losses():
  """name -> the loss [2] of X0 and its jacobian, functions of (the network's two answers, t), compiled once."""
  schedule, results = SCHEDULES["linear"](), {}
  for name, weight in (("hybrid", "simple"), ("learned_vlb", "vlb")):
    objective = OBJECTIVES[name](WEIGHTS[weight]())

    def loss(out, t, objective=objective):
      network = lambda xt, t, keys: jnp.broadcast_to(out, (2, 2))
      drawn = Drawn(jnp.full(2, t), jnp.full(2, 1e-3))
      return objective.loss(network, schedule, kind("eps"), jnp.asarray(X0), drawn, draws(2))

    results[name] = jax.jit(loss), jax.jit(jax.jacobian(loss))
  return results


@pytest.mark.parametrize("row", [0, 1, 400, 999])
def test_learned_variances_are_iddpms_and_only_the_bound_moves_the_mean(learned_losses, row):
  """L_simple + 0.001 L_vlb with the mean held in L_vlb, and L_vlb alone with all of its gradient."""
  with jax.enable_x64(True):
    eps, t = np.asarray(keys.normal(draws(2).keys("eps"), (1,))), (row + 1) / 1000
    alpha, sigma = (float(c) for c in SCHEDULES["linear"]().alpha_sigma(t))
    xt = alpha * X0 + sigma * eps

    def bound(mean, raw):
      return iddpm_term(X0, xt, (xt - sigma * mean) / alpha, (raw + 1) / 2, row)[:, 0] / 1e-3

    out, h = jnp.asarray([0.1, -0.4]), 1e-4
    slopes = [(bound(0.1 + h, -0.4) - bound(0.1 - h, -0.4)), (bound(0.1, -0.4 + h) - bound(0.1, -0.4 - h))]
    slopes = np.stack(slopes, 1) / (2 * h)
    value, slope = (np.asarray(f(out, t)) for f in learned_losses["hybrid"])
    np.testing.assert_allclose(value, (eps[:, 0] - 0.1) ** 2 + 0.001 * bound(0.1, -0.4), rtol=1e-5)
    np.testing.assert_allclose(slope[:, 0], 2 * (0.1 - eps[:, 0]), rtol=1e-9)  # of L_simple alone
    np.testing.assert_allclose(slope[:, 1], 0.001 * slopes[:, 1], rtol=1e-4)
    value, slope = (np.asarray(f(out, t)) for f in learned_losses["learned_vlb"])
    np.testing.assert_allclose(value, bound(0.1, -0.4), rtol=1e-5)
    np.testing.assert_allclose(slope, slopes, rtol=1e-4)
    assert np.all(np.abs(slope[:, 0]) > 1)


def test_on_gaussian_data_the_bound_is_least_at_the_true_reverse_step():
  """q(x_s | x_t) of x0 ~ N(0, VAR): the mean of the exact estimate, and the conditional variance of x_s."""
  beta = np.linspace(1e-4, 0.02, 1000)
  bar = np.cumprod(1 - beta)
  schedule = SCHEDULES["linear"]()

  @jax.jit
  def value_and_slope(mean_and_frac, x0, exact, xt, t):
    def loss(mean_and_frac):
      estimate, frac = exact + mean_and_frac[0], jnp.full_like(xt, mean_and_frac[1])
      return chain_nll(schedule, x0, xt, estimate, frac, t).mean()

    return jax.value_and_grad(loss)(mean_and_frac)

  with jax.enable_x64(True):
    for row in (1, 30, 400, 999):
      var_s, var_t = (b * VAR + 1 - b for b in (bar[row - 1], bar[row]))
      true = var_s - (1 - beta[row]) * var_s**2 / var_t
      small = beta[row] * (1 - bar[row - 1]) / (1 - bar[row])
      best = np.log(true / small) / np.log(beta[row] / small)
      exact = np.sqrt(bar[row]) * VAR / var_t * np.full((2, 1), 0.3)  # of x_t = 0.3
      spread = np.sqrt(VAR * (1 - bar[row]) / var_t) * np.array(
        [[1.0], [-1.0]]
      )  # both moments of x0 given x_t
      given = exact + spread, exact, np.full((2, 1), 0.3), np.full(2, (row + 1) / 1000)
      at = lambda *mean_and_frac, given=given: value_and_slope(np.array(mean_and_frac), *given)
      least, slope = at(0.0, best)
      np.testing.assert_allclose(slope, 0, atol=1e-9)
      assert 0 < best < 1
      assert all(
        at(*other)[0] > least for other in ((0.0, best + 1), (0.0, best - 1), (0.05, best), (-0.05, best))
      )


def binary_network(schedule):
  """The exact denoiser of a fair sign, as an eps network: E[x0 | x_t] = tanh(alpha x_t / sigma^2)."""

  def network(xt, t, dropout_keys):
    alpha, sigma = (expand(c, xt) for c in schedule.alpha_sigma(t))
    return (xt - alpha * jnp.tanh(alpha * xt / sigma**2)) / sigma

  return network


def test_vdm_with_the_exact_denoiser_is_the_entropy_of_the_data():
  with jax.enable_x64(True):
    schedule = SCHEDULES["learned"](logsnr_min=-8.0, logsnr_max=3.0, width=4)
    x0 = jnp.sign(keys.normal(draws(32768).keys("data"), (16,)))
    objective = make("stratified", "vlb", "eps", "vdm", levels=2)
    run = jax.jit(lambda x0: objective(binary_network(schedule), schedule, x0, draws(32768)))
    loss = np.asarray(run(x0))
  np.testing.assert_allclose(loss.mean(), np.log(2), atol=4 * loss.std() / np.sqrt(32768))
  assert 4 * loss.std() / np.sqrt(32768) < 0.03


def test_vdm_trains_the_ends_by_the_bound_and_the_interior_by_its_variance():
  with jax.enable_x64(True):
    schedule = SCHEDULES["learned"](logsnr_min=-4.0, logsnr_max=5.0, width=3)
    start = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), parameters(schedule))
    x0, seen = jnp.sign(keys.normal(draws(32).keys("data"), (4,))), draws(32)
    network = lambda xt, t, keys: jnp.tanh(xt + t[:, None])
    bound = make("uniform", "vlb", "eps", "vdm", levels=2)
    term = make("uniform", "likelihood", "eps")  # the bound's last term alone

    def loss(params):
      return bound(network, rebuilt(schedule, params), x0, seen).mean()

    @jax.jit
    def values(params):  # the bound, and the square whose gradient trains the interior
      return loss(params), (term(network, rebuilt(schedule, params), x0, seen) ** 2).mean()

    grads = jax.jit(jax.grad(loss))(start)
    value, spread = lambda params: values(params)[0], lambda params: values(params)[1]

    def slope(function, section, leaf, place, h=1e-5):
      def moved(by):
        changed = jax.tree.map(lambda a: a, start)
        inside = changed if section is None else changed[section]
        inside[leaf] = inside[leaf].at[place].add(by)
        return float(function(changed))

      return (moved(h) - moved(-h)) / (2 * h)

    for place in (0, 1):
      np.testing.assert_allclose(grads["ends"][place], slope(value, None, "ends", place), rtol=1e-5)
    for leaf, place in (("slope", ()), ("weight", 0), ("rate", 1), ("centre", 2)):
      expected = slope(spread, "interior", leaf, place)
      np.testing.assert_allclose(grads["interior"][leaf][place], expected, rtol=1e-5, atol=1e-9)


REFUSED = [
  ("continuous_cosine", "regular", "discrete", "simple", "times"),
  ("continuous_cosine", "regular", "importance", "vlb", "times"),
  ("linear", "regular", "importance", "simple", "times"),
  ("continuous_cosine", "hybrid", "uniform", "simple", "objective"),
  ("linear", "hybrid", "uniform", "simple", "objective"),
  ("learned", "regular", "uniform", "simple", "objective"),
  ("learned", "vdm", "log_normal", "vlb", "objective"),
  ("flow", "sliced", "uniform", "snr", "objective"),
  ("linear", "sliced", "discrete", "vlb", "objective"),
  ("continuous_cosine", "learned_vlb", "uniform", "vlb", "objective"),
  ("linear", "learned_vlb", "discrete", "simple", "objective"),
  ("linear", "vdm", "discrete", "vlb", "objective"),
  ("learned", "vdm", "uniform", "simple", "objective"),
  ("linear", "regular", "uniform", "vlb", "weight"),
  ("linear", "regular", "log_normal", "sigmoid", "weight"),
]


def check(schedule, objective, times, weight):
  weight = WEIGHTS[weight]()
  objectives.check(SCHEDULES[schedule](), OBJECTIVES[objective](weight), TIMES[times](), weight)


@pytest.mark.parametrize("schedule, objective, times, weight, field", REFUSED)
def test_refused_combinations(schedule, objective, times, weight, field):
  with pytest.raises(Unsuitable, match=f"^{field} is one which ") as error:
    check(schedule, objective, times, weight)
  assert error.value.field == field


def test_a_refused_objective_is_named_by_its_place_in_the_config():
  config = configs.base()
  config.objective.name = "vdm"
  with pytest.raises(
    ConfigError, match="^config.objective.name is 'vdm', which is the bound in continuous time"
  ):
    experiment.create(config, {"image": Field((8, 8, 1), "uint8")})


@pytest.mark.parametrize("field, value", [("name", "regulr"), ("times", "discret"), ("weight", "simpel")])
def test_names_that_are_none_are_refused(field, value):
  config = configs.base()
  config.objective[field] = value
  message = f"^config.objective.{field} is '{value}'; it must be one of .* Did you mean "
  with pytest.raises(ConfigError, match=message):
    experiment.create(config, {"image": Field((8, 8, 1), "uint8")})


def test_allowed_combinations():
  check("linear", "regular", "importance", "vlb")
  check("linear", "hybrid", "stratified", "simple")
  check("linear", "learned_vlb", "importance", "vlb")
  check("edm", "sliced", "uniform", "vlb")
  check("linear", "sliced", "discrete", "likelihood")
  check("edm", "regular", "log_normal", "edm")
  check("learned", "vdm", "antithetic", "vlb")
