"""Extending a clip whose frames are jointly Gaussian: replacement and reconstruction guidance against closed forms.

Eight frames of one pixel, covariance 0.25 0.9^|i - j|, the first four (0.5, 0.3, 0.6, 0.4); ancestral sampling along
250 rows of the cosine table. Every denoiser is affine, so means and covariances pass the walk exactly. The means were
computed apart from this library, and so was that of the true posterior.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.data.source import Field
from diffjax.denoisers import Estimate
from diffjax.guidance import GUIDES, OPERATORS, Scene, folded
from diffjax.schedules import SCHEDULES
from diffjax.types import ConfigError

COVARIANCE = 0.25 * 0.9 ** np.abs(np.subtract.outer(np.arange(8), np.arange(8)))
GIVEN = np.array([0.5, 0.3, 0.6, 0.4])
POSTERIOR = [0.36, 0.324, 0.2916, 0.2624]
MEANS = {  # of frames 4 to 7, by the weight of reconstruction
  0.0: [0.2898, 0.2231, 0.1808, 0.1540],
  1.0: [0.3344, 0.2783, 0.2362, 0.2059],
  2.0: [0.3668, 0.3218, 0.2815, 0.2489],
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
def walked(w, replaced=True):
  """Mean [8] and covariance [8, 8] of what is drawn."""
  with jax.enable_x64(True):
    schedule = SCHEDULES["cosine"](steps=250)
    times = jnp.arange(1, 251) / 250
    seen = np.pad(GIVEN, (0, 4)).reshape(1, 8, 1, 1, 1)
    data = {"video": jnp.asarray(seen), "observed": jnp.asarray(seen)}
    scene = Scene(schedule, None, None, None, {}, data, lambda fields: fields["video"])
    guides = [GUIDES["reconstruction"](operator="first", size=4, w=w, field="video")]
    guides += [GUIDES["frames"](given=4)] if replaced else []
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


@pytest.mark.parametrize("w", MEANS)
def test_means_are_those_of_the_closed_form_and_given_frames_stay(w):
  mean, covariance = walked(w)
  np.testing.assert_allclose(mean[4:], MEANS[w], atol=1e-4)
  np.testing.assert_allclose(mean[:4], GIVEN, atol=1e-9)
  np.testing.assert_allclose(covariance[:4], 0, atol=1e-12)


def test_reconstruction_forgets_less_than_replacement():
  gaps = [np.abs(walked(w)[0][4:] - POSTERIOR).max() for w in (0.0, 1.0, 2.0)]
  assert gaps[0] > 0.1 > gaps[1] > 0.05 > gaps[2]
  variances = [np.diag(walked(w)[1])[4:] for w in (0.0, 1.0, 2.0)]
  assert all((low < high).all() for high, low in zip(variances, variances[1:], strict=False))


def test_without_replacement_the_given_frames_are_met_only_nearly():
  mean, covariance = walked(2.0, replaced=False)
  assert 1e-6 < np.abs(mean[:4] - GIVEN).max() < 1e-3 and 1e-5 < np.diag(covariance)[:4].min() < 1e-3


def test_more_frames_than_there_are_cannot_be_given():
  with pytest.raises(ConfigError, match="the operator needs more frames"):
    OPERATORS["first"](jnp.zeros((1, 4, 2, 2, 1)), 4)
  with pytest.raises(ConfigError, match="the operator needs more frames"):
    OPERATORS["first"](jnp.zeros((4, 4, 2, 1)), 2)


@pytest.mark.parametrize(
  "guide, options, message",
  [
    (
      "reconstruction",
      {"operator": "first"},
      "field is 'image', which the data do not have; theirs are video",
    ),
    ("reconstruction", {"operator": "first", "size": 6, "field": "video"}, "size is 6"),
    ("frames", {"given": 6}, "given is 6, and field 'video' of shape (6, 4, 4, 1)"),
  ],
)
def test_rows_and_frames_that_the_data_do_not_have_are_refused_at_once(guide, options, message):
  with pytest.raises(ConfigError, match=re.escape(message)):
    GUIDES[guide](fields={"video": Field((6, 4, 4, 1), "uint8")}, **options)
