"""What samples are told from elsewhere: of a stage before, whose sample i is a condition of sample i, or of rows."""

from collections.abc import Mapping

import numpy as np

from diffjax.conditions.prompts import prompts_of
from diffjax.data.source import Field, Source
from diffjax.types import ConfigError, Trained


def stage(
  run: Trained,
  field: str,
  fields: Mapping[str, Field],
  index: np.ndarray,
  source: Source | None,
  request: str,
  again: int = 0,
) -> dict[str, np.ndarray]:
  """The request of samples `index` that the stage before makes: its samples' `field`, and their own request.

  What is no field of the data, as the small image of a stage before that, has "low_" before its name. `again` asks
  for the same once more: 1, 2, ... draw other samples.
  """
  prompts = prompts_of(request) if request else ()
  samples, theirs = run.can["sample"](run.params, index, source, prompts, again)
  others = {
    name if name in fields else f"low_{name}": values for name, values in theirs.items() if name != "index"
  }
  return others | {field: samples[field]}


def rows(
  field: str, fields: Mapping[str, Field], index: np.ndarray, source: Source | None
) -> dict[str, np.ndarray]:
  """The request of samples `index` that rows of the data make: their `field`, and what else the data say of them."""
  if source is None:
    raise ConfigError(f"the samples need rows of the data's field {field!r}, and there are no data.")
  others = [name for name, other in source.fields.items() if other.dtype != "uint8" and name in fields]
  return source.read(index % len(source), tuple({field: None, **dict.fromkeys(others)}))


def require_stage(
  run: Trained | str, field: str, shape: tuple[int, ...], fields: Mapping[str, Field]
) -> None:
  """Raises ConfigError if a run's samples have no such field of this shape, or it was trained on other data."""
  if not run:
    return
  shapes = run.can["shapes"](run.params)
  if shapes.get(field) != shape:
    listed = ", ".join(f"{name} {there}" for name, there in shapes.items())
    raise ConfigError(f"run is {run.place!r}, whose samples are {listed}; here they must be {field} {shape}.")
  for name, theirs in run.can["data"](run.params).items():
    ours = fields.get(name)
    about = lambda f: f and (f.shape, f.dtype, f.classes, f.tokenizer)
    if theirs.dtype != "uint8" and about(ours) != about(theirs):
      raise ConfigError(
        f"run is {run.place!r}, which was trained on other data: its {name!r} is not that of these."
      )
