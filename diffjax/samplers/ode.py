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
from jax.custom_batching import custom_vmap
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.typing import ArrayLike

from diffjax.denoisers import Denoiser
from diffjax.gaussian import expand
from diffjax.ranges import Count, above, at_least
from diffjax.samplers.base import Carry, Sampler
from diffjax.types import Batch, ConfigError, PerExample

SOLVERS = {"dopri5": "Dopri5", "tsit5": "Tsit5", "bosh3": "Bosh3", "dopri8": "Dopri8"}  # diffrax's names


def _per_example(denoiser: Denoiser, x: Batch, t: PerExample):
  """The denoiser as a function of one example, to be called under vmap only, and the arrays that it needs.

  A denoiser is bound to the conditions of its batch, so that it cannot be mapped over single examples:
  under vmap the function calls it once, with all of them.
  """
  closed = jax.make_jaxpr(lambda x, t: denoiser(x, t).x0)(x, t)

  @custom_vmap
  def estimate(x, t, arrays):
    return x  # the shape alone: the rule below is what runs

  @estimate.def_vmap
  def rule(size, batched, x, t, arrays):
    x, t = (
      v if b else jnp.broadcast_to(v, (size, *v.shape)) for v, b in zip((x, t), batched[:2], strict=True)
    )
    return jaxpr_as_fun(ClosedJaxpr(closed.jaxpr, arrays))(x, t)[0], True

  return estimate, closed.consts


def adaptive_ode(
  rtol: Annotated[ArrayLike, at_least(0)] = 1e-5,
  atol: Annotated[ArrayLike, above(0)] = 1e-5,
  solver: str = "dopri5",
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

  if solver not in SOLVERS:
    raise ConfigError(
      f"config.sample.adaptive_ode.solver is {solver!r}, but it must be one of {', '.join(SOLVERS)}."
    )

  def step(denoiser, schedule, carry, t, s, keys):
    x = carry.x
    t, s = (jnp.broadcast_to(jnp.asarray(u, x.dtype), x.shape[:1]) for u in (t, s))
    estimate, arrays = _per_example(denoiser, x, t)

    def velocity(phi, y, arrays):
      cos, sin = jnp.maximum(jnp.cos(phi), jnp.finfo(y.dtype).tiny), jnp.sin(phi)
      u = schedule.t_of(2 * (jnp.log(cos) - jnp.log(sin)))
      alpha, sigma = schedule.alpha_sigma(u)
      return (cos * y - estimate(y * jnp.sqrt(alpha**2 + sigma**2), u, arrays)) / sin

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
