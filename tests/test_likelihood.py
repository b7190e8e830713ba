"""Bits per dimension on data with known densities: recursions in float64, exact flows, discrete entropies."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import keys, likelihood
from diffjax.denoisers import Estimate, gaussian_denoiser, mixture_denoiser
from diffjax.dequantisation import DEQUANTISATIONS, decoder_nll
from diffjax.gaussian import expand
from diffjax.guidance import clipped
from diffjax.likelihood import (
  LIKELIHOODS,
  continuous_vlb,
  discrete_vlb,
  mean_and_error,
  ode_likelihood,
)
from diffjax.schedules import SCHEDULES
from diffjax.types import ConfigError

MEAN, VAR = 0.7, 0.25
FRAC = 0.7  # of a learned variance between beta-tilde and beta
ENTROPY = 0.5 * np.log2(2 * np.pi * np.e * VAR)
WIDTH = 2 / 255  # of a pixel's bin


@pytest.fixture
def x64():
  with jax.enable_x64(True):
    yield


def example_keys(n, seed=0):
  return keys.of_examples(keys.seed(seed), jnp.arange(n))


def gaussian_data(n, dim, seed=0):
  noise = np.random.default_rng(seed).normal(size=(n, dim))
  return jnp.asarray(MEAN + VAR**0.5 * noise)


def vlb_recursion(steps, variance):
  """The expected bound in bits, term by term from the betas (Ho et al. 2020, eq. 5 to 8), in NumPy.

  On N(MEAN, VAR) the exact denoiser errs by VAR (1 - alpha_bar) / (alpha_bar VAR + 1 - alpha_bar).
  """
  beta = np.linspace(1e-4, 0.02, steps)
  alpha_bar = np.cumprod(1 - beta)
  before = np.append(1.0, alpha_bar[:-1])
  error = VAR * (1 - alpha_bar) / (alpha_bar * VAR + 1 - alpha_bar)
  posterior = beta * (1 - before) / (1 - alpha_bar)
  clipped = np.append(posterior[1], posterior[1:])
  first = np.log(clipped) if variance != "learned" else FRAC * np.log(beta) + (1 - FRAC) * np.log(clipped)
  model = {"fixed_small": posterior, "fixed_large": beta, "learned": np.exp(first)}[variance]
  of_x0 = np.sqrt(before) * beta / (1 - alpha_bar)
  with np.errstate(divide="ignore", invalid="ignore"):
    kl = 0.5 * (posterior / model - 1 + np.log(model / posterior) + of_x0**2 * error / model)
  decoder = 0.5 * (np.log(2 * np.pi) + first[0] + error[0] / np.exp(first[0]))
  last = alpha_bar[-1]
  prior = 0.5 * (last * (MEAN**2 + VAR) + (1 - last) - 1 - np.log(1 - last))
  return np.array([prior, kl[1:].sum(), decoder]) / np.log(2)


@pytest.mark.parametrize(
  "variance, above", [("fixed_small", 0.822), ("fixed_large", 0.165), ("learned", None)]
)
def test_discrete_vlb_is_its_recursion_and_lies_above_the_entropy(x64, monkeypatch, variance, above):
  """The bound is quadratic in (x0, eps), so four points with unit moments give its expectation exactly."""
  x0 = MEAN + VAR**0.5 * jnp.asarray([[1.0], [1.0], [-1.0], [-1.0]])
  signs = jnp.asarray([[1.0], [-1.0], [1.0], [-1.0]])
  monkeypatch.setattr(likelihood.keys, "normal", lambda *_: signs)
  schedule = SCHEDULES["linear"]()
  exact = gaussian_denoiser(schedule, MEAN, VAR)
  denoiser = lambda xt, t: exact(xt, t)._replace(var_frac=jnp.full_like(xt, FRAC))
  vlb = discrete_vlb(denoiser, schedule, x0, example_keys(4), variance)
  got = np.array([vlb.prior.mean(), vlb.diffusion.mean(), vlb.decoder.mean()])
  truth = vlb_recursion(1000, variance)
  np.testing.assert_allclose(got, truth, atol=1e-9)
  np.testing.assert_allclose(vlb.total, vlb.prior + vlb.diffusion + vlb.decoder, rtol=1e-12)
  if above is not None:
    assert truth.sum() - ENTROPY == pytest.approx(above, abs=5e-4)
  assert vlb.nfe == 1000


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_discrete_vlb_in_float32_by_monte_carlo(variance):
  schedule = SCHEDULES["linear"](steps=200)
  denoiser = gaussian_denoiser(schedule, MEAN, VAR)
  x0 = gaussian_data(256, 256).astype(jnp.float32)
  run = jax.jit(lambda x, k: discrete_vlb(denoiser, schedule, x, k, variance))
  mean, error = mean_and_error(run(x0, example_keys(256)).total)
  assert abs(mean - vlb_recursion(200, variance).sum()) < 4 * error < 0.06


@pytest.mark.parametrize("name", ["linear", "continuous_cosine"])
@pytest.mark.parametrize("scale", ["vp", "fm"])
def test_continuous_vlb_is_the_entropy(name, scale):
  """On Gaussian data; what is left is the mismatch of the prior, below 1e-4 bits, and noise."""
  schedule = SCHEDULES[name](scale=scale)
  denoiser = gaussian_denoiser(schedule, MEAN, VAR)
  x0 = gaussian_data(512, 256).astype(jnp.float32)
  vlb = jax.jit(lambda x, k: continuous_vlb(denoiser, schedule, x, k, times=64))(x0, example_keys(512))
  mean, error = mean_and_error(vlb.total)
  assert abs(mean - ENTROPY) < 4 * error < 0.06
  assert vlb.nfe == 64


def test_continuous_vlb_of_a_wrong_model_is_larger_by_the_divergence():
  """The model N(0, 1) on data N(MEAN, VAR): entropy plus KL, its denoiser being exact for itself."""
  schedule = SCHEDULES["continuous_cosine"]()
  denoiser = gaussian_denoiser(schedule, 0.0, 1.0)
  x0 = gaussian_data(512, 256).astype(jnp.float32)
  vlb = jax.jit(lambda x, k: continuous_vlb(denoiser, schedule, x, k))(x0, example_keys(512))
  truth = 0.5 * (np.log(2 * np.pi) + MEAN**2 + VAR) / np.log(2)
  mean, error = mean_and_error(vlb.total)
  assert abs(mean - truth) < 4 * error < 0.06


ANALYTIC = [("linear", "vp"), ("continuous_linear", "fm"), ("cosine", "ve")]


def flow_logpdf(schedule, x0, mean):
  """log p elementwise: the flow of N(mean, VAR) keeps the standardised x, and maps it to the prior at t = 1."""
  (alpha, sigma), (alpha_1, sigma_1) = (schedule.alpha_sigma(jnp.asarray(t)) for t in (schedule.t_min, 1.0))
  ratio = jnp.sqrt((alpha_1**2 * VAR + sigma_1**2) / (alpha**2 * VAR + sigma**2))
  x1 = alpha_1 * mean + ratio * alpha * (x0 - mean)
  return jax.scipy.stats.norm.logpdf(x1, 0, schedule.prior_std()) + jnp.log(ratio * alpha)


@pytest.mark.parametrize("name, scale", ANALYTIC)
def test_ode_is_the_analytic_density(x64, name, scale):
  schedule = SCHEDULES[name](scale=scale)
  x0 = gaussian_data(3, 5)
  log_p = flow_logpdf(schedule, x0, MEAN)
  run = jax.jit(lambda x, k: ode_likelihood(gaussian_denoiser(schedule, MEAN, VAR), schedule, x, k))
  got = run(x0, example_keys(3))
  np.testing.assert_allclose(got.total, -log_p.mean(axis=1) / np.log(2), atol=2e-4)
  assert (
    np.all(np.abs(got.total + log_p.mean(axis=1) / np.log(2)) < got.tolerance) and got.tolerance.max() < 0.01
  )
  assert got.nfe.shape == (3,) and got.nfe.max() < 400
  # and that is the data's own density, up to the noise at t_min and the mismatch of the prior
  direct = -jax.scipy.stats.norm.logpdf(x0, MEAN, VAR**0.5).mean(axis=1) / np.log(2)
  np.testing.assert_allclose(got.total, direct, atol=0.02)


def correlated(schedule):
  """The exact denoiser of N(0, C) with a full C in 4 dimensions, and C."""
  factor = np.random.default_rng(0).normal(size=(4, 4)) / 2
  cov = factor @ factor.T + 0.05 * np.eye(4)
  scales, axes = (jnp.asarray(part) for part in np.linalg.eigh(cov))

  def denoise(xt, t):
    alpha, sigma = (jnp.broadcast_to(c, xt.shape[:1])[:, None] for c in schedule.alpha_sigma(t))
    return Estimate(xt @ axes * (alpha * scales / (alpha**2 * scales + sigma**2)) @ axes.T)

  return denoise, cov


def test_stochastic_trace_on_correlated_data(x64):
  """Unbiased, though noisy, and the same for an example whatever stands beside it."""
  schedule = SCHEDULES["continuous_cosine"](scale="subvp")
  denoiser, cov = correlated(schedule)
  x0 = np.random.default_rng(1).multivariate_normal(np.zeros(4), cov, 200)
  x0[:150] = x0[0]
  truth = -jax.scipy.stats.multivariate_normal.logpdf(x0[0], jnp.zeros(4), cov) / 4 / np.log(2)
  run = jax.jit(lambda x, k: ode_likelihood(denoiser, schedule, x, k, probes=2))
  bits = run(jnp.asarray(x0), example_keys(200)).total
  same = bits[:150]
  assert 0.01 < same.std() < 1
  assert abs(same.mean() - truth) < 4 * same.std() / 150**0.5
  order = np.random.default_rng(2).permutation(200)
  np.testing.assert_allclose(
    run(jnp.asarray(x0[order]), example_keys(200)[order]).total, bits[order], rtol=1e-9
  )


def test_ode_on_a_mixture(x64):
  schedule = SCHEDULES["continuous_cosine"]()
  means = jnp.asarray([[-1.0, 0.5], [1.0, -0.5], [0.0, 1.0]])
  var, weights = jnp.asarray([0.05, 0.02, 0.1]), jnp.asarray([0.2, 0.5, 0.3])
  x0 = jnp.asarray([[-0.9, 0.4], [1.1, -0.4], [0.2, 0.3], [0.0, 0.0]])
  gaps = ((x0[:, None] - means) ** 2).sum(axis=-1)
  log_p = jax.scipy.special.logsumexp(-gaps / (2 * var) - jnp.log(2 * np.pi * var), axis=1, b=weights)
  denoiser = mixture_denoiser(schedule, means, var, weights)
  solve = lambda x, k: ode_likelihood(denoiser, schedule, x, k, trace="exact", rtol=1e-7, atol=1e-7)
  got = jax.jit(solve)(x0, example_keys(4))
  np.testing.assert_allclose(got.total, -log_p / 2 / np.log(2), atol=1e-4)


def levels_denoiser(schedule, count=256):
  """The exact denoiser of independent pixels, each uniform over `count` values."""
  values = jnp.linspace(-1, 1, count)

  def denoise(xt, t):
    alpha, sigma = (expand(jnp.broadcast_to(c, xt.shape[:1]), xt[..., None]) for c in schedule.alpha_sigma(t))
    logits = -0.5 * ((xt[..., None] - alpha * values) / sigma) ** 2
    return Estimate(jax.nn.softmax(logits, axis=-1) @ values)

  return denoise


def interval_denoiser(schedule, low, high):
  """The exact denoiser of x0 uniform on an interval: the mean of a truncated Gaussian."""

  def denoise(xt, t):
    alpha, sigma = (expand(jnp.broadcast_to(c, xt.shape[:1]), xt) for c in schedule.alpha_sigma(t))
    centre, std = xt / alpha, sigma / alpha
    a, b = (low - centre) / std, (high - centre) / std
    flip = a > 0  # the tail in which the difference keeps its digits
    a, b = jnp.where(flip, -b, a), jnp.where(flip, -a, b)
    log_b, log_a = jax.scipy.special.log_ndtr(b), jax.scipy.special.log_ndtr(a)
    log_mass = log_b + jnp.log1p(-jnp.exp(log_a - log_b))
    pdf = lambda z: jnp.exp(-0.5 * z**2 - 0.5 * jnp.log(2 * jnp.pi) - log_mass)
    shift = (pdf(a) - pdf(b)) * jnp.where(flip, -1, 1)
    return Estimate(jnp.clip(centre + std * shift, low, high))

  return denoise


def noise_images(n, size=8):
  return np.random.default_rng(0).integers(0, 256, (n, size, size, 1)).astype(np.uint8)


def test_ode_by_uniform_dequantisation(x64):
  """Noisy pixels are uniform on the whole interval if the image is noise, on one bin if it is constant."""
  schedule = SCHEDULES["continuous_cosine"]()

  @jax.jit
  def run(images, low, high):
    denoiser = interval_denoiser(schedule, low, high)
    return ode_likelihood(denoiser, schedule, images, example_keys(8), "uniform").total

  assert abs(run(noise_images(8), -1 - WIDTH / 2, 1 + WIDTH / 2).mean() - 8) < 0.01
  value = 37 / 127.5 - 1
  constant = run(np.full((8, 8, 8, 1), 37, np.uint8), value - WIDTH / 2, value + WIDTH / 2)
  assert abs(constant.mean()) < 0.01


def test_ode_of_uniform_noise_by_variational_dequantisation(x64):
  """With the exact denoiser of the discrete pixels the bound (8) is the probability itself.

  At the end of the schedule the noise is two pixel values wide, so that the decoder counts.
  """
  schedule = SCHEDULES["continuous_cosine"](logsnr_max=8.0)
  run = jax.jit(lambda x, k: ode_likelihood(levels_denoiser(schedule), schedule, x, k, "variational"))
  bits = run(noise_images(4), example_keys(4)).total
  assert abs(bits.mean() - 8) < 0.01


def test_ode_of_a_constant_image_by_variational_dequantisation(x64):
  schedule = SCHEDULES["continuous_cosine"]()
  denoiser = gaussian_denoiser(schedule, 37 / 127.5 - 1, 0.0)
  solve = lambda x, k: ode_likelihood(denoiser, schedule, x, k, "variational", rtol=1e-7, atol=1e-7)
  bits = jax.jit(solve)(np.full((4, 6, 6, 1), 37, np.uint8), example_keys(4)).total
  np.testing.assert_allclose(bits, 0, atol=1e-3)


def test_by_default_the_noise_at_the_end_against_the_bin_decides():
  """Half a bin is 1 / 255, a log-SNR of 2 log 255 = 11.08."""
  schedule, x0 = SCHEDULES["continuous_cosine"](), jnp.zeros((2, 3))

  @jax.jit
  def run(logsnr):
    return {n: way(schedule, x0, logsnr, True, example_keys(2)) for n, way in DEQUANTISATIONS.items()}

  for logsnr, chosen in ((20.0, "variational"), (11.2, "variational"), (11.0, "uniform")):
    by = run(logsnr)
    for got, expected in zip(by["auto"], by[chosen], strict=True):
      np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    assert not np.allclose(by["uniform"][0], by["variational"][0], rtol=1e-3)
  assert inspect.signature(ode_likelihood).parameters["dequantise"].default == "auto"


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_discrete_vlb_of_pixels_lies_above_their_entropy(variance):
  schedule = SCHEDULES["linear"]()
  run = lambda denoiser: jax.jit(lambda x, k: discrete_vlb(denoiser, schedule, x, k, variance))
  noise = run(clipped(levels_denoiser(schedule)))(noise_images(4, 4), example_keys(4))
  mean, error = mean_and_error(noise.total)
  assert 8 - 4 * error < mean < 9.5
  constant = run(gaussian_denoiser(schedule, 37 / 127.5 - 1, 0.0))
  total = constant(np.full((4, 6, 6, 1), 37, np.uint8), example_keys(4)).total
  assert np.all(total >= 0) and np.all(total < 2)


def test_continuous_vlb_of_pixels_is_their_entropy():
  schedule = SCHEDULES["continuous_cosine"](logsnr_max=16.0)
  run = lambda denoiser: jax.jit(lambda x, k: continuous_vlb(denoiser, schedule, x, k))
  noise = run(levels_denoiser(schedule))(noise_images(64, 4), example_keys(64))
  mean, error = mean_and_error(noise.total)
  assert abs(mean - 8) < 4 * error < 0.3
  constant = run(gaussian_denoiser(schedule, 37 / 127.5 - 1, 0.0))
  total = constant(np.full((4, 6, 6, 1), 37, np.uint8), example_keys(4)).total
  assert np.all(np.abs(total) < 1e-4)  # float32


def test_pixels_of_17_levels_have_the_bits_of_17_levels():
  """As uint8 they are up to half a grey value beside the 17, on which they are put back."""
  schedule = SCHEDULES["continuous_cosine"](logsnr_max=10.0)
  images = np.round(255 / 16 * np.random.default_rng(1).integers(0, 17, (48, 4, 4, 1))).astype(np.uint8)
  denoiser = levels_denoiser(schedule, 17)

  @jax.jit
  def run(x, k):
    measure = lambda of, **options: of(denoiser, schedule, x, k, levels=17, **options).total
    return measure(continuous_vlb), measure(ode_likelihood, rtol=1e-3, atol=1e-3)

  for bits in run(images, example_keys(48)):
    mean, error = mean_and_error(bits)
    assert abs(mean - np.log2(17)) < 4 * error < 0.3
  by_table = discrete_vlb(denoiser, SCHEDULES["linear"](), images[:8], example_keys(8), levels=17).total
  assert np.log2(17) - 0.3 < by_table.mean() < np.log2(17) + 1.5


def test_an_error_at_less_noise_than_decides_a_pixel_costs_nothing():
  """Equation (4) of a denoiser that is 0.01 off, in closed form, from the schedule's end and from 7.7."""
  schedule = SCHEDULES["continuous_cosine"](logsnr_max=14.0)
  images = np.round(255 / 16 * np.random.default_rng(1).integers(0, 17, (48, 4, 4, 1))).astype(np.uint8)
  exact = levels_denoiser(schedule, 17)
  denoiser = lambda x, t: Estimate(exact(x, t).x0 + 0.01)
  for start in (14.0, 7.7):
    bits = continuous_vlb(denoiser, schedule, images, example_keys(48), levels=17, logsnr_max=start).total
    mean, error = mean_and_error(bits)
    assert (
      abs(mean - np.log2(17) - 0.5e-4 * np.exp(start) / np.log(2)) < 4 * error + 0.05 * (start > 10) * mean
    )


