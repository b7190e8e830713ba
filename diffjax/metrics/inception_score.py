"""The Inception score, of the class layer's logits.

    IS = exp( mean over x of KL(p(y | x) || p(y)) ),    p(y) the mean of p(y | x)                     (1)

(Salimans et al. 2016, section 4.) The examples are cut into 10 parts, and the mean and the spread of (1)
over them are given. The logits are those without bias, as in the original code (inception.Features).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from diffjax.metrics.moments import as_features
from diffjax.types import ConfigError

PARTS = 10


class InceptionScore(NamedTuple):
  """A score between 1 and the number of classes.

  Attributes:
    value: the mean over the parts.
    std: the standard deviation over the parts, which papers write behind the plus-minus sign.
    splits: the number of parts.
  """

  value: float
  std: float
  splits: int


def inception_score(logits: ArrayLike, splits: int = PARTS, seed: int = 0) -> InceptionScore:
  """The score of logits [N, classes].

  Args:
    logits: natural logarithms of class probabilities, up to a constant per image.
    splits: the number of parts.
    seed: of the order in which examples are dealt to the parts; images sorted by class would else make
      parts of few classes.

  Raises:
    ConfigError: there are no logits (the weights lack the class layer), or fewer than parts.
  """
  if logits is None:
    raise ConfigError(
      "the Inception score needs the class layer, which these weights lack; use the .pth file of pytorch-fid."
    )
  logits = as_features(logits)
  if not 1 <= splits <= len(logits):
    raise ConfigError(f"the Inception score has {len(logits)} images for {splits} parts; each needs one.")
  order = np.random.Generator(np.random.Philox(seed)).permutation(len(logits))
  log_p = (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))[order]
  scores = [_score(part) for part in np.array_split(log_p, splits)]
  return InceptionScore(float(np.mean(scores)), float(np.std(scores)), splits)


def _score(log_p: np.ndarray) -> float:
  """Equation (1)."""
  log_mean = np.logaddexp.reduce(log_p, axis=0) - np.log(len(log_p))
  return np.exp(np.mean(np.sum(np.exp(log_p) * (log_p - log_mean), axis=1)))
