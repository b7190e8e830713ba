"""Trajectories of diffusers' schedulers on a made-up network: python tests/samplers/make_diffusers.py writes
diffusers.npz beside this file (torch 2.13.0, diffusers 0.42.1; it needs both).

rows* are the rows that they walk. For every scheduler x[k] is the sample before step k and x[-1] the result, and
noise[k] what step k was given.
"""

import pathlib
import sys
from unittest import mock

import numpy as np

PATH = pathlib.Path(__file__).with_name("diffusers.npz")
SHAPE, STEPS = (3, 4), 10
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def network(x, time, xp=np):
  """The network: smooth, bounded, different in every dimension, and a function of both inputs."""
  return 0.8 * xp.sin(1.3 * x + xp.arange(x.shape[-1])) * xp.cos(time / 400) + 0.2 * x


def noises():
  """[STEPS, *SHAPE]."""
  return np.random.RandomState(1).standard_normal((STEPS, *SHAPE))


def _walk(scheduler, module, time_scale=1.0, calls=1, **options):
  """Runs a scheduler from fixed noise; `calls` of the network a step (the last step has one)."""
  import torch

  x = torch.tensor(np.random.RandomState(0).standard_normal(SHAPE) * float(scheduler.init_noise_sigma))
  out, supply = [x.numpy()], iter(torch.tensor(noises()))
  with mock.patch(f"diffusers.schedulers.{module}.randn_tensor", lambda *_, **__: next(supply), create=True):
    for k, t in enumerate(scheduler.timesteps):
      scaled = scheduler.scale_model_input(x, t)
      eps = torch.tensor(network(scaled.numpy(), float(t) * time_scale))
      x = scheduler.step(eps, t, x, **options).prev_sample
      if (k + 1) % calls == 0 or k + 1 == len(scheduler.timesteps):
        out.append(x.double().numpy())
  return np.stack(out)


def generate():
  """{name: [STEPS + 1, *SHAPE], or rows [STEPS]}."""
  from diffusers.schedulers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
  )

  def ready(scheduler):
    scheduler.set_timesteps(STEPS)
    return scheduler

  plain = {"clip_sample": False}
  results = {}
  for kind in ("fixed_small", "fixed_large"):
    results[f"ddpm_{kind}"] = _walk(ready(DDPMScheduler(variance_type=kind, **plain)), "scheduling_ddpm")
  for eta in (0.0, 0.5, 1.0):
    scheduler = ready(DDIMScheduler(set_alpha_to_one=True, **plain))
    results[f"ddim_{eta}"] = _walk(scheduler, "scheduling_ddim", eta=eta)
  scheduler = ready(PNDMScheduler(skip_prk_steps=True, set_alpha_to_one=True))
  results["plms"] = np.delete(
    _walk(scheduler, "scheduling_pndm"), 1, axis=0
  )  # the first step takes two calls
  results["heun"] = _walk(
    ready(HeunDiscreteScheduler(use_karras_sigmas=True, **SD)), "scheduling_heun_discrete", calls=2
  )
  edm = {"sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5}
  results["edm_euler"] = _walk(ready(EDMEulerScheduler(**edm)), "scheduling_edm_euler", time_scale=400.0)
  for kind in ("dpmsolver++", "sde-dpmsolver++"):
    second = {"algorithm_type": kind, "solver_order": 2, "solver_type": "midpoint"}
    scheduler = ready(EDMDPMSolverMultistepScheduler(**edm, **second))
    results[f"edm_{kind}"] = _walk(scheduler, "scheduling_edm_dpmsolver_multistep", time_scale=400.0)
    scheduler = ready(DPMSolverMultistepScheduler(**second, **SD))
    results[kind] = _walk(scheduler, "scheduling_dpmsolver_multistep")
    if kind == "dpmsolver++":
      results["rows"] = np.asarray(scheduler.timesteps)
  for order in (2, 3):
    scheduler = ready(UniPCMultistepScheduler(solver_order=order, **SD))
    results[f"unipc_{order}"] = _walk(scheduler, "scheduling_unipc_multistep")
  for spacing in ("leading", "linspace"):
    for kind, multistep in ((DDIMScheduler, False), (DPMSolverMultistepScheduler, True)):
      scheduler = ready(kind(timestep_spacing=spacing, steps_offset=int(spacing == "leading")))
      results[f"rows_{spacing}{'_multistep' * multistep}"] = np.asarray(scheduler.timesteps)
  return results


if __name__ == "__main__":
  np.savez_compressed(PATH, **generate())
  sys.stdout.write(f"{PATH} {PATH.stat().st_size} bytes\n")
