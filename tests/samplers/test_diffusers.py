"""Samplers step by step against diffusers' schedulers on the same network and the same noise.

The trajectories are in diffusers.npz, made by make_diffusers.py; the marked test makes them again. Ours are
float64; theirs have float32 coefficients.
"""

import functools

import jax
import jax.numpy as jnp
import make_diffusers
import numpy as np
import pytest

from diffjax import keys
from diffjax.denoisers import network_denoiser
from diffjax.predictions import INPUT_SCALES, ROWS, TIME_INPUTS, Prediction
from diffjax.samplers import SAMPLERS
from diffjax.samplers.grids import GRIDS
from diffjax.schedules import SCHEDULES

STEPS, SHAPE = make_diffusers.STEPS, make_diffusers.SHAPE


def stored(name):
  with np.load(make_diffusers.PATH, allow_pickle=False) as file:
    return file[name]


def in_vp(schedule, times, x):
  """Their x0 + sigma eps as our alpha x0 + sigma eps."""
  alpha = np.append(np.asarray(schedule.alpha_sigma(jnp.asarray(times))[0]), 1)
  return alpha[:, None, None] * x


def of_rows(schedule):
  return (stored("rows") + 1) / 1000


DDPM = ("linear", lambda schedule: GRIDS["leading"](schedule, STEPS))
EDM = ("edm", lambda schedule: GRIDS["karras"](schedule, STEPS))
SD = ("scaled_linear", of_rows)
# Steps at their end that are not ours: of plms the last extrapolates where ours is D(x, t_min), and of unipc_3 the
# one before it is of order 2.
UNFINISHED = {"plms": 1, "unipc_3": 2}
CASES = {
  "ddpm_fixed_small": ("ancestral", {"variance": "fixed_small"}, *DDPM),
  "ddpm_fixed_large": ("ancestral", {"variance": "fixed_large"}, *DDPM),
  "ddim_0.0": ("ddim", {"eta": 0.0}, *DDPM),
  "ddim_0.5": ("ddim", {"eta": 0.5}, *DDPM),
  "ddim_1.0": ("ddim", {"eta": 1.0}, *DDPM),
  "plms": ("plms", {"begin": "heun"}, *DDPM),
  "heun": ("heun", {}, "scaled_linear", lambda schedule: GRIDS["karras"](schedule, STEPS)),
  "edm_euler": ("euler", {}, *EDM),
  "edm_dpmsolver++": ("dpmpp_2m", {}, *EDM),
  "edm_sde-dpmsolver++": ("dpmpp_2m_sde", {}, *EDM),
  "dpmsolver++": ("dpmpp_2m", {}, *SD),
  "sde-dpmsolver++": ("dpmpp_2m_sde", {}, *SD),
  "unipc_2": ("unipc_2", {}, *SD),
  "unipc_3": ("unipc_3", {}, *SD),
}


@pytest.mark.parametrize("name", CASES)
def test_the_trajectory_is_theirs(name, monkeypatch):
  sampler_name, options, schedule_name, grid_of = CASES[name]
  theirs, edm = stored(name), schedule_name == "edm"
  with jax.enable_x64(True):
    schedule, sampler = SCHEDULES[schedule_name](), SAMPLERS[sampler_name](**options)
    grid = grid_of(schedule)
    if name == "heun":
      theirs = in_vp(schedule, grid, theirs)
    network = functools.partial(make_diffusers.network, xp=jnp)
    prediction = Prediction(
      ROWS["edm" if edm else "eps"],
      INPUT_SCALES["unit" if edm else "none"],
      TIME_INPUTS["log_sigma" if edm else "index"],
    )
    denoiser = network_denoiser(
      lambda x, time, dropout_keys: network(x, (400 * time if edm else time)[:, None]), schedule, prediction
    )

    @functools.partial(jax.jit, static_argnums=0)
    def step(sampler, carry, t, s, noise):
      monkeypatch.setattr(keys, "normal", lambda keys, shape, dtype: noise)
      return sampler.step(denoiser, schedule, carry, t, s, keys.of_examples(keys.seed(0), jnp.arange(3)))

    supply = jnp.asarray(make_diffusers.noises())
    carry, ours = sampler.start(jnp.asarray(theirs[0])), []
    for k in range(STEPS - 1):
      carry = step(sampler, carry, grid[k], grid[k + 1], supply[k])
      ours.append(carry.x)
    ours.append(denoiser(carry.x, jnp.asarray(grid[-1])).x0)
    ours = np.asarray(jnp.stack(ours))
  error = np.abs(ours - theirs[1:]).max((1, 2)) / np.abs(theirs[1:]).max((1, 2))
  error = error[: STEPS - UNFINISHED.get(name, 0)]
  assert error.max() < 1e-4, error


@pytest.mark.parametrize("grid, options", [("leading", {"offset": 1}), ("linspace", {})])
@pytest.mark.parametrize("multistep", [False, True])
def test_the_rows_are_theirs(grid, options, multistep):
  times = GRIDS[grid](SCHEDULES["linear"](), STEPS, **options, without_row_0=multistep)
  theirs = stored(f"rows_{grid}{'_multistep' * multistep}")
  np.testing.assert_array_equal(np.round(times * 1000 - 1).astype(int), theirs)


@pytest.mark.torch
def test_the_stored_trajectories_are_diffusers():
  for package in ("torch", "diffusers"):
    pytest.importorskip(package, reason="makes the trajectories again, with the packages torch and diffusers")
  for name, again in make_diffusers.generate().items():
    np.testing.assert_allclose(stored(name), again, rtol=1e-5, atol=1e-5)
