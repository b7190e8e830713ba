"""Held-out examples per band of log-SNR: in a band each has its own time, evenly spaced in log-SNR."""

from collections.abc import Mapping

import jax
import numpy as np

from diffjax.schedules import Schedule

EDGES = np.array([-9.0, -6.0, -3.0, 0.0, 3.0, 6.0, 9.0])
_time = jax.jit(lambda schedule, logsnr: schedule.t_of(logsnr))


def bands(schedule: Schedule, count: int) -> Mapping[str, np.ndarray]:
  """Times [count] of every band that the schedule reaches, by name; on a table they are rows."""
  high, low = schedule.ends
  cases = {}
  for start, end in zip(EDGES[:-1], EDGES[1:], strict=True):
    inside = np.clip([start, end], low, high)
    if inside[0] < inside[1]:
      logsnr = inside[0] + (inside[1] - inside[0]) * (np.arange(count) + 0.5) / count
      t = np.asarray(_time(schedule, logsnr.astype(np.float32)))
      if schedule.steps is not None:
        t = np.round(t * schedule.steps) / schedule.steps
      cases[f"logsnr_{start:g}_to_{end:g}"] = t.astype(np.float32)
  return cases
