"""What results are called: by all that made them, so that none of other settings is overwritten."""

import hashlib
import json
from typing import Any

from diffjax.jobs.runs import Run


def digest(*what: Any) -> str:
  """A hash of plain data, 8 hexadecimal digits."""
  return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:8]


def name_of_samples(run: Run, step: int, weights: str) -> str:
  """The name of a draw: step, weights, seed, and a hash of how and what was asked for."""
  plain = run.experiment.plain
  how = digest(plain["sample"], plain.get("condition", {}), run.experiment.uses)
  return f"{step:08d}_{weights}_seed{run.config.sample.seed}_{how}"
