"""Guidance against closed forms: intervals, rescaling, a classifier's gradient, and every entry of GUIDES."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.data.source import ArraySource
from diffjax.denoisers import Estimate, gaussian_denoiser, mixture_denoiser
from diffjax.gaussian import expand
from diffjax.guidance import (
  GUIDES,
  OPERATORS,
  Guide,
  Scene,
  classifier_free,
  classifier_guided,
  folded,
  guidance_interval,
)
from diffjax.scales import SCALES
from diffjax.schedules import SCHEDULES
from diffjax.types import ConfigError, Trained

VAR = 0.25
SCHEDULE = SCHEDULES["continuous_cosine"]()
COND, NULL = jnp.asarray([0.5, -0.5, 0.2]), jnp.zeros(3)
XT = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32)


def conditional(cond):
  return gaussian_denoiser(SCHEDULE, cond[:, None] * jnp.arange(1.0, 5.0), VAR)


plain = conditional


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


def test_guidance_of_zero_is_the_conditional_model_and_w_extrapolates():
  schedule = SCHEDULES["linear"]()
  conditional = lambda cond: gaussian_denoiser(schedule, cond[:, None], VAR)
  cond, null = jnp.asarray([0.5, -0.5]), jnp.zeros(2)
  xt, t = jnp.asarray([[0.1], [0.3]]), jnp.asarray(0.5)
  with_cond, without = conditional(cond)(xt, t).x0, conditional(null)(xt, t).x0
  np.testing.assert_array_equal(classifier_free(conditional, cond, null, 0)(xt, t).x0, with_cond)
  guided = classifier_free(conditional, cond, null, 1.5)(xt, t).x0
  np.testing.assert_allclose(guided, with_cond + 1.5 * (with_cond - without), rtol=1e-5)


def test_conditions_may_be_any_pytree():
  """Here as a text is told: a vector, tokens and their mask, each doubled with its null."""

  def conditional(cond):
    tokens, mask = cond["text"]
    mean = cond["label"] + jnp.sum(tokens * mask[..., None], axis=(1, 2))
    return gaussian_denoiser(SCHEDULE, mean[:, None], VAR)

  rng = np.random.default_rng(2)
  tokens, mask = (
    jnp.asarray(rng.normal(size=(3, 5, 2)), jnp.float32),
    jnp.asarray(rng.uniform(size=(3, 5)) < 0.6),
  )
  cond = {"label": COND, "text": (tokens, mask)}
  null = {"label": NULL, "text": (jnp.zeros_like(tokens), jnp.zeros_like(mask))}
  got = classifier_free(conditional, cond, null, 1.5)(XT, jnp.asarray(0.5)).x0
  with_cond, without = (conditional(c)(XT, jnp.asarray(0.5)).x0 for c in (cond, null))
  np.testing.assert_allclose(got, 2.5 * with_cond - 1.5 * without, rtol=1e-5, atol=1e-6)


MEANS, VARS, SHARES = (
  np.array([[-1.0, 0.5, 0.0, 0.3], [1.0, -0.5, 0.2, 0.0]]),
  np.array([0.1, 0.3]),
  np.array([0.3, 0.7]),
)
LABEL = jnp.asarray([0, 1, 1])


def mixture():
  return mixture_denoiser(SCHEDULE, *(jnp.asarray(part) for part in (MEANS, VARS, SHARES)))


def log_posterior(params, data):
  """What a perfect classifier can: log p(label | x_t), the mixture's shares its parameters."""

  def log_prob(xt, t, schedule):
    alpha, sigma = schedule.alpha_sigma(t)
    spread = alpha[:, None] ** 2 * VARS + sigma[:, None] ** 2
    gap = xt[:, None] - alpha[:, None, None] * MEANS
    logits = jnp.log(params) - jnp.sum(gap**2, -1) / (2 * spread) - xt.shape[-1] / 2 * jnp.log(spread)
    return jax.nn.log_softmax(logits)[jnp.arange(len(xt)), data["label"]]

  return log_prob


def wide(params, cond):
  """A lesser model: the right means but too much variance, its parameter."""

  def at(xt, t, schedule):
    return gaussian_denoiser(schedule, cond[:, None] * jnp.arange(1.0, 5.0), params)(xt, t)

  return at


