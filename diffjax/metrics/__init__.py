"""Metrics of samples by name, called as METRICS[name](train source, test source, **options)."""

from collections.abc import Callable

from diffjax.metrics.agreement import classifier_agreement
from diffjax.metrics.metric import Metric
from diffjax.metrics.perceptual import inception

METRICS: dict[str, Callable[..., Metric]] = {
  "classifier": classifier_agreement,
  "inception": inception,
}