def test_the_decoder_at_low_log_snr_is_normalised():
  """Summed over all values, the probabilities of (5) are 1."""
  schedule = SCHEDULES["continuous_cosine"]()
  x0 = jnp.linspace(-1, 1, 256)[:, None]
  xt = jnp.full((256, 1), 0.3)
  nll = decoder_nll(schedule, x0, xt, jnp.asarray(2.0), True)
  np.testing.assert_allclose(jnp.exp(-nll).sum(), 1, rtol=1e-5)
  assert np.argmin(nll) == round((0.3 / float(schedule.alpha_sigma(schedule.t_of(2.0))[0]) + 1) * 127.5)


CALLS = {
  "discrete": lambda d, s, x, k: discrete_vlb(d, s, x, k).total,
  "continuous": lambda d, s, x, k: continuous_vlb(d, s, x, k, times=16).total,
}


@pytest.mark.parametrize("name", CALLS)
def test_an_example_is_alone_in_its_batch(name):
  schedule = SCHEDULES["linear"](steps=50, beta_end=0.2)
  denoiser, _ = correlated(schedule)
  images = np.random.default_rng(0).integers(100, 150, (5, 4)).astype(np.uint8)
  run = jax.jit(lambda x, k: CALLS[name](denoiser, schedule, x, k))
  whole, order = run(images, example_keys(5)), np.array([3, 0, 4, 4, 1])
  np.testing.assert_allclose(run(images[order], example_keys(5)[order]), whole[order], rtol=2e-4)
  assert not np.allclose(run(images, example_keys(5, seed=1)), whole, rtol=1e-4)