def in_turn(params, index, source):
  """What a classifier's samples ask for: a label of each of its classes, as many as its parameters, in turn."""
  return {"label": index % len(params)}


RUNS = {
  "autoguidance": Trained("runs/lesser", {"denoise": wide}, 1.0, "a"),
  "classifier": Trained("runs/classifier", {"log_prob": log_posterior, "request": in_turn}, SHARES, "b"),
}


SEEN = jnp.asarray(np.random.default_rng(3).integers(0, 256, (3, 4)), jnp.uint8)


def encode(fields):
  return fields["image"] / 127.5 - 1


def scene(cond=COND, label=LABEL):
  frozen = {run.place: run.params for run in RUNS.values()}
  return Scene(
    SCHEDULE,
    conditional,
    cond,
    jnp.zeros_like(cond),
    frozen,
    {"label": label, "observed": SEEN[label], "image": SEEN[label]},
    encode,
  )


def make(name, **options):
  guide = GUIDES[name](**({"run": RUNS[name]} if name in RUNS else {}), **options)
  return seen_as(guide, SHAPES[name]) if name in SHAPES else guide


SHAPES = {"reconstruction": (2, 2, 1), "frames": (2, 1, 2, 1)}  # in which a guide sees the numbers


def seen_as(guide, inner):
  """The guide, of numbers [B, 4] that it sees as pictures of 2 x 2 pixels, or videos of 2 frames."""

  def shaped(denoiser, *shape):
    return lambda xt, t: jax.tree.map(
      lambda x: x.reshape(-1, *shape),
      denoiser(xt.reshape(len(xt), *(inner if shape == (4,) else (4,))), t),
    )

  def apply(denoiser, scene):
    pictures = lambda fields: encode(fields).reshape(-1, *inner)
    return shaped(guide.apply(shaped(denoiser, *inner), scene._replace(encode=pictures)), 4)

  return dataclasses.replace(guide, apply=apply)


T = jnp.asarray([0.1, 0.5, 0.9])
NEUTRAL = {
  "clip": {},
  "threshold": {},
  "classifier_free": {"w": 0.0},
  "autoguidance": {"w": 0.0},
  "classifier": {"w": 0.0},
  "frames": {"given": ()},
  "reconstruction": {"w": 0.0},
}
STRONG = {
  "clip": {},
  "threshold": {},
  "classifier_free": {"w": 2.0},
  "autoguidance": {},
  "classifier": {},
  "frames": {"field": "image"},
  "reconstruction": {},
}


def with_variance(scale):
  """The conditional model times a number, and a learned variance."""

  def conditional(cond):
    inner = plain(cond)
    return lambda xt, t: Estimate(scale * inner(xt, t).x0, 0.1 * xt)

  return conditional


@pytest.mark.parametrize("name", GUIDES)
def test_without_strength_or_need_a_guide_leaves_the_denoiser_alone(name):
  """The estimates lie in [-1, 1], where clipping and thresholding have nothing to do."""
  conditional = with_variance(0.1)
  guided = make(name, **NEUTRAL[name]).apply(conditional(COND), scene()._replace(conditional=conditional))
  got, expected = guided(XT, T), conditional(COND)(XT, T)
  assert np.abs(expected.x0).max() < 1
  np.testing.assert_allclose(got.x0, expected.x0, rtol=1e-6)
  np.testing.assert_array_equal(got.var_frac, expected.var_frac)


@pytest.mark.parametrize("name", GUIDES)
def test_a_guide_that_has_strength_changes_each_example_by_itself_and_keeps_its_variance(name):
  conditional = with_variance(3.0)

  def run(xt, t, cond, label):
    guide = make(name, **STRONG[name])
    return guide.apply(conditional(cond), scene(cond, label)._replace(conditional=conditional))(xt, t)

  run = jax.jit(run)
  whole, plain = run(XT, T, COND, LABEL), conditional(COND)(XT, T)
  assert np.all(np.abs(whole.x0 - plain.x0).max(1) > 1e-3)
  np.testing.assert_array_equal(whole.var_frac, plain.var_frac)
  order = jnp.asarray([2, 0, 2])  # other company, at other places
  again = run(XT[order], T[order], COND[order], LABEL[order])
  np.testing.assert_allclose(again.x0, whole.x0[order], rtol=1e-5, atol=1e-6)


