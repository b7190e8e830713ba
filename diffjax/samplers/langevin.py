"""Langevin dynamics at one noise level, as a corrector and on its own.

    x <- x + e score(x) + sqrt(2 e) z,   score = -eps / sigma                                         (1)

Predictor-corrector (Song et al. 2021, algorithms 1, 4 and 5) takes a step of a predictor from t to s, then
`corrections` steps of (1) at s with

    e = 2 a (snr |z| / |score|)^2,   a = (alpha_t / alpha_s)^2                                        (2)

their alpha_i: 1 under `ve`, 1 - beta under `vp`, beta that of the step just taken (they take that of the step
before s, which a step does not know; on their fine grids the two are the same). The norms are those of each
example, where their code has means over the batch. On Gaussian data the
correction alone leaves the variance too large by the factor 1 + a snr^2, in many dimensions.

Annealed Langevin dynamics (Song & Ermon 2019, algorithm 1) takes x to the scale of s and then `corrections`
steps of (1) there with e = step_size sigma_s^2 / 2; their epsilon is step_size sigma_L^2, 2e-5 for
sigma_L = 0.01. Its first level is that of the grid's second time: x_1 is drawn from the prior as it is.
On Gaussian data whose x_s has variance V it settles at the variance V / (1 - step_size sigma_s^2 / (4 V)).
"""

from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp

from diffjax import keys as draws
from diffjax.gaussian import expand, implied_eps, sum_dims
from diffjax.ranges import Count, Positive, Whole, one_of
from diffjax.samplers import ancestral, sde
from diffjax.samplers.base import Carry, Sampler


def _shrink(denoiser, schedule, carry, t, s, keys):
  """To the scale of s without a call: x / alpha is kept, or x / sigma where alpha_t = 0."""
  (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.alpha_sigma(t), schedule.alpha_sigma(s)
  scale = jnp.where(alpha_t > 0, alpha_s / jnp.where(alpha_t > 0, alpha_t, 1), sigma_s / sigma_t)
  return Carry(expand(scale, carry.x) * carry.x)


PREDICTORS: dict[str, Callable[[], Sampler]] = {
  "reverse_diffusion": sde.reverse_diffusion,
  "euler_maruyama": sde.euler_maruyama,
  "ancestral": ancestral.ancestral,
}


def _corrected(predict: Callable, corrections: int, size: Callable) -> Callable:
  """A predictor's step and then `corrections` steps of (1) at s, e = size(schedule, t, s, score, z)."""

  def step(denoiser, schedule, carry, t, s, keys):
    x = predict(denoiser, schedule, carry, t, s, draws.purpose(keys, "predictor")).x
    sigma = expand(schedule.alpha_sigma(s)[1], x)
    corrector_keys = draws.purpose(keys, "corrector")

    def correct(k, x):
      noise = draws.normal(draws.fold(corrector_keys, k), x.shape[1:], x.dtype)
      score = -implied_eps(schedule, denoiser(x, s).x0, x, s) / sigma
      e = expand(size(schedule, t, s, score, noise), x)
      return x + e * score + jnp.sqrt(2 * e) * noise

    return Carry(jax.lax.fori_loop(0, corrections, correct, x))

  return step


def predictor_corrector(
  predictor: Annotated[str, one_of(PREDICTORS)] = "reverse_diffusion",
  corrections: Whole = 1,
  snr: Positive = 0.16,
) -> Sampler:
  """Predictor-corrector sampling.

  Args:
    predictor: one of PREDICTORS.
    corrections: Langevin steps after each step of the predictor.
    snr: the signal-to-noise ratio of equation (2): 0.16 for their VE, 0.01 to 0.2 for others.
  """

  def size(schedule, t, s, score, noise):
    alpha_t, alpha_s = schedule.alpha_sigma(t)[0], schedule.alpha_sigma(s)[0]
    a = jnp.where(alpha_t > 0, (alpha_t / alpha_s) ** 2, 1)
    return 2 * a * snr**2 * sum_dims(noise**2) / sum_dims(score**2)

  step = _corrected(PREDICTORS[predictor]().step, corrections, size)
  return Sampler(step, order=None, deterministic=False, evaluations=1 + corrections)


def annealed_langevin(corrections: Count = 100, step_size: Positive = 0.2) -> Sampler:
  """Annealed Langevin dynamics (NCSN).

  Args:
    corrections: Langevin steps at each noise level.
    step_size: in units of the level's variance.
  """

  def size(schedule, t, s, score, noise):
    return step_size * schedule.alpha_sigma(s)[1] ** 2 / 2

  step = _corrected(_shrink, corrections, size)
  return Sampler(step, order=None, deterministic=False, evaluations=corrections)
