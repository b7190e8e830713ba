"""A sampler from outside: DDIM's step, part of the way to the mean of the data."""

from diffjax.gaussian import expand
from diffjax.ranges import Share
from diffjax.samplers import SAMPLERS
from diffjax.samplers.base import Carry, Sampler


def cautious(pull: Share = 0.0) -> Sampler:
  """With x0 scaled by 1 - pull."""

  def step(denoiser, schedule, carry, t, s, keys):
    (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.alpha_sigma(t), schedule.alpha_sigma(s)
    x0 = (1 - pull) * denoiser(carry.x, t).x0
    eps = (carry.x - expand(alpha_t, x0) * x0) / expand(sigma_t, x0)
    return Carry(expand(alpha_s, x0) * x0 + expand(sigma_s, x0) * eps)

  return Sampler(step, order=1, deterministic=True)


SAMPLERS["cautious"] = cautious