def test_clip_and_threshold_are_numpys():
  """Saharia et al. 2022, section 2.3: s the quantile of |x0|, at least 1; x0 clipped to [-s, s] and divided by s."""
  x0 = np.random.default_rng(0).normal(size=(3, 40)) * np.array([[0.1], [1.0], [4.0]])
  denoiser = lambda xt, t: Estimate(xt)
  given = jnp.asarray(x0, jnp.float32)
  got = GUIDES["clip"]().apply(denoiser, scene())(given, T).x0
  np.testing.assert_allclose(got, np.clip(x0, -1, 1), rtol=1e-6)
  for quantile in (0.5, 0.9, 0.995):
    got = GUIDES["threshold"](percentile=quantile).apply(denoiser, scene())(given, T).x0
    s = np.maximum(np.quantile(np.abs(x0), quantile, axis=1, keepdims=True), 1)
    assert s[0] == 1 and s[2] > 1
    np.testing.assert_allclose(got, np.clip(x0, -s, s) / s, rtol=1e-5)


def test_the_guide_of_no_classifier_is_the_paper_within_its_interval():
  guide = GUIDES["classifier_free"](w=2.0, sigma_min=0.28, sigma_max=2.9)
  got = guide.apply(conditional(COND), scene())(XT, time_at([0.2, 1.0, 4.0])).x0
  with_cond, without = (conditional(c)(XT, time_at([0.2, 1.0, 4.0])).x0 for c in (COND, NULL))
  np.testing.assert_allclose(got[::2], with_cond[::2], rtol=1e-6)
  np.testing.assert_allclose(got[1], 3 * with_cond[1] - 2 * without[1], rtol=1e-5)
  with pytest.raises(ConfigError, match="^sigma_min is 2.0 and sigma_max 0.5"):
    GUIDES["classifier_free"](w=1.0, sigma_min=2.0, sigma_max=0.5)


@pytest.mark.parametrize("w", [0.5, 1.0])
def test_autoguidance_goes_away_from_the_lesser_model(w):
  """D + w (D - D_bad) in closed form, the lesser model's parameters those of the frozen run."""
  got = make("autoguidance", w=w).apply(conditional(COND), scene())(XT, T).x0
  alpha, sigma = (np.asarray(c, np.float64)[:, None] for c in SCHEDULE.alpha_sigma(T))
  mean = np.asarray(COND, np.float64)[:, None] * np.arange(1, 5)
  of = lambda var: mean + alpha * var / (alpha**2 * var + sigma**2) * (np.asarray(XT) - alpha * mean)
  np.testing.assert_allclose(got, (1 + w) * of(VAR) - w * of(1.0), rtol=1e-4, atol=1e-5)


def test_a_classifier_turns_the_mixture_into_the_component_that_is_asked_for():
  with jax.enable_x64(True):
    component = gaussian_denoiser(SCHEDULE, jnp.asarray(MEANS)[LABEL], jnp.asarray(VARS)[LABEL][:, None])
    xt, t = jnp.asarray(XT, jnp.float64), jnp.asarray(T, jnp.float64)
    got = make("classifier").apply(mixture(), scene())(xt, t).x0
    assert np.abs(got - mixture()(xt, t).x0).max() > 0.1
    np.testing.assert_allclose(got, component(xt, t).x0, rtol=1e-7)


