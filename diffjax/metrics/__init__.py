"""Metrics of samples by name, called as METRICS[name](train, test, parallel, **options), with Sources; and PROBES of a
model itself, called as PROBES[name](model, train, test, parallel, **options).

The parts serve by themselves too:

    weights = load()                                                    # inception_weights.py
    extract = extractor(weights.variables, "pytorch")                   # inception.py
    out = extract(images)                                               # uint8 [N, H, W, C], any N
    moments = Moments.empty(POOL3).add(out.pool3)                       # moments.py; merge() across processes
    frechet_distance(moments, reference.gaussian)                       # frechet.py, reference.py
    kid(out.pool3, real), precision_recall(real, out.pool3)             # kid.py, manifold.py
"""

from collections.abc import Callable

from diffjax.metrics import (
  agreement,
  clip_score,
  fvd,
  ifid,
  moving_digits,
  perceptual,
  reconstruction,
  restoration,
  retrieval,
  scenes,
  zero_shot,
)
from diffjax.metrics.metric import Metric
from diffjax.metrics.probe import Probed
from diffjax.ranges import checked

METRICS: dict[str, Callable[..., Metric]] = checked(
  {
    "classifier": agreement.metric,
    "inception": perceptual.metric,
    "scenes": scenes.metric,
    "moving_digits": moving_digits.metric,
    "fvd": fvd.metric,
    "zero_shot": zero_shot.metric,
    "retrieval": retrieval.metric,
    "caption_retrieval": retrieval.of_samples,
    "clip_score": clip_score.metric,
    "restoration": restoration.metric,
  }
)
PROBES: dict[str, Callable[..., Probed]] = checked(
  {"reconstruction": reconstruction.probe, "ifid": ifid.probe}
)
