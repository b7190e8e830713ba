"""Whether what sampling visits first is noise, and was trained.

At the first time t of a grid, where alpha x0 + sigma eps is drawn as prior_std eps,

    signal   alpha spread / prior_std, of data in [-spread, spread] or of that standard deviation     (1)
    weight   w(t) / max w, on the squared error of the network's own answer                           (2)

(1) is 0.006 for DDPM's schedule, 0.0125 for EDM's, 0.07 for Stable Diffusion's and 0.08 for VDM's; what is left of
the data is missing in every sample (Lin et al. 2024), unless Langevin steps make up for it. Where (2) is 0 nothing was
learned: a table's row never, and a continuous time only as far as the network is smooth.
"""

import numpy as np

from diffjax.predictions import Row, error_scale
from diffjax.samplers.base import Sampler
from diffjax.schedules import Schedule
from diffjax.types import Unsuitable
from diffjax.weights import Weight

SOME, MUCH = 0.2, 0.5  # signal that is warned of, and that is refused
NONE = 1e-12  # weight that is none


def check(
  schedule: Schedule, sampler: Sampler, grid: np.ndarray, weight: Weight, row: Row, spread: float
) -> tuple[str, ...]:
  """Warnings about equations (1) and (2), or none.

  Args:
    schedule: the schedule.
    sampler: the sampler; one that draws and claims no order settles at each level whatever it began with.
    grid: the times that it visits.
    weight: of the loss.
    row: what the network answers.
    spread: of the data.

  Raises:
    Unsuitable: a start that is far from noise, or a row that has no weight.
  """
  times = np.linspace(schedule.t_min, 1, 100)
  if schedule.steps is not None:
    times = np.round(times * schedule.steps) / schedule.steps
  t = np.asarray([grid[0], *times], np.float32)
  weights = np.asarray(weight.of(schedule, t, row) / error_scale(row, schedule, t))
  alpha, sigma, prior = map(np.asarray, (*schedule.alpha_sigma(t), schedule.prior_std(t)))
  signal, settles = alpha * spread / prior, sampler.order is None and not sampler.deterministic
  at = f"at t = {grid[0]:.4g}, where sampling starts,"
  still = f"x_t is {alpha[0]:.3g} x0 + {sigma[0]:.3g} eps {at} and is drawn as {prior[0]:.3g} eps"
  if signal[0] > MUCH and not settles:
    if signal[-1] > MUCH:
      remedy = "give it more steps, a larger beta_end or sigma_max, or zero_terminal"
      raise Unsuitable("schedule", f"with which {still}; {remedy}")
    raise Unsuitable(
      "grid", f"with which {still}; choose 'trailing' or 'uniform', which start at 1, or more steps"
    )
  trained = weights[0] > NONE * weights.max()
  if schedule.steps is not None and not trained:
    raise Unsuitable("weight", f"which is 0 {at} so that this row is never trained; choose 'simple' or 'edm'")
  warnings = (
    [f"{still}: what is left of the data there is missing in the samples."] if signal[0] > SOME else []
  )
  return (
    *warnings,
    *([] if trained else [f"the weight of the loss is 0 {at} so that nothing is trained there."]),
  )
