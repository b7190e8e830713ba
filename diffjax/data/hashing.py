"""Random numbers by name: the draw of any example without those before it, and of many examples at once."""

import numpy as np
from jaxtyping import Float


def hashed(*parts) -> np.ndarray:
  """Numbers in [0, 2^64) of integers or arrays of them: splitmix64 (Steele et al. 2014), folded over the parts."""
  state = np.zeros(np.broadcast_shapes(*(np.shape(part) for part in parts)), np.uint64)
  with np.errstate(over="ignore"):
    for part in parts:
      z = (state ^ np.asarray(part, np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
      z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
      z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
      state = z ^ (z >> np.uint64(31))
  return state


def uniform(*parts) -> Float[np.ndarray, "..."]:
  """Numbers in [0, 1) of the same, float64."""
  return (hashed(*parts) >> np.uint64(11)) / 2.0**53
