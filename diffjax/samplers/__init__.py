"""Samplers by name. A solver family is one file and its entries here."""

from collections.abc import Callable

from diffjax import ranges
from diffjax.samplers import ancestral, ddim, dpm_solver, dpmpp, euler, langevin, ode, plms, sde, unipc
from diffjax.samplers.base import Sampler

SAMPLERS: dict[str, Callable[..., Sampler]] = ranges.checked(
  {
    "ancestral": ancestral.ancestral,
    "ddim": ddim.ddim,
    "euler": euler.euler,
    "heun": euler.heun,
    "dpm_solver_1": dpm_solver.dpm_solver_1,
    "dpm_solver_2": dpm_solver.dpm_solver_2,
    "dpm_solver_3": dpm_solver.dpm_solver_3,
    "dpmpp_2m": dpmpp.dpmpp_2m,
    "dpmpp_3m": dpmpp.dpmpp_3m,
    "dpmpp_2m_sde": dpmpp.dpmpp_2m_sde,
    "unipc_2": unipc.unipc_2,
    "unipc_3": unipc.unipc_3,
    "plms": plms.plms,
    "euler_maruyama": sde.euler_maruyama,
    "reverse_diffusion": sde.reverse_diffusion,
    "predictor_corrector": langevin.predictor_corrector,
    "annealed_langevin": langevin.annealed_langevin,
    "adaptive_ode": ode.adaptive_ode,
  }
)
