"""The probability-flow ODE with adaptive steps, by diffrax, each example with steps of its own.

With phi = atan(sigma / alpha) and y = x / sqrt(alpha^2 + sigma^2) the ODE is the same for every schedule
and finite from end to end, also where alpha = 0 (phi = pi / 2):

    y = cos(phi) x0 + sin(phi) eps,   dy / dphi = cos(phi) eps - sin(phi) x0 = (cos(phi) y - D) / sin(phi)

(Salimans & Ho 2022, appendix D: the velocity v). A step from t to s is one solve, so that the grid may be
as short as its two ends; the tolerances decide what it costs. The error of one solver step is kept below
atol + rtol |y|, in the root mean square over an example.
"""

from typing import Annotated

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffjax.denoisers import per_example
from diffjax.gaussian import expand
from diffjax.ranges import Count, above, at_least, one_of
from diffjax.samplers.base import Carry, Sampler

SOLVERS = {"dopri5": "Dopri5", "tsit5": "Tsit5", "bosh3": "Bosh3", "dopri8": "Dopri8"}  # diffrax's names


def adaptive_ode(
  rtol: Annotated[ArrayLike, at_least(0)] = 1e-5,
  atol: Annotated[ArrayLike, above(0)] = 1e-5,
  solver: Annotated[str, one_of(SOLVERS)] = "dopri5",
  max_steps: Count = 4096,
) -> Sampler:
  """The adaptive solver (Song et al. 2021, section 4.3, have RK45 with these tolerances).

  Args:
    rtol: relative tolerance.
    atol: absolute tolerance.
    solver: one of SOLVERS.
    max_steps: an example that would need more becomes NaN.
  """
  import diffrax  # which takes half a second, and no other sampler needs it

  def step(denoiser, schedule, carry, t, s, keys):
    x = carry.x
    t, s = (jnp.broadcast_to(jnp.asarray(u, x.dtype), x.shape[:1]) for u in (t, s))
    estimate, arrays = per_example(lambda x, t: denoiser(x, t).x0, x, t)

    def velocity(phi, y, arrays):
      cos, sin = jnp.maximum(jnp.cos(phi), jnp.finfo(y.dtype).tiny), jnp.sin(phi)
      u = schedule.t_of(2 * (jnp.log(cos) - jnp.log(sin)))
      alpha, sigma = schedule.alpha_sigma(u)
      return (cos * y - estimate(arrays, y * jnp.sqrt(alpha**2 + sigma**2), u)) / sin

    def solve(y, start, end):
      solution = diffrax.diffeqsolve(
        diffrax.ODETerm(velocity),
        getattr(diffrax, SOLVERS[solver])(),
        start,
        end,
        None,
        y,
        args=arrays,
        stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol),
        adjoint=diffrax.ForwardMode(),
        max_steps=max_steps,
        throw=False,
      )
      return jnp.where(solution.result == diffrax.RESULTS.successful, solution.ys[0], jnp.nan)

    (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.alpha_sigma(t), schedule.alpha_sigma(s)
    y = x / expand(jnp.hypot(alpha_t, sigma_t), x)
    y = jax.vmap(solve)(y, jnp.arctan2(sigma_t, alpha_t), jnp.arctan2(sigma_s, alpha_s))
    return Carry(y * expand(jnp.hypot(alpha_s, sigma_s), x))

  return Sampler(step, order=None, deterministic=True, evaluations=None)
