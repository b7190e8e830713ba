"""Clips whose frames are jointly Gaussian, some given: replacement and reconstruction guidance against closed forms.

Eight frames of one pixel, covariance 0.25 0.9^|i - j|; given are the values (0.5, 0.3, 0.6, 0.4) of the first four, and
the clip goes on, or of four from its first to its last, and it is filled in. Ancestral sampling along 250 rows of the
cosine table. Every denoiser is affine, so means and covariances pass the walk exactly. The means were computed apart
from this library, and so were those of the true posteriors.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.data.source import Field
from diffjax.denoisers import Estimate
from diffjax.guidance import GUIDES, Scene, folded
from diffjax.schedules import SCHEDULES
from diffjax.types import ConfigError

COVARIANCE = 0.25 * 0.9 ** np.abs(np.subtract.outer(np.arange(8), np.arange(8)))
GIVEN = np.array([0.5, 0.3, 0.6, 0.4])
FIRST, BETWEEN = (0, 1, 2, 3), (0, 2, 4, 7)
POSTERIOR = {FIRST: [0.36, 0.324, 0.2916, 0.2624], BETWEEN: [0.3978, 0.4475, 0.5277, 0.4613]}
MEANS = {  # of the other frames, by those that are given and the weight of reconstruction
  (FIRST, 0.0): [0.2898, 0.2231, 0.1808, 0.1540],
  (FIRST, 1.0): [0.3344, 0.2783, 0.2362, 0.2059],
  (FIRST, 2.0): [0.3668, 0.3218, 0.2815, 0.2489],
  (BETWEEN, 0.0): [0.3552, 0.3805, 0.3830, 0.3408],
  (BETWEEN, 1.0): [0.3886, 0.4249, 0.4539, 0.4011],
  (BETWEEN, 2.0): [0.4031, 0.4450, 0.4975, 0.4360],
}


def denoiser(schedule):
  """E[x0 | x_t] of the frames, exactly."""

  def denoise(xt, t):
    alpha, sigma = (part[:, None, None] for part in schedule.alpha_sigma(t))
    both = alpha**2 * COVARIANCE + sigma**2 * jnp.eye(8)
    solved = jnp.linalg.solve(both, xt.reshape(-1, 8, 1))
    return Estimate((alpha * (COVARIANCE @ solved)).reshape(xt.shape))

  return denoise


@functools.cache
def walked(given, w, replaced=True):
  """Mean [8] and covariance [8, 8] of what is drawn."""
  with jax.enable_x64(True):
    schedule = SCHEDULES["cosine"](steps=250)
    times = jnp.arange(1, 251) / 250
    seen = np.zeros((1, 8, 1, 1, 1))
    seen[0, given, 0, 0, 0] = GIVEN
    data = {"video": jnp.asarray(seen), "observed": jnp.asarray(seen)}
    scene = Scene(schedule, None, None, None, {}, data, lambda fields: fields["video"])
    guides = [GUIDES["reconstruction"](operator="frames", given=given, w=w, field="video")]
    guides += [GUIDES["frames"](given=given)] if replaced else []
    guided = folded(tuple(guides), denoiser(schedule), scene)
    at = lambda x, t: guided(x.reshape(1, 8, 1, 1, 1), t[None]).x0.reshape(8)
    both = jax.jit(jax.vmap(lambda t: (jax.jacobian(at)(jnp.zeros(8), t), at(jnp.zeros(8), t))))
    matrices, shifts = (np.asarray(part) for part in both(times))
    alpha, sigma = (np.asarray(part) for part in schedule.alpha_sigma(times))
  mean, covariance = np.zeros(8), np.eye(8)
  for i in range(249, 0, -1):
    ratio = alpha[i] / alpha[i - 1]
    fresh = sigma[i] ** 2 - ratio**2 * sigma[i - 1] ** 2
    of_x0, of_xt = alpha[i - 1] * fresh / sigma[i] ** 2, ratio * sigma[i - 1] ** 2 / sigma[i] ** 2
    step = of_x0 * matrices[i] + of_xt * np.eye(8)
    mean = step @ mean + of_x0 * shifts[i]
    covariance = step @ covariance @ step.T + fresh * sigma[i - 1] ** 2 / sigma[i] ** 2 * np.eye(8)
  return matrices[0] @ mean + shifts[0], matrices[0] @ covariance @ matrices[0].T


def sampled(given, w, count=4000):
  """Clips [count, 8] drawn in numpy: equation (7) of Ho et al. (2022), and the given frames put in their places."""
  alpha, sigma = (
    np.asarray(part, float) for part in SCHEDULES["cosine"](steps=250).alpha_sigma(jnp.arange(1, 251) / 250)
  )
  rng, given = np.random.default_rng(0), list(given)
  x = rng.standard_normal((count, 8))
  for i in range(249, -1, -1):
    exact = alpha[i] * COVARIANCE @ np.linalg.inv(alpha[i] ** 2 * COVARIANCE + sigma[i] ** 2 * np.eye(8))
    x0 = x @ exact.T
    x0 += w * alpha[i] * (GIVEN - x0[:, given]) @ exact[given]
    x0[:, given] = GIVEN
    if not i:
      return x0
    ratio = alpha[i] / alpha[i - 1]
    fresh = 1 - (ratio * sigma[i - 1] / sigma[i]) ** 2
    noise = sigma[i - 1] * fresh**0.5 * rng.standard_normal(x.shape)
    x = alpha[i - 1] * fresh * x0 + (1 - fresh) / ratio * x + noise


@pytest.mark.parametrize("given, w", MEANS)
def test_means_and_variances_are_those_of_clips_drawn_one_by_one(given, w):
  clips, (mean, covariance) = sampled(given, w), walked(given, w)
  np.testing.assert_allclose(clips.mean(0), mean, atol=0.02)
  np.testing.assert_allclose(clips.var(0), np.diag(covariance), rtol=0.1, atol=1e-9)


@pytest.mark.parametrize("given, w", MEANS)
def test_means_are_those_of_the_closed_form_and_given_frames_stay(given, w):
  mean, covariance = walked(given, w)
  others = np.setdiff1d(np.arange(8), given)
  np.testing.assert_allclose(mean[others], MEANS[given, w], atol=1e-4)
  np.testing.assert_allclose(mean[list(given)], GIVEN, atol=1e-9)
  np.testing.assert_allclose(covariance[list(given)], 0, atol=1e-12)


@pytest.mark.parametrize("given", POSTERIOR)
def test_reconstruction_forgets_less_than_replacement(given):
  weights = [w for frames, w in MEANS if frames == given]
  others = np.setdiff1d(np.arange(8), given)
  gaps = [np.abs(walked(given, w)[0][others] - POSTERIOR[given]).max() for w in weights]
  assert gaps[0] > 0.1 > 0.05 > gaps[-1] and gaps == sorted(gaps, reverse=True)
  variances = [np.diag(walked(given, w)[1])[others] for w in weights]
  assert all((low < high).all() for high, low in zip(variances, variances[1:], strict=False))


def test_without_replacement_the_given_frames_are_met_only_nearly():
  mean, covariance = walked(FIRST, 2.0, replaced=False)
  assert 1e-6 < np.abs(mean[:4] - GIVEN).max() < 1e-3 and 1e-5 < np.diag(covariance)[:4].min() < 1e-3


@pytest.mark.parametrize(
  "guide, options, message",
  [
    (
      "reconstruction",
      {"operator": "frames", "field": "film"},
      "field is 'film', which the data do not have; theirs are video",
    ),
    (
      "reconstruction",
      {"operator": "frames", "given": (6,), "field": "video"},
      "given is (6,), and the data",
    ),
    ("frames", {"given": (1, 6)}, "given is (1, 6), and the data are of shape (6, 4, 4, 1)"),
    ("frames", {"given": tuple(range(6))}, "it needs videos of more frames"),
    ("frames", {"given": (0,), "field": "image"}, "given is (0,), and the data are of shape (4, 4, 1)"),
    ("frames", {"given": (1, 1)}, "none may stand there twice"),
    ("frames", {"given": (-1,)}, "every element must be at least 0"),
  ],
)
def test_rows_and_frames_that_the_data_do_not_have_are_refused_at_once(guide, options, message):
  with pytest.raises(ConfigError, match=re.escape(message)):
    GUIDES[guide](
      fields={name: Field((6, 4, 4, 1)[start:], "uint8") for start, name in enumerate(("video", "image"))},
      **options,
    )
