"""What a probe is: figures of a trained model itself, where a metric judges its samples.

Called as PROBES[name](model, train, test, parallel, **options) with what was trained (types.Trained), the data and the
devices.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from diffjax.data.source import Source
from diffjax.machine.parallel import Parallel
from diffjax.metrics import inception_weights, lpips
from diffjax.metrics.classifier import train_classifier
from diffjax.metrics.inception import extractor
from diffjax.types import ConfigError, Trained

BATCH = 256


class Probed(NamedTuple):
  """What a probe found.

  Attributes:
    values: by name.
    settings: what they depend on besides the model.
  """

  values: dict[str, float]
  settings: dict[str, object]


def require(model: Trained, *capabilities: str) -> None:
  """Raises ConfigError unless the model can do all that."""
  for what in capabilities:
    if what not in model.can:
      raise ConfigError(f"needs a model that can {what}, which this one cannot; it is for autoencoders.")


def mapped(
  model: Trained, what: str, values: np.ndarray, parallel: Parallel, then: Callable = lambda x: x
) -> Any:
  """What the model makes of values [n, ...], in batches: arrays [n, ...]; `then` is done on the device."""
  size = parallel.padded(min(BATCH, len(values)))
  compiled = parallel.batched(lambda params, batch: _by_name(then(model.can[what](params, batch))))
  parts = []
  for start in range(0, len(values), size):
    rows = np.minimum(np.arange(start, start + size), len(values) - 1)
    parts.append(parallel.fetch(compiled(model.params, values[rows])))
  arrays = {name: np.concatenate([part[name] for part in parts])[: len(values)] for name in parts[0]}
  return arrays[""] if "" in arrays else arrays


def _by_name(output: Any) -> Mapping[str, Any]:
  return output if isinstance(output, Mapping) else {"": output}


def images(source: Source, count: int = 0, field: str = "image") -> np.ndarray:
  """The first images of a source, uint8 [n, H, W, C]; 0 for all."""
  return source.read(np.arange(min(count or len(source), len(source))), (field,))[field]


def _inception(train: Source, parallel: Parallel):
  weights = inception_weights.load()
  extract = extractor(weights.variables, parallel=parallel.local)
  return lambda x: extract(x).pool3, {"features": "inception", "weights": weights.digest[:16]}


def _classifier(train: Source, parallel: Parallel):
  classes = train.fields["label"].classes if "label" in train.fields else 0
  if not classes:
    raise ConfigError(
      "features is 'classifier', but the data carry no labels; choose 'inception' or 'alexnet'."
    )
  data = train.read(np.arange(len(train)), ("image", "label"))
  judge = train_classifier(data["image"], data["label"], classes)
  return judge.features, {"features": "classifier", "trained_on": train.fingerprint}


def _alexnet(train: Source, parallel: Parallel):
  weights = lpips.load("alexnet")
  model = Trained(
    "", {"features": lambda t, x: lpips.features(lpips.Weights("alexnet", t), x)}, weights.tensors, ""
  )
  about = {"features": "alexnet", "weights": lpips.PUBLISHED["alexnet"][:16]}
  return lambda x: mapped(model, "features", x, parallel), about


# Name -> (training data, devices) -> (images -> features [n, D], settings). Only distances in Inception's are FID.
FEATURES = {"inception": _inception, "alexnet": _alexnet, "classifier": _classifier}


def in_batches(values: np.ndarray, size: int = BATCH) -> Iterator[np.ndarray]:
  """Rows of at most `size`."""
  return (values[start : start + size] for start in range(0, len(values), size))