SOLVED = {"ode": {"rtol": 1e-7, "atol": 1e-7, "trace": "exact"}, "continuous_vlb": {"times": 16}}


@pytest.mark.parametrize("bound", [False, True], ids=["unconditional", "conditional"])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_every_likelihood_of_an_example_is_its_own(x64, name, bound):
  """At a batch size of 1 as of 4, whatever stands beside it, also where the denoiser holds the batch's conditions."""
  schedule = SCHEDULES["linear"](steps=20, beta_end=0.5)
  measure, x0 = functools.partial(LIKELIHOODS[name], **SOLVED.get(name, {})), gaussian_data(4, 3)
  cond, sample_keys = jnp.asarray([MEAN, -1.0, 0.0, 2.0]) if bound else jnp.full(4, MEAN), example_keys(4)

  @jax.jit
  def run(x0, cond, sample_keys):
    denoiser = gaussian_denoiser(schedule, cond[:, None] if bound else MEAN, VAR)
    return measure(denoiser, schedule, x0, sample_keys)

  whole = run(x0, cond, sample_keys)
  assert whole.total.shape == (4,) and np.all(np.isfinite(whole.total))
  for i in (0, 3):
    one = run(x0[i : i + 1], cond[i : i + 1], sample_keys[i : i + 1])
    np.testing.assert_allclose(one.total, whole.total[i : i + 1], rtol=1e-9)
    np.testing.assert_array_equal(one.nfe, whole.nfe if np.ndim(whole.nfe) == 0 else whole.nfe[i : i + 1])
  order = jnp.asarray([3, 1, 1, 0])
  again = run(x0[order], cond[order], sample_keys[order])
  np.testing.assert_allclose(again.total, whole.total[order], rtol=1e-9)


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_ode_under_conditions_is_the_density_of_each_condition(x64, trace):
  """Of N(cond, VAR), by its exact denoiser; independent dimensions, of which signs find the trace exactly."""
  schedule, cond = SCHEDULES["continuous_cosine"](), jnp.asarray([MEAN, -1.0, 0.0, 2.0])
  x0 = gaussian_data(4, 3) - MEAN + cond[:, None]

  @jax.jit
  def run(x0, cond):
    denoiser = gaussian_denoiser(schedule, cond[:, None], VAR)
    return ode_likelihood(denoiser, schedule, x0, example_keys(4), trace=trace, rtol=1e-8, atol=1e-8)

  truth = -flow_logpdf(schedule, x0, cond[:, None]).mean(axis=1) / np.log(2)
  np.testing.assert_allclose(run(x0, cond).total, truth, atol=1e-6)
  assert np.abs(run(x0, cond[::-1]).total - truth).min() > 0.1


