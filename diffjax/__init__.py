"""Diffusion models in JAX and Flax; README.md says how to use it."""


def load(place: str):
  """A trained run, "runs/digits" or "runs/digits@1000:raw", with .sample, .denoiser, .params and .config.

  Raises:
    ConfigError: there is no such run or checkpoint; see jobs/trained.py.
  """
  from diffjax.jobs import sampling  # with the whole library behind it

  return sampling.load(place)
