"""The schedules that contract tests run over: every entry of SCHEDULES, and its tables, ends and shifts."""

import functools
import inspect

from diffjax.schedules import SCHEDULES, parameters, shifted

SHIFT = -2.0


def _variants():
  for name, make in SCHEDULES.items():
    options = inspect.signature(make).parameters
    yield name, make
    if "zero_terminal" in options:
      yield f"{name}-zero", functools.partial(make, zero_terminal=True)
    if "steps" in options and make().steps is None:
      yield f"{name}-table", functools.partial(make, steps=10)
    if parameters(make()) is None:
      yield f"{name}-shifted", lambda make=make: shifted(make(), SHIFT)


VARIANTS = dict(_variants())  # id -> () -> Schedule
UNSHIFTED = [name for name in VARIANTS if not name.endswith("-shifted")]