@pytest.mark.parametrize("noise", [0.0, 0.4])
@pytest.mark.parametrize("operator", ["average", "hole"])
def test_reconstruction_is_its_formula_where_the_denoiser_is_linear(operator, noise):
  """D = m + k (x - alpha m), so that D - w alpha / 2 grad |y - A D|^2 = D + w alpha k A^T (y - A D)."""
  rng, w = np.random.default_rng(5), 1.5
  xt, y_of = rng.normal(size=(2, 8, 8, 3)), rng.integers(0, 256, (2, 8, 8, 3))
  matrix = np.zeros((64, 64))  # A^T A
  rows = np.arange(64).reshape(8, 8)
  if operator == "average":
    for block in rows.reshape(4, 2, 4, 2).transpose(0, 2, 1, 3).reshape(16, 4):
      matrix[np.ix_(block, block)] = 1 / 16
  else:
    outside = np.delete(rows.ravel(), rows[2:6, 2:6].ravel())
    matrix[outside, outside] = 1
  with jax.enable_x64(True):
    alpha, sigma = (np.asarray(part) for part in SCHEDULE.alpha_sigma(jnp.asarray(0.6)))
    k = alpha * VAR / (alpha**2 * VAR + sigma**2)
    x0 = 0.1 + k * (xt - alpha * 0.1)
    gap = (y_of / 127.5 - 1 - x0).reshape(2, 64, 3)
    gain = w * alpha * k * sigma**2 / (sigma**2 + w * (alpha * noise) ** 2)
    expected = x0 + gain * np.einsum("ij,bjc->bic", matrix, gap).reshape(x0.shape)
    guide = GUIDES["reconstruction"](operator=operator, size=2, w=w, noise=noise)
    seen = scene()._replace(data={"observed": jnp.asarray(y_of)})
    got = guide.apply(gaussian_denoiser(SCHEDULE, 0.1, VAR), seen)(jnp.asarray(xt), jnp.full(2, 0.6)).x0
  np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_blocks_that_do_not_fit_are_refused():
  with pytest.raises(ConfigError, match="size is 3, which does not divide 8 x 8 pixels"):
    OPERATORS["average"](jnp.zeros((1, 8, 8, 1)), 3, ())


def test_guides_fold_in_their_order():
  double = Guide(lambda denoiser, scene: lambda xt, t: Estimate(2 * denoiser(xt, t).x0))
  denoiser = lambda xt, t: Estimate(xt)
  assert folded((), denoiser, scene()) is denoiser
  x, clip = jnp.asarray([[0.3, 0.7, 3.0]] * 3), GUIDES["clip"]()
  np.testing.assert_allclose(folded((double, clip), denoiser, scene())(x, T).x0[0], [0.6, 1, 1])
  np.testing.assert_allclose(folded((clip, double), denoiser, scene())(x, T).x0[0], [0.6, 1.4, 2])


def test_what_guides_say_of_themselves():
  """A null is needed where there is a weight, bounds by what cuts, and a likelihood's model has the clip alone."""
  guides = {name: make(name, **STRONG[name]) for name in GUIDES}
  assert [name for name, guide in guides.items() if guide.first] == ["classifier_free"]
  assert [name for name, guide in guides.items() if guide.needs_null] == ["classifier_free"]
  assert not make("classifier_free", w=0.0).needs_null
  assert [name for name, guide in guides.items() if guide.needs_bounds] == ["clip", "threshold"]
  assert [name for name, guide in guides.items() if guide.likelihood] == ["clip"]
  source = ArraySource({"image": np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1)}, "f")
  request = {name: guide.request(np.arange(5), source) for name, guide in guides.items()}
  assert [name for name, fields in request.items() if fields] == ["classifier", "frames", "reconstruction"]
  np.testing.assert_array_equal(request["frames"]["image"].ravel(), [0, 1, 2, 0, 1])
  np.testing.assert_array_equal(request["reconstruction"]["observed"].ravel(), [0, 1, 2, 0, 1])
  with pytest.raises(ConfigError, match="field names rows of the training data"):
    guides["reconstruction"].request(np.arange(5), None)
  np.testing.assert_array_equal(request["classifier"]["label"], [0, 1, 0, 1, 0])


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_is_linear_and_sees_each_example_alone(name):
  rng, see = np.random.default_rng(0), lambda x: np.asarray(OPERATORS[name](x, 2, (0, 2)))
  x, y = (jnp.asarray(rng.standard_normal((3, 4, 4, 6, 1)), jnp.float32) for _ in range(2))
  np.testing.assert_allclose(see(2 * x - y), 2 * see(x) - see(y), atol=1e-5)
  np.testing.assert_array_equal(see(x[1:2]), see(x)[1:2])
  assert np.abs(see(x)).max() > 0.5
