"""Guidance against closed forms: intervals, rescaling, and a classifier's gradient on a Gaussian mixture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.denoisers import (
  Estimate,
  classifier_free,
  classifier_guided,
  gaussian_denoiser,
  guidance_interval,
  mixture_denoiser,
  network_denoiser,
)
from diffjax.gaussian import expand
from diffjax.predictions import INPUT_SCALES, ROWS, TIME_INPUTS
from diffjax.scales import SCALES
from diffjax.schedules import SCHEDULES

VAR = 0.25
SCHEDULE = SCHEDULES["continuous_cosine"]()
COND, NULL = jnp.asarray([0.5, -0.5, 0.2]), jnp.zeros(3)
XT = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32)


def conditional(cond):
  return gaussian_denoiser(SCHEDULE, cond[:, None] * jnp.arange(1.0, 5.0), VAR)


def time_at(sigma):
  return SCHEDULE.t_of(-2 * jnp.log(jnp.asarray(sigma)))


def test_the_interval_guides_inside_and_leaves_the_conditional_model_outside():
  t = time_at([0.2, 1.0, 4.0])  # below, inside, above
  w = guidance_interval(SCHEDULE, 2.0, 0.28, 2.9)
  got = classifier_free(conditional, COND, NULL, w)(XT, t).x0
  with_cond, without = conditional(COND)(XT, t).x0, conditional(NULL)(XT, t).x0
  expected = np.stack([with_cond[0], with_cond[1] + 2 * (with_cond[1] - without[1]), with_cond[2]])
  np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_weights_may_differ_between_examples():
  w = jnp.asarray([0.0, 1.0, 3.0])
  got = classifier_free(conditional, COND, NULL, w)(XT, jnp.asarray(0.5)).x0
  with_cond, without = (conditional(c)(XT, jnp.asarray(0.5)).x0 for c in (COND, NULL))
  np.testing.assert_allclose(got, with_cond + w[:, None] * (with_cond - without), rtol=1e-5)


@pytest.mark.parametrize("phi", [0.7, 1.0])
def test_rescaling_is_the_published_formula_in_each_example(phi):
  t = jnp.asarray(0.6)
  got = classifier_free(conditional, COND, NULL, 3.0, rescale=phi)(XT, t).x0
  plain = np.asarray(classifier_free(conditional, COND, NULL, 3.0)(XT, t).x0)
  std = np.std(np.asarray(conditional(COND)(XT, t).x0), axis=1, keepdims=True)
  rescaled = plain * std / np.std(plain, axis=1, keepdims=True)
  np.testing.assert_allclose(got, phi * rescaled + (1 - phi) * plain, rtol=1e-5)


def test_an_interval_without_an_upper_end_guides_where_no_signal_is_left():
  flow = SCHEDULES["flow"]()
  for sigma_max, expected in ((float("inf"), 2.0), (1e9, 2.0), (2.9, 0.0)):
    assert guidance_interval(flow, 2.0, 0.0, sigma_max)(jnp.asarray(1.0)) == expected


@pytest.mark.parametrize("rescale", [0.0, 0.7])
@pytest.mark.parametrize("w", [0, 0.0, jnp.zeros(3), lambda t: 0 * t], ids=["int", "float", "each", "of t"])
def test_guidance_of_zero_is_the_conditional_model(w, rescale):
  """With its learned variance; of the unconditional model, here far away, there is no trace."""

  def learned(cond):
    inner = conditional(cond)
    return lambda xt, t: inner(xt, t)._replace(var_frac=expand(cond, xt) * jnp.ones_like(xt))

  t = jnp.asarray([0.1, 0.5, 0.9])
  got, expected = classifier_free(learned, COND, 100 + COND, w, rescale)(XT, t), learned(COND)(XT, t)
  np.testing.assert_allclose(got.x0, expected.x0, rtol=1e-6)
  np.testing.assert_array_equal(got.var_frac, expected.var_frac)


@pytest.mark.parametrize("level", [0.0, 0.3])
def test_rescaling_leaves_an_estimate_without_contrast_as_it_is(level):
  """With w = 1 the guided estimate is 2 c - u, here `level` in every pixel of the first two examples."""
  images = jnp.asarray(np.random.default_rng(0).normal(size=(3, 8)), jnp.float32).at[1].set(level)
  other = (2 * images - level).at[2].set(0.0)

  def given(cond):
    pick = lambda xt: jnp.where(cond[:, None] > 0, jnp.resize(images, xt.shape), jnp.resize(other, xt.shape))
    return lambda xt, t: Estimate(pick(xt))

  got = classifier_free(given, jnp.ones(3), jnp.zeros(3), 1.0, rescale=0.7)(images, jnp.asarray(0.5)).x0
  np.testing.assert_allclose(got[:2], level, atol=1e-6)
  np.testing.assert_allclose(
    got[2], images[2] * (0.3 * 2 + 0.7), rtol=1e-5
  )  # 2 c has twice the deviation of c


@pytest.mark.parametrize("scale", SCALES)
def test_a_noisy_classifiers_gradient_adds_to_the_score_as_autodiff_has_it(scale):
  """The score of D is grad log p(x_t) + w(t) grad log p(component | x_t), both from the densities."""
  means, var = np.array([[-1.0, 0.5], [1.0, -0.5]]), np.array([0.1, 0.3])
  weights, label = np.array([0.3, 0.7]), jnp.asarray([0, 1, 1])
  with jax.enable_x64(True):
    schedule = SCHEDULES["continuous_cosine"](scale=scale)
    xt, t = jnp.asarray(np.random.default_rng(1).normal(size=(3, 2))), jnp.asarray([0.2, 0.5, 0.9])
    alpha, sigma = (c[:, None] for c in schedule.alpha_sigma(t))

    def joint(x):  # p(x_t, component), [B, K]
      spread = alpha**2 * var + sigma**2
      gap = x[:, None] - alpha[..., None] * means
      return weights * jnp.exp(-jnp.sum(gap**2, -1) / (2 * spread)) / (2 * np.pi * spread)

    marginal = lambda x: jnp.log(joint(x).sum(1))
    posterior = lambda x, t: jnp.log(joint(x)[jnp.arange(3), label]) - marginal(x)
    of_x, of_label = (jax.grad(lambda x, f=f: f(x).sum())(xt) for f in (marginal, lambda x: posterior(x, t)))
    exact = mixture_denoiser(schedule, jnp.asarray(means), jnp.asarray(var), jnp.asarray(weights))
    for w in (1.0, 2.5, lambda t: 3 * t):
      x0 = classifier_guided(exact, schedule, posterior, w)(xt, t).x0
      scale_of_t = expand(w(t), xt) if callable(w) else w
      np.testing.assert_allclose((alpha * x0 - xt) / sigma**2, of_x + scale_of_t * of_label, rtol=1e-7)


@pytest.mark.parametrize("scale", SCALES)
def test_a_noisy_classifiers_gradient_turns_the_mixture_into_its_component(scale):
  """Bayes: the score of x_t given its component is that of x_t plus grad log p(component | x_t)."""
  means, var = np.array([[-1.0, 0.5], [1.0, -0.5]]), np.array([0.1, 0.3])
  weights = np.array([0.3, 0.7])
  with jax.enable_x64(True):
    schedule = SCHEDULES["continuous_cosine"](scale=scale)
    label = jnp.asarray([0, 1, 1])

    def log_prob(xt, t):
      alpha, sigma = schedule.alpha_sigma(t)
      spread = alpha[:, None] ** 2 * var + sigma[:, None] ** 2
      gap = xt[:, None] - alpha[:, None, None] * means
      logits = jnp.log(weights) - jnp.sum(gap**2, -1) / (2 * spread) - jnp.log(spread)
      return jax.nn.log_softmax(logits)[jnp.arange(len(xt)), label]

    xt, t = jnp.asarray(np.random.default_rng(1).normal(size=(3, 2))), jnp.asarray([0.2, 0.5, 0.9])
    marginal = mixture_denoiser(schedule, jnp.asarray(means), jnp.asarray(var), jnp.asarray(weights))
    component = gaussian_denoiser(schedule, jnp.asarray(means)[label], jnp.asarray(var)[label][:, None])
    got = classifier_guided(marginal, schedule, log_prob)(xt, t).x0
    none = classifier_guided(marginal, schedule, log_prob, w=0.0)(xt, t).x0
    np.testing.assert_allclose(got, component(xt, t).x0, rtol=1e-8)
    np.testing.assert_array_equal(none, marginal(xt, t).x0)


def test_classifier_guidance_is_finite_without_signal():
  schedule = SCHEDULES["flow"]()
  guided = classifier_guided(gaussian_denoiser(schedule, 0.0, VAR), schedule, lambda x, t: x.sum(1))
  np.testing.assert_allclose(guided(XT, jnp.asarray(1.0)).x0, 0, atol=1e-6)


def test_a_learned_variance_is_the_second_half_of_the_channels():
  apply = lambda x, time: jnp.concatenate([x, jnp.full_like(x, 0.5)], axis=-1)
  parts = SCHEDULE, ROWS["x0"], INPUT_SCALES["none"], TIME_INPUTS["t"]
  estimate = network_denoiser(apply, *parts, learned_variance=True)(XT, jnp.asarray(0.5))
  np.testing.assert_allclose(estimate.x0, XT)
  np.testing.assert_allclose(estimate.var_frac, 0.75)