def test_function_evaluations_are_those_made():
  schedule = SCHEDULES["continuous_cosine"](logsnr_min=-8.0, logsnr_max=8.0)
  exact, calls = gaussian_denoiser(schedule, MEAN, VAR), []

  def counted(xt, t):
    jax.debug.callback(lambda: calls.append(1))
    return exact(xt, t)

  x0 = gaussian_data(1, 3).astype(jnp.float32)
  for call, nfe in [
    (discrete_vlb, lambda s: SCHEDULES["linear"](steps=20)),
    (continuous_vlb, lambda s: s),
    (ode_likelihood, lambda s: s),
  ]:
    calls.clear()
    got = jax.jit(call, static_argnums=0)(counted, nfe(schedule), x0, example_keys(1))
    jax.effects_barrier()
    assert len(calls) == int(np.squeeze(got.nfe))


def test_a_solver_that_gives_up_says_so():
  schedule = SCHEDULES["continuous_cosine"]()
  denoiser = gaussian_denoiser(schedule, MEAN, VAR)
  run = jax.jit(lambda x, k: ode_likelihood(denoiser, schedule, x, k, max_steps=3))
  assert np.isnan(run(gaussian_data(2, 3), example_keys(2)).total).all()


def test_mean_and_error():
  assert mean_and_error(np.array([1.0, 3.0])) == (2.0, 1.0)
  assert np.isnan(mean_and_error(np.array([1.0]))[1])


@pytest.mark.parametrize(
  "call, message",
  [
    (
      lambda *given: LIKELIHOODS["discrete_vlb"](*given),
      "^discrete_vlb is the bound .* but the schedule is continuous",
    ),
    (
      lambda d, s, x, k: LIKELIHOODS["discrete_vlb"](d, SCHEDULES["linear"](), x, k, "learned"),
      "^variance is 'learned'",
    ),
    (lambda *given: LIKELIHOODS["continuous_vlb"](*given, times=0), "^times is 0"),
    (lambda *given: LIKELIHOODS["ode"](*given, "flow"), "^dequantise is 'flow'; .* uniform, variational"),
    (lambda *given: LIKELIHOODS["ode"](*given, trace="full"), "^trace is 'full'"),
    (lambda *given: LIKELIHOODS["ode"](*given, probes=0), "^probes is 0"),
  ],
)
def test_bad_requests_raise(call, message):
  schedule = SCHEDULES["continuous_cosine"]()
  with pytest.raises(ConfigError, match=message):
    call(gaussian_denoiser(schedule, MEAN, VAR), schedule, gaussian_data(2, 3), example_keys(2))
