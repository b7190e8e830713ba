"""Schedules that share a compile: a sampler is traced once and told afterwards which of them it walks."""

import jax
import jax.numpy as jnp

from diffjax.schedules import Schedule


class OneOf(Schedule):
  """The schedule number `index`, which may be traced, of `schedules`, as samplers and denoisers see it."""

  def __init__(self, schedules, index):
    object.__setattr__(self, "_schedules", schedules)
    object.__setattr__(self, "_index", index)

  def _call(self, name, value):
    branches = [lambda v, s=schedule: getattr(s, name)(v) for schedule in self._schedules]
    return jax.lax.switch(self._index, branches, jnp.asarray(value, float))

  def logsnr(self, t):
    return self._call("logsnr", t)

  def t_of(self, logsnr):
    return self._call("t_of", logsnr)

  def alpha_sigma(self, t):
    return self._call("alpha_sigma", t)

  def derivatives(self, t):
    return self._call("derivatives", t)

  def prior_std(self, t=1.0):
    return self._call("prior_std", t)
